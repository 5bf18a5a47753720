"""The student beats the prior and the Gaussian of the same moments on frequencies it was not trained on."""

import json
import math
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import pandas as pd
import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load, save
from threadpoolctl import threadpool_info, threadpool_limits
from torch import Tensor

from data_owner.learning.teacher import TeacherSettings, architecture_for
from protocol.artefacts import TRAINED, Artefact
from shared import generation, student
from shared.architecture import Architecture
from shared.decoder import Decoder
from shared.errors import BadInput, VerificationFailure
from shared.generation import Synthesiser, parse_release
from shared.limits import LIMITS
from shared.schema import CategoricalColumn, ColumnRole, Group, NumericColumn, Quantiles, Schema
from shared.sketch import Characteristic, distance
from shared.statistics import FORMAT, FREQUENCIES, LEAST_SKETCHED, LatentStatistics, measure
from shared.strata import Strata
from shared.student import LAST_SEED, Distilled, Student, StudentSettings, distil


def five_modes(rows: int = 20_000, dimensions: int = 4) -> LatentStatistics:
    """Latents in five tight clusters: as far from a Gaussian as an aggregate posterior gets."""
    generator = torch.Generator().manual_seed(0)
    centres = 3.0 * torch.randn(5, dimensions, generator=generator)
    chosen = torch.randint(5, (rows,), generator=generator)
    mean = centres[chosen] + 0.2 * torch.randn(rows, dimensions, generator=generator)
    groups = torch.nn.functional.one_hot(torch.randint(2, (rows,), generator=generator), 2)
    return measure(mean, torch.full_like(mean, 0.02), groups, torch.ones(rows, 1), seed=0)


HALVES = torch.tensor([0.5, 0.5])


@pytest.fixture(scope="module")
def timed() -> tuple[Distilled, float]:
    """A student, and the seconds of processor time of all threads that it took."""
    statistics, start = five_modes(), time.process_time()
    return distil(statistics, HALVES, StudentSettings()), time.process_time() - start


@pytest.fixture(scope="module")
def distilled(timed: tuple[Distilled, float]) -> Distilled:
    return timed[0]


def test_distillation_is_a_matter_of_seconds(timed: tuple[Distilled, float]) -> None:
    """With room for a busy machine: it catches a change of order, not noise."""
    assert timed[1] < 60.0


def test_the_student_beats_prior_and_gaussian_on_held_out_frequencies(distilled: Distilled) -> None:
    found = distilled.distillation
    assert found.distance < 0.5 * found.gaussian_distance
    assert found.distance < 0.1 * found.prior_distance


def test_a_student_that_is_further_than_the_prior_has_failed_and_only_chance_or_next_to_nothing_is_forgiven(
    distilled: Distilled,
) -> None:
    found = distilled.distillation
    assert not found.has_failed
    assert 0.0 < found.standard_error < 0.1 * found.distance

    def failed(distance: float, standard_error: float) -> bool:
        """Where z is next to a Gaussian, of 50,000 records."""
        change = {"distance": distance, "gaussian_distance": 2e-6, "prior_distance": 1e-5}
        return found.model_copy(update={**change, "standard_error": standard_error}).has_failed

    assert failed(6e-5, 3e-6)
    assert not failed(1.2e-5, 4e-6), "as near as training comes"
    assert found.model_copy(update={"prior_distance": 0.5 * found.distance}).has_failed


def test_distilling_is_repeatable_by_seed_and_different_by_another() -> None:
    settings = StudentSettings(steps=60)
    statistics = five_modes(500)
    first, second = (distil(statistics, HALVES, settings).student.to_bytes({}) for _ in range(2))
    assert first == second
    assert distil(statistics, HALVES, StudentSettings(steps=60, seed=1)).student.to_bytes({}) != first


def test_distillation_reports_a_live_loss() -> None:
    seen: list[tuple[int, int, str]] = []
    distil(five_modes(500), HALVES, StudentSettings(steps=100), lambda *update: seen.append(update))
    assert [update[0] for update in seen] == [50, 100]
    assert all("distance" in update[2] for update in seen)


