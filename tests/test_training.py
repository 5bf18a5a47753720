"""The teacher: repeatable, resumable, fair by construction where its head stands."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from data_owner.learning import fitting, training
from data_owner.learning.repair import barycentre, out_of_fold_scores, repaired_targets, sharpened
from data_owner.learning.teacher import Losses, Teacher
from data_owner.learning.training import LEAST_PATIENCE, Epoch, latent_statistics, posteriors, train_teacher
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from protocol.artefacts import Artefact
from shared.codec import Encoded, Layout, encode
from shared.errors import BadInput
from shared.limits import LIMITS
from shared.schema import Schema
from shared.scores import Criterion
from shared.sketch import conditional_dependence, dependence, draw_frequencies, sketch
from shared.statistics import LatentStatistics
from tests.conftest import QUICK, patients, settings_for

Disclosed = tuple[Schema, pd.DataFrame]


def targets(schema: Schema, table: pd.DataFrame) -> torch.Tensor:
    return torch.nn.functional.one_hot(encode(schema, table).target, 2).float()


def weights(teacher: Teacher) -> bytes:
    return b"".join(value.numpy().tobytes() for value in teacher.state_dict().values())


def test_training_is_repeatable_by_seed(disclosed: Disclosed) -> None:
    schema, table = disclosed
    encoded, labels = encode(schema, table), targets(schema, table)
    first, second, other = (train_teacher(schema, encoded, labels, QUICK, seed) for seed in (0, 0, 1))
    assert weights(first.teacher) == weights(second.teacher)
    assert first.statistics.to_bytes() == second.statistics.to_bytes()
    assert weights(first.teacher) != weights(other.teacher)


class Killed(Exception):
    pass


def test_training_killed_at_any_checkpoint_and_resumed_gives_the_same_teacher(disclosed: Disclosed) -> None:
    schema, table = disclosed
    encoded, labels = encode(schema, table), targets(schema, table)
    whole = train_teacher(schema, encoded, labels, QUICK, 0)
    for survives in (1, 7):
        kept: list[bytes] = []

        def save(data: bytes, kept: list[bytes] = kept, survives: int = survives) -> None:
            kept.append(data)
            if len(kept) == survives:
                raise Killed

        with pytest.raises(Killed):
            train_teacher(schema, encoded, labels, QUICK, 0, save=save)
        resumed = train_teacher(schema, encoded, labels, QUICK, 0, load=lambda kept=kept: kept[-1])
        assert weights(resumed.teacher) == weights(whole.teacher)
        assert resumed.history == whole.history


@pytest.mark.parametrize(("criterion", "kl_weight"), [("parity", QUICK.kl_weight), ("odds", 0.05)])
def test_the_penalty_takes_the_groups_out_of_the_latents(criterion: Criterion, kl_weight: float) -> None:
    """Of parity out of all of z, of odds within each class; judged by frequencies that training did not see."""
    table = patients(800)
    is_south = table["région"] == "south"
    table["age"] += 40 * is_south
    table["died"] = ((table["died"] == 1) | (is_south & (table.index % 3 > 0))).astype(int)
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    records = encode(schema, canonical)
    groups = torch.nn.functional.one_hot(records.group, len(schema.groups))
    cells = (torch.nn.functional.one_hot(records.target, 2).unsqueeze(2) * groups.unsqueeze(1)).flatten(1)

    def left(beta: float) -> float:
        settings = replace(QUICK, steps=400, criterion=criterion, kl_weight=kl_weight, beta=beta)
        teacher = train_teacher(schema, records, targets(schema, canonical), settings, 0).teacher
        with torch.no_grad():
            mean, variance = posteriors(teacher, records)
        drawn = draw_frequencies(4000, mean.shape[1], generator=torch.Generator().manual_seed(9))
        drawn = drawn / (mean.var(0) + variance.mean(0)).sqrt()
        if criterion == "parity":
            return float(dependence(sketch(mean, groups, drawn, variance)))
        return float(conditional_dependence(sketch(mean, cells, drawn, variance), 2))

    without = left(0.0)
    assert without > 2e-3
    assert left(500.0) < without / 5


def test_training_learns(disclosed: Disclosed) -> None:
    schema, table = disclosed
    longer = replace(QUICK, steps=800)
    history = train_teacher(schema, encode(schema, table), targets(schema, table), longer, 0).history
    assert min(epoch.reconstruction for epoch in history) < 0.9 * history[0].reconstruction
    assert min(epoch.total for epoch in history) < 0.95 * history[0].total


def test_the_best_teacher_is_kept_and_training_ends_when_none_is_better(
    disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    schema, table = disclosed
    seen: list[bytes] = []

    def validate(teacher: Teacher, validation: Encoded, step: int, seed: int) -> Epoch:
        seen.append(weights(teacher))
        return Epoch(step, 0.0, 0.0, 0.0, 0.0, total=abs(len(seen) - 3.0))

    monkeypatch.setattr(training, "_validate", validate)
    found = train_teacher(schema, encode(schema, table), targets(schema, table), QUICK, 0)
    assert len(seen) == len(found.history) == 3 + LEAST_PATIENCE + 1
    assert weights(found.teacher) == seen[2]


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> tuple[list[Encoded], list[Encoded]]:
    """Every batch that a teacher trains on from now on, and every one that it is validated on."""
    trained_on: list[Encoded] = []
    validated_on: list[Encoded] = []
    losses = Teacher.losses

    def noting(teacher: Teacher, records: Encoded, generator: torch.Generator | None = None) -> Losses:
        (trained_on if teacher.training else validated_on).append(records)
        return losses(teacher, records, generator)

    monkeypatch.setattr(Teacher, "losses", noting)
    return trained_on, validated_on


def test_no_record_is_both_trained_and_validated_on(
    batches: tuple[list[Encoded], list[Encoded]], disclosed: Disclosed
) -> None:
    schema, table = disclosed
    numbered = replace(encode(schema, table), pixels=torch.arange(len(table)).unsqueeze(1))
    train_teacher(schema, numbered, targets(schema, table), replace(QUICK, epochs=5), 0)
    trained_on, validated_on = ({row for part in parts for row in part.pixels[:, 0].tolist()} for parts in batches)
    assert len(validated_on) == len(table) // 10
    assert trained_on == {*range(len(table))} - validated_on


def test_labels_are_drawn_anew_each_epoch(batches: tuple[list[Encoded], list[Encoded]], disclosed: Disclosed) -> None:
    schema, table = disclosed
    coins = torch.full((len(table), 2), 0.5)
    train_teacher(schema, encode(schema, table), coins, replace(QUICK, batch=len(table), epochs=4), 0)
    positives = [int(batch.target.sum()) for batch in batches[0]]
    assert len(positives) == 4
    assert len(set(positives)) > 1


def test_the_statistics_are_of_the_labels_that_were_trained_on(disclosed: Disclosed) -> None:
    schema, table = disclosed
    nobody_died = torch.tensor([[1.0, 0.0]]).expand(len(table), -1)
    found = train_teacher(schema, encode(schema, table), nobody_died, replace(QUICK, epochs=1), 0)
    assert found.statistics.strata.shares.tolist() == [1.0, 0.0]


def test_latents_that_shrink_are_as_dependent_as_they_were(
    disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    records, teacher = encode(*disclosed), Teacher(disclosed[0], QUICK).eval()
    mean, variance = teacher.posterior(records)
    mean = mean + records.group.unsqueeze(1)
    found = []
    for scale in (1.0, 0.01):
        shrunk = scale * mean, scale**2 * variance
        monkeypatch.setattr(teacher, "posterior", lambda _, shrunk=shrunk: shrunk)
        found.append(float(teacher.losses(records, torch.Generator().manual_seed(0)).dependence.detach()))
    assert found[0] == pytest.approx(found[1], rel=1e-3)


def test_progress_counts_to_its_total(disclosed: Disclosed) -> None:
    schema, table = disclosed
    seen: list[tuple[int, int]] = []
    train_teacher(
        schema,
        encode(schema, table),
        targets(schema, table),
        QUICK,
        0,
        progress=lambda step, total, message: seen.append((step, total)),
    )
    assert [step for step, _ in seen] == list(range(1, seen[-1][0] + 1))
    assert len({total for _, total in seen}) == 1


def test_a_table_is_trained_on_and_measured_by_one_thread_however_many_there_are(
    disclosed: Disclosed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More add up in another order, so the same seed would make other bytes on another machine."""
    schema, table = disclosed
    seen: list[int] = []
    encoded, labels, before = encode(schema, table), targets(schema, table), torch.get_num_threads()

    def watched(*of: object) -> LatentStatistics:
        seen.append(torch.get_num_threads())
        return latent_statistics(*of)  # type: ignore[arg-type]

    monkeypatch.setattr(training, "latent_statistics", watched)
    torch.set_num_threads(2)
    try:
        train_teacher(schema, encoded, labels, QUICK, 0, progress=lambda *update: seen.append(torch.get_num_threads()))
        assert (set(seen), torch.get_num_threads()) == ({1}, 2)
    finally:
        torch.set_num_threads(before)


