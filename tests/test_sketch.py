"""The sketch against the pairwise closed form, which is slow, simple and right."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from shared.sketch import (
    Band,
    Characteristic,
    Sketch,
    characteristic_function,
    conditional_dependence,
    dependence,
    distance,
    draw_frequencies,
    kernel,
    plug_in_dependence,
    sketch,
)
from shared.statistics import small_together

BANDS = (Band(4, 0.3), Band(2, 0.8), Band(1, 1.0))


def one_hot(groups: Tensor, count: int) -> Tensor:
    return torch.nn.functional.one_hot(groups, count).double()


def points(seed: int, rows: int, groups: int = 3, shift: float = 0.5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    group = torch.arange(rows) % groups
    z = torch.randn(rows, 4, generator=generator, dtype=torch.double) + shift * group.unsqueeze(1)
    return z, one_hot(group, groups)


def pairwise_weights(membership: Tensor) -> Tensor:
    """Σ_c w_ic w_jc with w_ic = (1[i in c] - n_c/n) / n, for every pair (i, j)."""
    weights = (membership - membership.mean(0)) / len(membership)
    return weights @ weights.T


def gram(z: Tensor) -> Tensor:
    difference = z.unsqueeze(1) - z.unsqueeze(0)
    return kernel(difference, torch.zeros_like(difference))


def frequencies(count: int, seed: int = 0) -> Tensor:
    return draw_frequencies(count, 4, torch.Generator().manual_seed(seed)).double()


def test_plug_in_dependence_is_the_pairwise_closed_form_within_monte_carlo_error() -> None:
    z, membership = points(0, 60)
    exact = float((pairwise_weights(membership) * gram(z)).sum())
    draws = torch.stack([plug_in_dependence(sketch(z, membership, frequencies(200, seed))) for seed in range(100)])
    error = float(draws.std() / len(draws) ** 0.5)
    assert abs(float(draws.mean()) - exact) < 4.0 * error
    assert error < 0.05 * exact


def test_plug_in_dependence_with_posteriors_is_the_closed_form_of_their_expectation() -> None:
    z, membership = points(1, 40)
    variance = torch.rand(z.shape, generator=torch.Generator().manual_seed(2), dtype=torch.double)
    gram = kernel(z.unsqueeze(1) - z, variance.unsqueeze(1) + variance)
    # a record against itself is the same draw of t but two draws of z, as in the sketch
    exact = float((pairwise_weights(membership) * gram).sum())
    draws = torch.stack(
        [plug_in_dependence(sketch(z, membership, frequencies(200, seed), variance)) for seed in range(100)]
    )
    assert abs(float(draws.mean()) - exact) < 4.0 * float(draws.std()) / len(draws) ** 0.5


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_dependence_is_unbiased_over_many_batches(shift: float) -> None:
    population, members = points(3, 6_000, shift=shift)
    many = frequencies(400)
    truth = float(plug_in_dependence(sketch(population, members, many)))
    generator = torch.Generator().manual_seed(4)
    unbiased, plug_in = [], []
    for _ in range(600):
        chosen = torch.cat([3 * torch.randint(2_000, (8,), generator=generator) + group for group in range(3)])
        parts = sketch(population[chosen], members[chosen], many)
        unbiased.append(dependence(parts))
        plug_in.append(plug_in_dependence(parts))
    error = float(torch.stack(unbiased).std() / len(unbiased) ** 0.5)
    assert abs(float(torch.stack(unbiased).mean()) - truth) < 4.0 * error
    assert float(torch.stack(plug_in).mean()) - truth > 10.0 * error


def test_conditional_dependence_is_the_dependence_within_each_class_by_its_share() -> None:
    z, membership = points(0, 90)
    classes = one_hot(torch.arange(90) % 7 % 2, 2)
    cells = (classes.unsqueeze(2) * membership.unsqueeze(1)).flatten(1)
    drawn = frequencies(40)
    expected = sum(
        float(dependence(sketch(z[rows], membership[rows], drawn))) * len(z[rows]) / 90 for rows in classes.bool().T
    )
    assert float(conditional_dependence(sketch(z, cells, drawn), 2)) == pytest.approx(expected, rel=1e-5)


def test_dependence_of_independent_points_is_far_below_that_of_dependent_ones() -> None:
    many = frequencies(500)
    independent = float(dependence(sketch(*points(5, 3_000, shift=0.0), many)))
    dependent = float(dependence(sketch(*points(5, 3_000, shift=0.5), many)))
    assert abs(independent) < 0.02 * dependent


def test_gradient_of_the_penalty_is_that_of_the_pairwise_form() -> None:
    z, membership = points(6, 30)
    z.requires_grad_()
    (pairwise_weights(membership) * gram(z)).sum().backward()
    assert z.grad is not None
    exact = z.grad.clone()
    z.grad = None
    plug_in_dependence(sketch(z, membership, frequencies(200_000))).backward()
    assert torch.nn.functional.cosine_similarity(exact.flatten(), z.grad.flatten(), dim=0) > 0.999


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(2, 50), cut=st.integers(1, 49))
def test_sketch_of_two_parts_adds_up_to_the_sketch_of_the_whole(seed: int, rows: int, cut: int) -> None:
    z, membership = points(seed, rows)
    cut = min(cut, rows - 1)
    many = frequencies(16)
    whole = sketch(z, membership, many)
    parts = sketch(z[:cut], membership[:cut], many) + sketch(z[cut:], membership[cut:], many)
    for name, value in vars(whole).items():
        torch.testing.assert_close(getattr(parts, name), value)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_one_record_moves_the_sums_by_exactly_the_root_of_m(seed: int) -> None:
    z, membership = points(seed, 1)
    parts = sketch(z, membership, frequencies(64))
    moved = torch.cat([parts.cosine, parts.sine]).norm()
    assert float(moved) == pytest.approx(64**0.5)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), rows=st.integers(1, 40))
def test_a_characteristic_function_never_exceeds_one(seed: int, rows: int) -> None:
    real, imaginary = sketch(*points(seed, rows), frequencies(32)).characteristic_function()
    assert float((real.square() + imaginary.square()).max()) <= 1.0 + 1e-9


def of_one_group(parts: Sketch) -> Characteristic:
    real, imaginary = parts.characteristic_function()
    return real[0], imaginary[0]


def test_a_characteristic_function_of_one_group_and_its_gradient_are_those_of_its_sketch_to_the_last_bit() -> None:
    generator = torch.Generator().manual_seed(0)
    many, reference = draw_frequencies(64, 4, generator), torch.rand(2, 64, generator=generator)
    found = []
    for of_rows in (
        lambda mean, variance: of_one_group(sketch(mean, torch.ones(len(mean), 1), many, variance)),
        lambda mean, variance: characteristic_function(mean, variance, many),
    ):
        generator.manual_seed(1)
        mean = torch.randn(500, 4, generator=generator).requires_grad_()
        variance = torch.rand(500, 4, generator=generator).requires_grad_()
        real, imaginary = of_rows(mean, variance)
        ((real - reference[0]).square() + (imaginary - reference[1]).square()).mean().backward()
        found.append((real.detach(), imaginary.detach(), mean.grad, variance.grad))
    for of_sketch, of_rows_alone in zip(*found, strict=True):
        assert of_sketch is not None
        assert of_rows_alone is not None
        assert torch.equal(of_sketch, of_rows_alone)


def test_distance_is_zero_in_expectation_for_equal_distributions_and_positive_otherwise() -> None:
    many = frequencies(300)
    reference, ones = points(7, 20_000, groups=1, shift=0.0)
    truth = of_one_group(sketch(reference, ones, many))

    def estimates(shift: float) -> Tensor:
        found = []
        for seed in range(60):
            first, second = (
                of_one_group(sketch(points(1_000 + 2 * seed + half, 200, groups=1)[0] + shift, ones[:200], many))
                for half in range(2)
            )
            found.append(distance(first, second, truth))
        return torch.stack(found)

    same, other = estimates(0.0), estimates(0.5)
    assert abs(float(same.mean())) < 4.0 * float(same.std()) / len(same) ** 0.5 + 1e-4
    assert float(other.mean()) > 20.0 * abs(float(same.mean()))


@pytest.mark.parametrize(
    ("sizes", "together"), [((5, 120, 300), {0, 1}), ((5, 20, 300), {0, 1, 2}), ((150, 120, 300), set())]
)
def test_small_groups_are_sketched_together_and_the_mean_over_all_stays(
    sizes: tuple[int, ...], together: set[int]
) -> None:
    generator = torch.Generator().manual_seed(0)
    membership = torch.nn.functional.one_hot(torch.repeat_interleave(torch.arange(3), torch.tensor(sizes)))
    mean = torch.randn(sum(sizes), 4, generator=generator) + membership[:, :1]
    parts = sketch(mean, membership, draw_frequencies(64, 4, generator=generator))
    (own, _), (found, _) = parts.characteristic_function(), small_together(parts, 100)
    shares = torch.tensor(sizes) / sum(sizes)
    torch.testing.assert_close(shares @ found, shares @ own)
    for group in range(3):
        assert torch.equal(found[group], own[group]) is (group not in together)
        assert torch.equal(found[group], found[min(together)]) is (group in together) if together else True