def test_the_frequencies_that_a_student_is_judged_by_are_not_those_it_was_trained_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained_on: set[float] = set()
    judged_by: set[float] = set()

    def noting(first: Characteristic, second: Characteristic, reference: Characteristic) -> Tensor:
        (trained_on if first[0].requires_grad else judged_by).update(reference[0].tolist())
        return distance(first, second, reference)

    monkeypatch.setattr(student, "distance", noting)
    distil(five_modes(500), HALVES, StudentSettings(steps=50))
    assert len(judged_by) == FREQUENCIES // 4
    assert len(trained_on) == FREQUENCIES - len(judged_by)
    assert not trained_on & judged_by


def test_the_noise_by_which_a_student_is_scored_is_not_that_by_which_its_best_step_was_chosen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seeds: list[int] = []
    held_out = student._held_out

    def noting(judged: Student, frequencies: Tensor, target: Characteristic, noise: torch.Generator) -> float:
        seeds.append(noise.initial_seed())
        return held_out(judged, frequencies, target, noise)

    monkeypatch.setattr(student, "_held_out", noting)
    distil(five_modes(500), HALVES, StudentSettings(steps=100))
    chosen_by, scored_by = seeds[:2], seeds[2:]
    assert len(scored_by) == student.REPEATS
    assert set(chosen_by).isdisjoint(scored_by)


def test_a_student_is_distilled_by_one_thread_however_many_there_are() -> None:
    seen: list[int] = []
    settings, before = StudentSettings(steps=50), torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        distil(five_modes(500), HALVES, settings, lambda *update: seen.append(torch.get_num_threads()))
        assert (seen, torch.get_num_threads()) == ([1], 2)
    finally:
        torch.set_num_threads(before)


def test_drawn_latents_have_the_released_moments(distilled: Distilled) -> None:
    statistics = five_modes()
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        drawn = statistics.strata.unwhiten(distilled.student.draw(50_000, generator), generator)
    scale = statistics.strata.covariance[0].diagonal().sqrt()
    assert float(((drawn.mean(0) - statistics.strata.mean[0]) / scale).abs().max()) < 0.1
    assert float((drawn.std(0) / scale - 1.0).abs().max()) < 0.15