def test_of_many_records_an_epoch_takes_a_part_so_that_training_is_as_long_and_kept_as_often(
    disclosed: Disclosed,
) -> None:
    schema, table = disclosed
    settings, kept = replace(QUICK, steps=40, batch=16), list[bytes]()
    trained = train_teacher(schema, encode(schema, table), targets(schema, table), settings, 0, save=kept.append)
    assert [epoch.step for epoch in trained.history][:3] == [2, 4, 6]
    assert trained.history[-1].step <= 40
    assert len(kept) == len(trained.history)


def test_the_barycentre_makes_groups_alike_and_keeps_ranks_within_them() -> None:
    draw = np.random.default_rng(0)
    groups = np.repeat([0, 1], [700, 300])
    scores = np.where(groups == 0, draw.beta(2, 5, 1000), draw.beta(5, 2, 1000))
    moved = barycentre(scores, groups, np.arange(1000))
    for group in (0, 1):
        inside = groups == group
        assert (np.argsort(scores[inside]) == np.argsort(moved[inside], kind="stable")).all()
    for level in (0.1, 0.5, 0.9):
        first, second = (np.quantile(moved[groups == group], level) for group in (0, 1))
        assert first == pytest.approx(second, abs=0.02)
    assert moved.mean() == pytest.approx(scores.mean(), abs=0.01)


