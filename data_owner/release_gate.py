"""The gate: whether what was measured is within the owner's policy. A function of values; it fails closed."""

from __future__ import annotations

from data_owner.settings import Policy
from shared.card import Check
from shared.scores import Fidelity, Scores


def checks(
    policy: Policy,
    *,
    smallest_group: int | None,
    smallest_category: int | None,
    groups: int,
    judged: int,
    synthetic: Scores,
    original: Scores,
    ceiling: Scores,
    fidelity: Fidelity,
    fidelity_ceiling: Fidelity,
) -> tuple[Check, ...]:
    """Every check of the policy, passed or not. Counts are of training records, None where there is none to hold to.

    `judged`: how many of the schema's `groups` fairness was measured between; of one alone nothing can be said.
    """
    floors = policy.floors
    counts = {
        "records in the smallest sensitive group": smallest_group,
        "records behind the rarest category": smallest_category,
    }
    return (
        *(_check(name, count, policy.minimum_count) for name, count in counts.items() if count is not None),
        _check("groups with enough held-out records to compare", judged, min(groups, 2)),
        _check(
            "demographic parity, share of ceiling",
            _share(synthetic.demographic_parity_ratio, ceiling.demographic_parity_ratio),
            floors.demographic_parity_of_ceiling,
        ),
        _check(
            "equalized odds, share of ceiling",
            _share(synthetic.equalized_odds_ratio, ceiling.equalized_odds_ratio),
            floors.equalized_odds_of_ceiling,
        ),
        _check(
            "accuracy, share of original",
            _share(synthetic.accuracy, original.accuracy),
            floors.accuracy_of_original,
        ),
        _check("F1, share of original", _share(synthetic.f1, original.f1), floors.f1_of_original),
        _check(
            "density, share of real",
            _share(fidelity.density, fidelity_ceiling.density),
            floors.density_of_real,
        ),
        _check(
            "coverage, share of real",
            _share(fidelity.coverage, fidelity_ceiling.coverage),
            floors.coverage_of_real,
        ),
    )


def failures(found: tuple[Check, ...]) -> tuple[str, ...]:
    """The checks that did not pass, in words. An empty gate is a failure too."""
    if not found:
        return ("nothing was checked",)
    return tuple(
        f"{check.name} is {check.measured:.2f}, the policy asks for {check.required:.2f}"
        for check in found
        if not check.passed
    )


def _check(name: str, measured: float, required: float) -> Check:
    return Check(name=name, measured=round(measured, 4), required=required, passed=measured >= required)


def _share(value: float, of: float) -> float:
    """0 where there is nothing to compare with: what cannot be judged does not pass."""
    return value / of if of > 0.0 else 0.0
