"""Measuring a release as an analyst would get it, on records the teacher never saw.

The owner distils its own reference student from the draft's bytes, generates, and compares with held-out records
under the protocol of `shared.judge`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from data_owner import release_gate
from data_owner.learning.teacher import Teacher, TeacherSettings
from data_owner.measure_pictures import cell_sizes, hardest_cells, picture_scores, with_latents
from data_owner.records.disclosure import publishable_rate, tens
from data_owner.settings import UNBOUNDED, OwnerSettings
from protocol.artefacts import TRAINED, Artefact
from shared.card import Card, Check, GroupSize, coarse
from shared.codec import group_positions, group_sizes, positions
from shared.generation import Synthesiser, group_shares, parse_release
from shared.judge import ImageJudge, judge_for
from shared.metrics import (
    by_chance,
    downstream_rows,
    floor,
    group_rates,
    has_large_and_small,
    judged_groups,
    outcome,
    scores,
)
from shared.progress import Progress, quiet
from shared.schema import Schema
from shared.scores import Judgement, PictureScores, Scores
from shared.student import Distillation, StudentSettings, distil


@dataclass(frozen=True)
class Measured:
    """The card that may leave, and what only the owner sees.

    `predicted`: how often a model of synthetic rows says positive in each group of the held-out records, by label.
    `refused_by_chance`: of `PERMUTATIONS` of the groups, how many the gate would refuse for a fairness floor.
    """

    card: Card
    synthetic: pd.DataFrame
    distillation: Distillation
    predicted: dict[str, float]
    refused_by_chance: int
    pictures: PictureScores | None = None


def reference(artefacts: Mapping[Artefact, bytes], settings: StudentSettings) -> tuple[Synthesiser, Distillation]:
    """The owner's own student, distilled from the bytes of a release alone."""
    schema, decoder, statistics = parse_release(*(artefacts[kind] for kind in TRAINED))
    distilled = distil(statistics, group_shares(schema), settings)
    return Synthesiser(schema, decoder, statistics, distilled.student), distilled.distillation


def measure(
    synthesiser: Synthesiser,
    distillation: Distillation,
    training: pd.DataFrame,
    held_out: pd.DataFrame,
    settings: OwnerSettings,
    progress: Progress = quiet,
    teacher: Teacher | None = None,
) -> Measured:
    """Measure on canonical training and held-out records; `teacher`, of pictures, shows what its latents tell."""
    schema, seed = synthesiser.schema, settings.training.seed
    judge = judge_for(schema, training, seed)
    test = judge.test(held_out)
    count = downstream_rows(len(training))
    synthetic = synthesiser.table(seed, count)
    progress(1, 4, "model on synthetic rows")
    predicted = judge.predict(synthesiser.table(seed, count, balanced=True) if judge.balanced else synthetic, test)
    progress(2, 4, "model on original rows")
    from_original = judge.predict(training, test)
    progress(3, 4, "density and coverage")
    groups = judged_groups(group_positions(schema, test))
    permuted = by_chance(test, predicted, schema, seed)
    permuted_large = by_chance(test, predicted, schema, seed, large=True) if has_large_and_small(groups) else []
    large = (scores(test, predicted, schema, large=True), Scores.mean(permuted_large)) if permuted_large else None
    judgement = Judgement(
        synthetic=scores(test, predicted, schema),
        original=scores(test, from_original, schema),
        ceiling=Scores.mean(permuted),
        floor=floor(test, schema),
        fidelity=judge.fidelity(held_out, synthetic.iloc[: len(training)]),
        fidelity_ceiling=judge.fidelity(held_out, training),
    )
    pictures: PictureScores | None = None
    if isinstance(judge, ImageJudge):
        pictures = picture_scores(judge, synthetic, test, predicted, from_original, schema)
        pictures = with_latents(pictures, teacher, held_out, schema, seed)
    card = Card(
        node=settings.name,
        target=schema.target.name,
        positive=schema.positive,
        sensitive=tuple(column.name for column in schema.sensitive),
        criterion=settings.training.criterion,
        repair=settings.training.repair,
        privacy=settings.policy.stated(UNBOUNDED),
        protocol=judge.protocol + _OF_GROUPS,
        records=tens(len(training)),
        held_out=tens(len(held_out)),
        groups=_published_groups(schema, training, held_out, settings.policy.minimum_count),
        **{name: coarse(getattr(judgement, name)) for name in Judgement.model_fields},
        checks=_checks(settings, schema, training, len(np.unique(groups)), judgement, large),
        pictures=pictures and _published_pictures(pictures, test, schema, settings.policy.minimum_count),
    )
    progress(4, 4, "measured")
    return Measured(
        card,
        synthetic,
        distillation,
        group_rates(test, predicted, schema),
        release_gate.refused_by_chance(
            settings.policy.floors, settings.training.criterion, *filter(None, (permuted, permuted_large))
        ),
        pictures,
    )