def test_scores_of_groups_already_alike_are_left_as_they_are() -> None:
    scores = np.tile(np.linspace(0.0, 1.0, 500), 2)
    moved = barycentre(scores, np.repeat([0, 1], 500), np.arange(1000))
    np.testing.assert_allclose(moved, scores, atol=1e-12)


def test_repaired_labels_are_as_frequent_in_each_group_also_where_many_records_have_the_same_scores(
    table: pd.DataFrame,
) -> None:
    """One feature of two values, recorded by region."""
    draw = np.random.default_rng(0)
    coarse = pd.concat([table] * 10, ignore_index=True)[["région", "ventilated"]]
    likely = 0.15 + 0.2 * coarse["ventilated"].astype(int) + 0.1 * (coarse["région"] == "north")
    coarse["died"] = (draw.random(len(coarse)) < likely).astype(int)
    schema, canonical = disclose(ingest(coarse, settings_for(coarse)), 10)
    found = repaired_targets(schema, canonical, strength=1.0, seed=0)[:, 1]
    rates = pd.Series(found).groupby(canonical["région"].to_numpy()).mean()
    assert rates.max() - rates.min() < 0.002


def test_repaired_targets_have_equal_rates_in_all_groups(disclosed: Disclosed) -> None:
    schema, table = disclosed
    found = repaired_targets(schema, table, strength=1.0, seed=0)
    np.testing.assert_allclose(found.sum(1), 1.0)
    rates = pd.Series(found[:, 1]).groupby(table["région"].to_numpy()).mean()
    recorded = (table["died"] == "1").groupby(table["région"]).mean()
    assert rates.max() - rates.min() < 0.02 < recorded.max() - recorded.min()


def test_nobody_is_scored_by_a_model_that_saw_her(table: pd.DataFrame) -> None:
    coins = table.assign(died=np.random.default_rng(0).integers(0, 2, len(table)))
    schema, canonical = disclose(ingest(coins, settings_for(coins)), 10)
    right = out_of_fold_scores(schema, canonical, seed=0).argmax(1) == encode(schema, canonical).target.numpy()
    assert right.mean() < 0.6


