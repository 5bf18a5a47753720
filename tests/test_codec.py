"""Tables to tensors and back: what must come back exactly, and what in distribution."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from data_owner.records.disclosure import disclose, quantile_table
from data_owner.records.ingest import ingest
from data_owner.settings import ColumnSettings
from shared import logistic
from shared.codec import Layout, decode, dense, encode, rank_interval, sample, sample_level
from shared.errors import BadInput
from shared.schema import Schema
from tests.conftest import patients, settings_for

Disclosed = tuple[Schema, pd.DataFrame]


def test_encoding_keeps_every_category_group_and_gap(disclosed: Disclosed) -> None:
    schema, table = disclosed
    encoded, layout = encode(schema, table), Layout(schema)
    for index, column in enumerate(layout.numeric):
        assert (encoded.absent[:, index].numpy() == table[column.name].isna().to_numpy()).all()
    for index, category in enumerate(layout.categorical):
        names = np.array([*category.categories, None], dtype=object)[encoded.levels[:, index].numpy()]
        assert [value if value is not None else None for value in names] == [
            None if pd.isna(value) else value for value in table[category.name]
        ]
    labels = [schema.groups[index].values[0] for index in encoded.group.tolist()]
    assert labels == table["région"].tolist()
    assert dense(layout, encoded).shape == (len(table), layout.inputs)


def test_a_decoder_that_is_certain_gives_the_table_back(disclosed: Disclosed) -> None:
    """Outputs that put all mass on each record's own interval decode to its own values, or their neighbours'."""
    schema, table = disclosed
    encoded, layout = encode(schema, table), Layout(schema)
    outputs = torch.full((len(table), layout.width), -30.0)
    mixtures, absent, levels = layout.split(outputs)  # views of them
    mixtures[:, :, 0] = 0.0
    mixtures[:, :, 1] = encoded.score.unsqueeze(2)
    mixtures[:, :, 2] = -20.0
    absent += 60.0 * encoded.absent[:, list(layout.optional)]
    for index, logits in enumerate(levels):
        logits[torch.arange(len(table)), encoded.levels[:, index]] = 30.0
    drawn = sample(layout, outputs, None, torch.Generator().manual_seed(0))
    back = decode(schema, drawn, encoded.target, encoded.group)
    assert back.columns.tolist() == table.columns.tolist()
    for column in schema.columns:
        if column.kind in ("category", "boolean"):
            pd.testing.assert_series_equal(back[column.name], table[column.name], check_dtype=False, check_names=False)
        else:
            assert back[column.name].isna().equals(table[column.name].isna())
            span = column.quantiles.values[-1] - column.quantiles.values[0]
            middle = table[column.name].between(column.quantiles.values[0], column.quantiles.values[-1])
            gap = (back[column.name] - table[column.name])[middle].abs().max()
            assert gap <= 0.06 * span


def test_zeros_come_back_as_zeros_in_their_own_share(disclosed: Disclosed) -> None:
    schema, table = disclosed
    (column,) = (column for column in Layout(schema).numeric if column.name == "days in ward")
    ranks = np.random.default_rng(0).random(200_000)
    decoded = np.interp(ranks, column.quantiles.ranks, column.quantiles.values)
    assert (decoded == 0.0).mean() == pytest.approx((table["days in ward"] == 0.0).mean(), abs=0.01)


@settings(max_examples=60, deadline=None)
@given(
    arrays.arrays(
        np.float64,
        st.integers(60, 400),
        elements=st.one_of(st.integers(-5, 5).map(float), st.floats(-1e6, 1e6).map(lambda value: round(value, 3))),
    )
)
def test_every_atom_of_a_quantile_table_decodes_from_its_whole_interval(values: np.ndarray) -> None:
    table = quantile_table(values, 10, 3, None, beyond=10)
    points = np.asarray(table.values)
    atoms = np.unique(points[:-1][points[:-1] == points[1:]])
    low, high = rank_interval(table, atoms)
    for share in (0.01, 0.5, 0.99):
        # ranks are published to four places, so the very ends are left out
        ranks = low + 1e-3 * (high - low) + share * 0.998 * (high - low)
        wide = high - low > 0.004
        np.testing.assert_allclose(np.interp(ranks, table.ranks, table.values)[wide], atoms[wide], atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=50))
def test_rank_intervals_are_ordered_and_inside_zero_and_one(values: list[float]) -> None:
    table = quantile_table(np.linspace(-3.0, 3.0, 500), 10, 3, None, beyond=10)
    low, high = rank_interval(table, np.asarray(values))
    assert (low < high).all()
    assert (low >= -1e-12).all()
    assert (high <= 1.0 + 1e-12).all()


@pytest.mark.parametrize(
    ("amounts", "declared"),
    [
        (np.array([0.1, 0.7, 5.0]).astype("float32"), None),
        (np.array([70, 100, 150]) / 18.0182, None),
        (np.array([1.0, 3.0, 7.0]) * 0.1, None),
        (np.array([36.62, 37.48, 38.11]), 1),
    ],
    ids=["in single precision", "when it was converted", "when it was computed", "kept to fewer decimals"],
)
def test_a_value_that_many_share_owns_its_ranks(amounts: np.ndarray, declared: int | None) -> None:
    which = np.random.default_rng(0).choice(3, 600, p=[0.6, 0.3, 0.1])
    table = patients().assign(lactate=amounts[which])
    settings = settings_for(table)
    settings.columns["lactate"] = ColumnSettings(kind="number", decimals=declared)
    schema, canonical = disclose(ingest(table, settings), 10)
    (column,) = (column for column in Layout(schema).numeric if column.name == "lactate")
    low, high = rank_interval(column.quantiles, canonical["lactate"].to_numpy())
    for index, amount in enumerate(amounts):
        share = (which == index).mean()
        assert high[which == index] - low[which == index] == pytest.approx(share, abs=0.02)
        middle = (low + high)[which == index] / 2
        decoded = np.interp(middle, column.quantiles.ranks, column.quantiles.values).round(column.decimals)
        assert decoded == pytest.approx(float(amount), abs=1e-6 if declared is None else 0.05)


def test_an_unknown_category_is_refused_by_column_name_without_its_value(disclosed: Disclosed) -> None:
    schema, table = disclosed
    bad = table.assign(ward=table["ward"].mask(table.index == 3, "secret-4711"))
    with pytest.raises(BadInput) as caught:
        encode(schema, bad)
    assert caught.value.field == "ward"
    assert "4711" not in str(caught.value)


def test_log_mass_agrees_with_the_distribution_functions_difference() -> None:
    generator = torch.Generator().manual_seed(0)
    parameters = torch.randn(50, 4, 3, logistic.COMPONENTS, generator=generator, dtype=torch.double)
    low = torch.randn(50, 4, generator=generator, dtype=torch.double)
    high = low + torch.rand(50, 4, generator=generator, dtype=torch.double) + 0.01
    weights, means, scales = parameters.unbind(2)

    def cumulative(at: torch.Tensor) -> torch.Tensor:
        each = torch.sigmoid((at.unsqueeze(2) - means) / scales.clamp(-5, 2).exp())
        return (torch.softmax(weights, 2) * each).sum(2)

    expected = torch.log(cumulative(high) - cumulative(low))
    torch.testing.assert_close(logistic.log_mass(parameters, low, high), expected, rtol=1e-6, atol=1e-6)


def test_log_mass_of_everything_is_zero_and_its_gradient_finite() -> None:
    parameters = torch.randn(10, 2, 3, logistic.COMPONENTS, requires_grad=True)
    far = torch.full((10, 2), 1e4)
    mass = logistic.log_mass(parameters, -far, far)
    torch.testing.assert_close(mass, torch.zeros(10, 2), atol=1e-5, rtol=0.0)
    mass.sum().backward()
    assert parameters.grad is not None
    assert bool(torch.isfinite(parameters.grad).all())


def test_drawn_scores_follow_the_mixture() -> None:
    parameters = torch.tensor([[0.0, 1.0], [-2.0, 1.5], [-1.0, -2.0]]).expand(200_000, 1, 3, 2)
    drawn = logistic.draw(parameters, torch.Generator().manual_seed(0))[:, 0]
    for low, high in ((-3.0, -2.0), (-2.0, 1.0), (1.0, 1.6)):
        expected = logistic.log_mass(parameters[:1], torch.tensor([[low]]), torch.tensor([[high]])).exp()
        assert float(((drawn > low) & (drawn < high)).float().mean()) == pytest.approx(float(expected), abs=0.005)


def test_sampled_levels_have_the_softmax_frequencies() -> None:
    logits = torch.tensor([0.0, 1.0, -1.0]).expand(200_000, 3)
    drawn = sample_level(logits, torch.rand(200_000, generator=torch.Generator().manual_seed(0)))
    found = torch.bincount(drawn, minlength=3) / len(drawn)
    torch.testing.assert_close(found, torch.softmax(logits[0], 0), atol=0.005, rtol=0.0)


@given(st.lists(st.lists(st.floats(-60.0, 60.0, width=32), min_size=4, max_size=4), min_size=1), st.data())
def test_a_level_is_the_first_whose_cumulative_share_exceeds_the_uniform_number(
    rows: list[list[float]], data: st.DataObject
) -> None:
    uniform = torch.tensor([data.draw(st.floats(0.0, 1.0, width=32, exclude_max=True)) for _ in rows])
    logits = torch.tensor(rows)
    shares = (logits - logits.amax(1, keepdim=True)).exp()
    for row, level in enumerate(sample_level(logits, uniform)):
        cumulative = shares[row].cumsum(0)
        beyond = [at for at, share in enumerate(cumulative) if share > uniform[row] * cumulative[-1]]
        assert int(level) == min([*beyond, 3])


def test_what_has_no_probability_is_never_drawn_not_even_by_the_lowest_draw() -> None:
    logits = torch.tensor([[0.0, 0.5, 0.5, 0.0]]).log().repeat(3, 1)
    assert sample_level(logits, torch.tensor([0.0, 0.5, 1.0 - 2.0**-24])).tolist() == [1, 2, 2]