def test_statistics_are_those_of_the_posteriors() -> None:
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(4000, 3, generator=generator), torch.rand(4000, 3, generator=generator)
    groups = torch.nn.functional.one_hot(torch.arange(4000) % 2, 2)
    classes = torch.nn.functional.one_hot(torch.arange(4000) % 3 // 2, 2)
    mean = mean + 2.0 * classes[:, :1]
    found = measure(mean, variance, groups, classes, seed=0)
    strata, of = found.strata, classes.argmax(1).repeat(50)
    drawn = mean.repeat(50, 1) + variance.repeat(50, 1).sqrt() * torch.randn(200_000, 3, generator=generator)
    whitened = torch.empty_like(drawn)
    for index in (0, 1):
        own = drawn[of == index]
        torch.testing.assert_close(strata.covariance[index], torch.cov(own.T), atol=0.02, rtol=0.02)
        torch.testing.assert_close(strata.mean[index], own.mean(0), atol=0.01, rtol=0.01)
        centred = (own - strata.mean[index]).T
        whitened[of == index] = torch.linalg.solve_triangular(strata.factor()[index], centred, upper=False).T
    torch.testing.assert_close(strata.shares, classes.float().mean(0))
    phase = whitened @ found.frequencies[:20].T
    torch.testing.assert_close(found.pooled(HALVES)[0][:20], torch.cos(phase).mean(0), atol=0.01, rtol=0.0)
    torch.testing.assert_close(found.pooled(HALVES)[1][:20], torch.sin(phase).mean(0), atol=0.01, rtol=0.0)


def test_one_extreme_record_is_clipped() -> None:
    mean = torch.zeros(1000, 4)
    mean[0] = 1e6
    found = measure(
        mean + 0.01 * torch.randn(1000, 4), torch.ones(1000, 4), torch.ones(1000, 1), torch.ones(1000, 1), seed=0
    )
    assert float(found.strata.mean.abs().max()) <= 4.0 * math.sqrt(4) / 1000 + 0.01


def test_a_class_without_a_record_is_never_drawn() -> None:
    classes = torch.nn.functional.one_hot(torch.zeros(500, dtype=torch.int64), 2)
    found = measure(torch.randn(500, 3), torch.ones(500, 3), torch.ones(500, 1), classes, seed=0)
    strata = LatentStatistics.from_bytes(found.to_bytes(), latent=3, groups=1, classes=2).strata
    assert strata.shares.tolist() == [1.0, 0.0]
    nowhere = Strata(strata.shares, strata.mean + torch.tensor([[0.0], [math.nan]]), strata.covariance)
    assert bool(torch.isfinite(nowhere.unwhiten(torch.randn(10_000, 3), torch.Generator().manual_seed(0))).all())


@pytest.mark.parametrize("records", [0, 1, 9])
def test_moments_of_a_few_records_are_not_released(records: int) -> None:
    generator = torch.Generator().manual_seed(0)
    mean, variance = torch.randn(500, 3, generator=generator), torch.rand(500, 3, generator=generator)
    mean[:records] += 3.0
    classes = torch.nn.functional.one_hot((torch.arange(500) < records).long(), 2)
    strata = measure(mean, variance, torch.ones(500, 1), classes, seed=0).strata
    everyone = measure(mean, variance, torch.ones(500, 1), torch.ones(500, 1), seed=0).strata
    torch.testing.assert_close(strata.mean[1], everyone.mean[0])
    torch.testing.assert_close(strata.covariance[1], everyone.covariance[0])


def test_groups_too_small_for_a_sketch_of_their_own_share_one() -> None:
    least, generator = LEAST_SKETCHED // 8, torch.Generator().manual_seed(0)
    sizes = torch.tensor([least - 1, least - 1, least])
    groups = torch.nn.functional.one_hot(torch.repeat_interleave(torch.arange(3), sizes))
    mean = torch.randn(len(groups), 8, generator=generator) + groups[:, :1]
    found = measure(mean, torch.full_like(mean, 0.1), groups, torch.ones(len(mean), 1), seed=0)
    assert torch.equal(found.real[0], found.real[1])
    assert not torch.equal(found.real[0], found.real[2])


def test_the_density_of_latents_is_that_of_what_is_drawn() -> None:
    """The oracle: the share of draws in a small ball, where two classes overlap."""
    apart = torch.tensor([[0.0, 0.0], [1.5, 0.5]])
    strata = Strata(torch.tensor([0.3, 0.7]), apart, torch.stack([torch.eye(2), 0.5 * torch.eye(2)]))
    generator = torch.Generator().manual_seed(0)
    drawn = strata.unwhiten(torch.randn(400_000, 2, generator=generator), generator)
    torch.testing.assert_close(torch.cov(drawn.T), strata.pooled_covariance(), atol=0.01, rtol=0.0)
    for place in torch.tensor([[0.0, 0.0], [1.0, 0.3], [2.0, 1.0]]):
        inside = ((drawn - place).norm(dim=1) < 0.15).float().mean() / (math.pi * 0.15**2)
        assert float(strata.log_density(place[None]).exp()) == pytest.approx(float(inside), rel=0.06)


def edits(artefacts: dict[Artefact, bytes]) -> list[bytes]:
    good = artefacts[Artefact.STATISTICS]
    bad = bytearray(good)
    bad[-4:] = b"\x00\x00\xc0\x7f"  # a NaN
    return [b"", good[:-1], good + b"\0", bytes(bad), artefacts[Artefact.DECODER], b"\xff" * 64, b"\0" * 8]


BEYOND: dict[str, tuple[str, Callable[[Tensor], Tensor]]] = {
    "a frequency is beyond the limit": ("frequencies", lambda value: value * 3e37),
    "shares of the classes": ("class_shares", lambda value: value * 1.1),
    "do not add up": ("class_shares", lambda value: value + torch.tensor([1.0, -1.0])),
    "characteristic function is larger": ("imaginary", torch.ones_like),
    "not positive definite": ("class_covariance", torch.neg),
}


@pytest.mark.parametrize("problem", BEYOND)
def test_statistics_that_no_latents_have_are_refused(artefacts: dict[Artefact, bytes], problem: str) -> None:
    name, change = BEYOND[problem]
    good = load(artefacts[Artefact.STATISTICS])
    data = save(good | {name: change(good[name])}, metadata={"format": FORMAT})
    with pytest.raises(VerificationFailure, match=problem):
        LatentStatistics.from_bytes(data, good["frequencies"].shape[1], 3, 2)


def test_statistics_and_decoders_that_are_not_are_refused(artefacts: dict[Artefact, bytes]) -> None:
    schema = Schema.from_bytes(artefacts[Artefact.SCHEMA])
    latent = Decoder.from_bytes(artefacts[Artefact.DECODER], schema).architecture.latent
    assert LatentStatistics.from_bytes(artefacts[Artefact.STATISTICS], latent, 3, 2).frequencies.shape == (
        FREQUENCIES,
        latent,
    )
    for data in edits(artefacts):
        with pytest.raises(VerificationFailure):
            LatentStatistics.from_bytes(data, latent, 3, 2)
    for data in (artefacts[Artefact.STATISTICS], b"", artefacts[Artefact.DECODER][:-4], b"\xff" * 64):
        with pytest.raises(VerificationFailure):
            Decoder.from_bytes(data, schema)
        with pytest.raises(VerificationFailure):
            Student.from_bytes(data, latent)


def test_a_release_whose_decoder_could_not_make_the_schema_s_columns_is_refused(
    artefacts: dict[Artefact, bytes],
) -> None:
    small = Architecture(latent=1, groups=3, classes=2, outputs=1, hidden=(LIMITS.layer_width,), head=(1,))
    decoder = save({}, metadata={"architecture": small.model_dump_json()})
    content = json.loads(artefacts[Artefact.SCHEMA])
    (ward,) = (column for column in content["columns"] if column["name"] == "ward")
    ward["categories"] = [str(number) for number in range(LIMITS.categories)]
    with pytest.raises(VerificationFailure, match="does not fit"):
        parse_release(json.dumps(content).encode(), decoder, artefacts[Artefact.STATISTICS])


@pytest.mark.parametrize("part", ["body", "head"])
def test_a_release_whose_values_are_finite_and_whose_rows_are_not_makes_none(
    artefacts: dict[Artefact, bytes], part: str
) -> None:
    schema, decoder, _ = parse_release(*(artefacts[kind] for kind in TRAINED))
    deep = Decoder(Architecture.for_schema(schema, decoder.architecture.latent, (64,) * 8, (64,) * 8))
    with torch.no_grad():
        for name, value in deep.named_parameters():
            value.fill_(6e4 if name.startswith(part) else 0.0)
    with pytest.raises(VerificationFailure, match="not finite"):
        make(artefacts | {Artefact.DECODER: deep.to_bytes()}).table(0, 10)


def test_a_schema_is_held_to_the_limit_of_sensitive_categories(artefacts: dict[Artefact, bytes]) -> None:
    content = json.loads(artefacts[Artefact.SCHEMA])
    (sensitive,) = (column for column in content["columns"] if column["role"] == "sensitive")
    names = [*sensitive["categories"], *map(str, range(LIMITS.categories - len(sensitive["categories"])))]
    others = LIMITS.table_outputs // LIMITS.categories
    content["columns"] += [sensitive | {"name": f"other {number}", "categories": names} for number in range(others)]
    for group in content["groups"]:
        group["values"] += group["values"] * others
    Schema.from_bytes(json.dumps(content).encode())
    sensitive["categories"] = names
    with pytest.raises(BadInput, match="more categories than the limit"):
        Schema.from_bytes(json.dumps(content).encode())


@pytest.mark.parametrize("classes", [1, LIMITS.classes + 1])
def test_a_schema_of_a_target_that_no_decoder_has_is_refused(artefacts: dict[Artefact, bytes], classes: int) -> None:
    content = json.loads(artefacts[Artefact.SCHEMA])
    (target,) = (column for column in content["columns"] if column["role"] == "target")
    target["categories"] = [str(number) for number in range(1, classes + 1)]
    with pytest.raises(BadInput, match="classes"):
        parse_release(json.dumps(content).encode(), artefacts[Artefact.DECODER], artefacts[Artefact.STATISTICS])


def test_a_decoder_of_another_schema_is_refused(artefacts: dict[Artefact, bytes]) -> None:
    schema = Schema.from_bytes(artefacts[Artefact.SCHEMA])
    fewer = Schema(
        columns=tuple(column for column in schema.columns if column.name != "ward"),
        positive=schema.positive,
        groups=schema.groups,
    )
    with pytest.raises(VerificationFailure, match="does not fit"):
        Decoder.from_bytes(artefacts[Artefact.DECODER], fewer)


def test_the_decoder_holds_its_body_and_a_head_that_reads_z_alone(artefacts: dict[Artefact, bytes]) -> None:
    schema = Schema.from_bytes(artefacts[Artefact.SCHEMA])
    decoder = Decoder.from_bytes(artefacts[Artefact.DECODER], schema)
    assert {name.split(".")[0] for name in decoder.state_dict()} == {"body", "head"}
    first: Tensor = decoder.head[0].weight  # type: ignore[assignment, union-attr]
    assert first.shape[1] == decoder.architecture.latent
    assert sum(value.numel() for value in decoder.state_dict().values()) == decoder.architecture.parameters


def test_generation_is_repeatable_and_divisible_by_shard(
    artefacts: dict[Artefact, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    synthesiser = make(artefacts)
    monkeypatch.setattr(generation, "LIMITS", generation.LIMITS.__class__(block_rows=64))
    whole = synthesiser.table(5, 333)
    pd.testing.assert_frame_equal(whole, synthesiser.table(5, 333))
    assert not whole.equals(synthesiser.table(6, 333))
    assert not whole[:64].equals(whole[64:128].reset_index(drop=True))
    for shards in (1, 3, 16, 333):
        bounds = [generation.shard_bounds(333, shard, shards) for shard in range(1, shards + 1)]
        assert bounds[0][0] == 0
        assert bounds[-1][1] == 333
        assert all(before[1] == after[0] for before, after in pairwise(bounds))
        parts = [part for start, stop in bounds[:20] for part in synthesiser.rows(5, start, stop)]
        together = pd.concat(parts, ignore_index=True)
        pd.testing.assert_frame_equal(together, whole.iloc[: len(together)])


def test_rows_are_the_same_to_the_last_bit_however_many_threads_there_are() -> None:
    ends = Quantiles(ranks=(0.0, 1.0), values=(0.0, 1.0))
    numbers = (
        NumericColumn(name=name, kind="number", dtype="float64", optional=False, quantiles=ends, decimals=17)
        for name in "abcdefghijkl"
    )
    sensitive, target = (
        CategoricalColumn(name=role, kind="category", dtype="str", role=role, optional=False, categories=("0", "1"))
        for role in (ColumnRole.SENSITIVE, ColumnRole.TARGET)
    )
    halves = tuple(Group(values=(name,), share=0.5) for name in ("0", "1"))
    schema = Schema(columns=(*numbers, sensitive, target), positive="1", groups=halves)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        decoder = Decoder(architecture_for(schema, TeacherSettings())).eval()
        latents = LatentStatistics(
            Strata(HALVES, torch.zeros(2, 16), torch.eye(16).repeat(2, 1, 1)),
            torch.zeros(FREQUENCIES, 16),
            *torch.zeros(2, 2, FREQUENCIES),
        )
        synthesiser = Synthesiser(schema, decoder, latents, Student(16).eval())
    made, before = [], torch.get_num_threads()
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            made.append(synthesiser.table(0, LIMITS.block_rows))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert made[0].equals(made[1])


def test_runs_that_overlap_leave_torch_as_many_threads_as_there_were(artefacts: dict[Artefact, bytes]) -> None:
    synthesiser, before = make(artefacts), torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        first = synthesiser.rows(0, 0, 9)
        next(first)
        with ThreadPoolExecutor(1) as beside:
            second = beside.submit(synthesiser.rows, 0, 0, 9).result()
            beside.submit(next, second).result()
            first.close()
            beside.submit(second.close).result()
            assert beside.submit(torch.get_num_threads).result() == 3
        with ThreadPoolExecutor(1) as fresh:
            assert fresh.submit(torch.get_num_threads).result() == torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)


def test_distilling_and_reading_a_student_change_nothing_that_the_process_shares() -> None:
    def shared() -> list[int]:
        return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]

    seen: list[list[int]] = []
    with threadpool_limits(2, user_api="blas"):
        state = torch.get_rng_state()
        found = distil(five_modes(500), HALVES, StudentSettings(steps=50), lambda *update: seen.append(shared()))
        assert seen == [shared()]
    Student.from_bytes(found.student.to_bytes({}), latent=4)
    assert torch.equal(torch.get_rng_state(), state)


def test_a_decoder_of_a_table_is_held_to_the_limit_of_outputs() -> None:
    small = {"latent": 1, "groups": 2, "classes": 2, "hidden": (1,), "head": (1,)}
    Architecture.model_validate({**small, "outputs": LIMITS.table_outputs})
    with pytest.raises(ValidationError):
        Architecture.model_validate({**small, "outputs": LIMITS.table_outputs + 1})


def test_the_last_seed_that_the_consumer_takes_can_be_distilled() -> None:
    distil(five_modes(500), HALVES, StudentSettings(steps=1, seed=LAST_SEED))


def make(artefacts: dict[Artefact, bytes]) -> Synthesiser:
    schema, decoder, statistics = parse_release(*(artefacts[kind] for kind in TRAINED))
    return Synthesiser(schema, decoder, statistics, Student(statistics.latent).eval())


def test_generated_groups_and_labels_are_independent_and_in_their_shares(artefacts: dict[Artefact, bytes]) -> None:
    synthesiser = make(artefacts)
    table = synthesiser.table(0, 60_000)
    shares = table["région"].value_counts(normalize=True)
    for group in synthesiser.schema.groups:
        assert shares[group.values[0]] == pytest.approx(group.share, abs=0.01)
    rates = table.groupby("région")["died"].apply(lambda labels: (labels == "1").mean())
    assert rates.max() - rates.min() < 0.02


def test_balanced_rows_are_halfway_to_equal_groups_and_change_nobodys_outcome(artefacts: dict[Artefact, bytes]) -> None:
    synthesiser = make(artefacts)
    recorded, balanced = (synthesiser.table(0, 60_000, balanced=each) for each in (False, True))
    shares = balanced["région"].value_counts(normalize=True)
    groups = synthesiser.schema.groups
    for group in groups:
        assert shares[group.values[0]] == pytest.approx((group.share + 1.0 / len(groups)) / 2.0, abs=0.01)
    pd.testing.assert_series_equal(balanced["died"], recorded["died"])
    rates = balanced.groupby("région")["died"].apply(lambda labels: (labels == "1").mean())
    assert rates.max() - rates.min() < 0.02
