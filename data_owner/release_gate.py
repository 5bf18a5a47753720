"""The gate: whether what was measured is within the owner's policy. A function of values; it fails closed."""

from __future__ import annotations

from collections.abc import Callable

from data_owner.records.disclosure import tens
from data_owner.settings import Floors, Policy
from shared.card import ACCURACY, BETWEEN_LARGE, COMPARABLE, COVERAGE, DENSITY, F1, Check, fairness_check
from shared.scores import Criterion, Judgement, Scores

SMALLEST_GROUP = "records in the smallest sensitive group"
"""The name of the check that asks for the policy's minimum count, of records alone."""

NO_POSITIVE = "of whose own model no positive case is found (a commoner target, or f1_of_original = 0),"


def checks(
    policy: Policy,
    *,
    criterion: Criterion,
    smallest_group: int | None,
    rarest: tuple[str, int] | None,
    judged: int,
    judgement: Judgement,
    large: tuple[Scores, Scores] | None,
) -> tuple[Check, ...]:
    """Every check of the policy; of one that passed the figure is as coarse as it may leave, of one that did not it is
    exact, and its release does not leave. Counts are of training records, None where there is none to hold to.

    `rarest`: a column, and how many are behind its rarest category or gap. `judged`: between how many groups
    fairness was measured; of one alone nothing can be said. `large`: scores, and their ceiling, between large groups
    alone where there are small ones too, whose chance lowers the ceiling of all so far that much would pass under it.
    """
    floors, synthetic, original = policy.floors, judgement.synthetic, judgement.original
    counts = {}
    if smallest_group is not None:
        counts[SMALLEST_GROUP] = smallest_group
    if rarest is not None:
        counts[f"records behind the rarest category or gap, of {rarest[0]}"] = rarest[1]
    return (
        *(_check(name, count, policy.minimum_count, tens) for name, count in counts.items()),
        _check(COMPARABLE, judged, 2),
        *fairness(floors, criterion, synthetic, judgement.ceiling),
        *(fairness(floors, criterion, *large, between=BETWEEN_LARGE) if large else ()),
        _check(
            ACCURACY,
            _share(synthetic.accuracy, original.accuracy),
            floors.accuracy_of_original,
        ),
        _check(F1 if original.f1 else f"{F1}, {NO_POSITIVE}", _share(synthetic.f1, original.f1), floors.f1_of_original),
        _check(
            DENSITY,
            _share(judgement.fidelity.density, judgement.fidelity_ceiling.density),
            floors.density_of_real,
        ),
        _check(
            COVERAGE,
            _share(judgement.fidelity.coverage, judgement.fidelity_ceiling.coverage),
            floors.coverage_of_real,
        ),
    )


def fairness(
    floors: Floors, criterion: Criterion, found: Scores, ceiling: Scores, between: str = ""
) -> tuple[Check, Check]:
    """The two ratios, each as a share of the ceiling."""
    aimed, other = floors.criterion_of_ceiling, floors.other_ratio_of_ceiling
    parity_floor, odds_floor = (aimed, other) if criterion == "parity" else (other, aimed)
    return (
        _check(
            fairness_check("parity", between),
            _share(found.demographic_parity_ratio, ceiling.demographic_parity_ratio),
            parity_floor,
        ),
        _check(
            fairness_check("odds", between),
            _share(found.equalized_odds_ratio, ceiling.equalized_odds_ratio),
            odds_floor,
        ),
    )


def refused_by_chance(floors: Floors, criterion: Criterion, *permuted: list[Scores]) -> int:
    """How often a fair model, its groups permuted, falls below a fairness floor: between all groups or large ones."""
    ceilings = [Scores.mean(every) for every in permuted]
    return sum(
        not all(
            check.passed
            for found, ceiling in zip(each, ceilings, strict=True)
            for check in fairness(floors, criterion, found, ceiling)
        )
        for each in zip(*permuted, strict=True)
    )


def failures(found: tuple[Check, ...]) -> tuple[str, ...]:
    """The checks that did not pass, in words. An empty gate is a failure too."""
    if not found:
        return ("nothing was checked",)
    return tuple(
        f"{check.name} is {check.measured:g}, the policy asks for {check.required:g}"
        for check in found
        if not check.passed
    )


def _hundredths(figure: float) -> float:
    """A share to two decimals, a whole number as it is."""
    return round(figure, 2)


def _check(name: str, measured: float, required: float, coarse: Callable[[float], float] = _hundredths) -> Check:
    passed, figure = measured >= required, round(measured, 4)
    return Check(
        name=name,
        measured=max(coarse(figure), required) if passed else figure,
        required=required,
        passed=passed,
    )


def _share(value: float, of: float) -> float:
    """0 where there is nothing to compare with: what cannot be judged does not pass."""
    return value / of if of > 0.0 else 0.0