def test_labels_are_repaired_as_far_as_the_owner_says(table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared, asked = fitting.split(table, settings_for(table)), settings_for(table).training
    monkeypatch.setattr(fitting, "train_teacher", lambda schema, records, targets, *rest, **calls: targets)
    found = fitting.fit(prepared, asked.model_copy(update={"repair": 0.5}), QUICK)
    half = repaired_targets(prepared.schema, prepared.training, strength=0.5, seed=asked.seed)
    torch.testing.assert_close(found, torch.from_numpy(half).float())


def test_a_teacher_is_trained_for_the_criterion_that_the_owner_says(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared, asked = fitting.split(table, settings_for(table)), settings_for(table).training
    monkeypatch.setattr(fitting, "train_teacher", lambda schema, records, targets, settings, *rest, **calls: settings)
    assert QUICK.criterion == "parity"
    trained_for = fitting.fit(prepared, asked.model_copy(update={"criterion": "odds"}), QUICK)
    assert trained_for == replace(QUICK, criterion="odds")


def test_repair_beyond_the_barycentre_turns_the_order_of_the_groups(disclosed: Disclosed) -> None:
    schema, table = disclosed
    further = repaired_targets(schema, table, strength=1.5, seed=0)
    assert further.min() > 0.0
    np.testing.assert_allclose(further.sum(1), 1.0)
    whose = table["région"].to_numpy()
    recorded = (table["died"] == "1").groupby(whose).mean()
    assert pd.Series(further[:, 1]).groupby(whose).mean().corr(recorded) < 0.0


@given(arrays(float, (60, 3), elements=st.floats(0.01, 1.0)))
def test_sharpened_probabilities_are_more_decided_and_keep_the_shares_of_the_classes(
    found: NDArray[np.float64],
) -> None:
    rows = found / found.sum(1, keepdims=True)
    decided = sharpened(found)
    np.testing.assert_allclose(decided.sum(1), 1.0)
    np.testing.assert_allclose(decided.mean(0), rows.mean(0), atol=1e-3)
    # log-odds against the first class are doubled, but for one constant a class
    added = np.log(decided[:, 1:] / decided[:, :1]) - 2.0 * np.log(rows[:, 1:] / rows[:, :1])
    np.testing.assert_allclose(added, np.broadcast_to(added[0], added.shape), atol=1e-6)


def test_targets_are_repaired_whatever_the_number_of_categories() -> None:
    table = patients(3600)
    table["ward"] = pd.Series([f"ward {row % 300}" for row in range(len(table))], dtype="str")
    schema, canonical = disclose(ingest(table, settings_for(table)), 10)
    assert max(len(column.categories) for column in Layout(schema).categorical) == 300
    assert np.isfinite(repaired_targets(schema, canonical, strength=1.0, seed=0)).all()


def test_training_stops_after_so_many_epochs(disclosed: Disclosed) -> None:
    schema, table = disclosed
    few = replace(QUICK, epochs=3)
    assert len(train_teacher(schema, encode(schema, table), targets(schema, table), few, 0).history) == 3


def test_held_out_records_are_never_trained_on(table: pd.DataFrame, artefacts: dict[Artefact, bytes]) -> None:
    configuration = settings_for(table)
    prepared = fitting.split(table, configuration)
    assert len(prepared.held_out) == len(table) // 5
    keys = ["age", "days in ward"]
    together = pd.concat([prepared.training, prepared.held_out])
    assert Counter(map(tuple, together[keys].to_numpy())) == Counter(map(tuple, table[keys].to_numpy()))
    others = replace(prepared, held_out=prepared.training.sample(len(prepared.held_out), random_state=1))
    assert fitting.artefacts(others.schema, fitting.fit(others, configuration.training, QUICK)) == artefacts


def test_a_table_whose_decoder_would_be_too_large_is_refused_with_what_to_do(
    table: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.architecture.LIMITS", replace(LIMITS, parameters=1000))
    with pytest.raises(BadInput, match="more parameters than the limit") as refused:
        fitting.split(table, settings_for(table))
    assert "exclude columns" in refused.value.remedy


def test_scores_have_a_place_for_a_class_that_a_part_of_the_records_lacks(disclosed: Disclosed) -> None:
    schema, table = disclosed
    wider = schema.target.model_copy(update={"categories": ("-1", *schema.target.categories)})
    columns = tuple(wider if column.name == wider.name else column for column in schema.columns)
    wide = Schema(columns=columns, positive=schema.positive, groups=schema.groups)
    found = out_of_fold_scores(wide, table, seed=0)
    assert found.shape == (len(table), 3)
    assert (found[:, 0] == 0.0).all()
    np.testing.assert_array_equal(found[:, 1:], out_of_fold_scores(schema, table, seed=0))


def test_the_released_shares_of_classes_tell_no_count_more_closely_than_to_ten(disclosed: Disclosed) -> None:
    schema, table = disclosed
    records, teacher = encode(schema, table), Teacher(schema, QUICK)
    for positives in (298, 302):
        target = (torch.arange(len(records)) < positives).long()
        found = latent_statistics(teacher, replace(records, target=target), seed=0)
        assert found.strata.shares.tolist() == pytest.approx([0.5, 0.5])