_OF_GROUPS = (
    " Groups: the count is of training records, the recorded rate of held-out ones, about a quarter as many. Groups of "
    f"fewer than {TeacherSettings().large_group:g} records that weights are learned from, but for the two largest, "
    "share the decoder's weights of larger ones, so their rows resemble those."
)
"""What the card's figures of groups are of."""


def _checks(
    settings: OwnerSettings,
    schema: Schema,
    training: pd.DataFrame,
    judged: int,
    judgement: Judgement,
    large: tuple[Scores, Scores] | None,
) -> tuple[Check, ...]:
    """The policy's checks. No minimum count where training is on microdata: nobody is behind its rows."""
    counted = settings.privacy is None
    return release_gate.checks(
        settings.policy,
        smallest_group=int(group_sizes(schema, training).min()) if counted else None,
        rarest=rarest_category(schema, training) if counted else None,
        judged=judged,
        judgement=judgement,
        large=large,
        criterion=settings.training.criterion,
    )


def rarest_category(schema: Schema, table: pd.DataFrame) -> tuple[str, int]:
    """The column of the rarest category, or gap, that occurs, and how many records are behind it."""
    counts = {
        column.name: np.bincount(positions(column, table[column.name]))
        for column in schema.columns
        if column.kind in ("category", "boolean")
    }
    return min(((name, int(count[count > 0].min())) for name, count in counts.items()), key=lambda found: found[1])


LEAST_PUBLISHED = 500
"""The rate of a group of fewer training records than this is not published: over a few held-out people it tells of
them."""


def _published_groups(
    schema: Schema, training: pd.DataFrame, held_out: pd.DataFrame, minimum_count: int
) -> tuple[GroupSize, ...]:
    """How many are in each group, in tens, and how often held-out ones are positive by the record, where many are."""
    recorded = group_rates(held_out, outcome(held_out, schema), schema)
    found = []
    for group, size, behind in zip(
        schema.groups, group_sizes(schema, training), group_sizes(schema, held_out), strict=True
    ):
        rate = None
        if size >= LEAST_PUBLISHED and behind:
            rate = publishable_rate(recorded[group.label], int(behind), minimum_count)
        found.append(GroupSize(label=group.label, records=tens(int(size)), recorded_rate=rate))
    return tuple(found)


def _published_pictures(found: PictureScores, test: pd.DataFrame, schema: Schema, minimum_count: int) -> PictureScores:
    """Without accuracies that less than the minimum count of pictures are behind, rightly or wrongly named."""
    cells = cell_sizes(test, schema)

    def is_of_many(pictures: int, *rates: float | None) -> bool:
        return all(rate is not None and publishable_rate(rate, pictures, minimum_count) is not None for rate in rates)

    sizes = {group.label: int(size) for group, size in zip(schema.groups, cells.sum(0), strict=True)}
    kept = (each for each in found.groups if is_of_many(sizes[each.label], each.synthetic, each.original))
    published = coarse(found).model_copy(update={"groups": tuple(coarse(each) for each in kept)})
    halved = cells[cells > 1]
    behind = int(halved.min()) * hardest_cells(len(halved)) if len(halved) else 0
    if is_of_many(behind, found.hardest_synthetic, found.hardest_original):
        return published
    return published.model_copy(update={"hardest_synthetic": None, "hardest_original": None})
