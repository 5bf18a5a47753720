"""What attacks mean for a release under the owner's policy. Functions of values; they fail closed.

An attack succeeds when its risk, on everyone or on a part (a sensitive group, the small ones together, the rarest
tenth, those who were asked for one hidden column), exceeds the policy's limit and chance does not explain that:
Fisher's exact test of main against control, at 5 % over all comparisons that are made together (Bonferroni), at the
gate or by `attack`. It was resisted when the whole interval of the risk on everyone is within the limit, comes of at
least `LEAST_TO_RESIST` guesses, and no part is above it by the same test over this attack's parts alone; else
inconclusive, as membership by fewer than `SHADOWS` shadow releases is. Of a release that tells nothing no attack is
better than guessing, so one that is not may be resisted all the same; the page names it.
"""

from __future__ import annotations

from bisect import bisect_left

from scipy.special import logit

from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.attacks.battery import SHADOWS, Battery
from data_owner.attacks.outcome import CONFIDENCE, Audit, Outcome, Rate, Result
from data_owner.settings import AttackLimits
from shared.card import AttackFinding, AttackVerdict

LEAST_TO_RESIST = 50
"""Guesses. An attack that could hardly be tried was not resisted."""


def limit(attack: Attack, limits: AttackLimits) -> float:
    """The policy's limit on the risk of an attack that has results."""
    return float(getattr(limits, attack.value))


def judged(found: Battery) -> tuple[Result, ...]:
    """The results that count: all but nearest-record distance."""
    return tuple(result for result in found.results if result.attack is not Attack.NEAREST_RECORD)


def comparisons(found: Battery, *, at_gate: bool) -> int:
    """How many are made together, on everyone and on each part: at the gate, or by `attack`, so that what the gate
    found does not hang on whether `attack` was run as well."""
    return sum(len(result.outcomes) for result in judged(found) if (result.attack in AT_EVERY_GATE) is at_gate)


def exceeding(found: Battery, limits: AttackLimits) -> tuple[tuple[Result, Outcome], ...]:
    """Every result and part on which an attack succeeds."""
    together = {at_gate: comparisons(found, at_gate=at_gate) for at_gate in (True, False)}
    return tuple(
        (result, outcome)
        for result, outcome in above_as_measured(found, limits)
        if _is_above(outcome, limit(result.attack, limits), together[result.attack in AT_EVERY_GATE])
    )


def above_as_measured(found: Battery, limits: AttackLimits) -> tuple[tuple[Result, Outcome], ...]:
    """Every result and part whose measured risk is above the limit; chance may explain that."""
    return tuple(
        (result, outcome)
        for result in judged(found)
        for outcome in result.outcomes
        if outcome.risk > limit(result.attack, limits)
    )


def least_exceeding(outcome: Outcome, allowed: float, comparisons: int) -> Outcome | None:
    """The outcome with the fewest right guesses about members, and control as it is, on which an attack succeeds; None
    where not even all of them right would do."""
    trials = outcome.main.trials

    def with_right(guesses: int) -> Outcome:
        return outcome.model_copy(update={"main": Rate(successes=guesses, trials=trials)})

    least = bisect_left(
        range(trials + 1), True, key=lambda guesses: _is_above(with_right(guesses), allowed, comparisons)
    )
    return with_right(least) if least <= trials else None


def no_better_than_guessing(found: Battery) -> frozenset[str]:
    """Attacks that on everyone never beat a guess without the release, in words: that holds nothing for them, or they
    are too weak to find it (Giomi et al. 2023)."""
    better = {result.attack for result in judged(found) if result.overall.beats_baseline}
    return frozenset(result.attack.words for result in judged(found) if result.attack not in better)


def verdicts(found: Battery, limits: AttackLimits) -> tuple[AttackVerdict, ...]:
    """One coarse verdict an attack, without a figure: all that leaves."""
    succeeded = {result.attack for result, _ in exceeding(found, limits)}
    said = []
    for attack in dict.fromkeys(result.attack for result in judged(found)):
        within = (attack is not Attack.MEMBERSHIP or found.shadows >= SHADOWS) and all(
            _is_within(result, limit(attack, limits)) for result in found.results if result.attack is attack
        )
        finding: AttackFinding = "succeeded" if attack in succeeded else "resisted" if within else "inconclusive"
        said.append(AttackVerdict(attack=attack.words, finding=finding))
    if found.audit is not None:
        said.append(AttackVerdict(attack=Attack.CANARIES.words, finding=_of_canaries(found.audit, limits)))
    return tuple(said)


def _is_within(result: Result, allowed: float) -> bool:
    return (
        _is_tried(result.overall.main, result.overall.control)
        and result.overall.risk_interval[1] <= allowed
        and not any(_is_above(outcome, allowed, len(result.outcomes)) for outcome in result.outcomes)
    )


def _is_above(outcome: Outcome, allowed: float, comparisons: int) -> bool:
    return outcome.risk > allowed and outcome.p_value * comparisons < 1.0 - CONFIDENCE


def _is_tried(*sides: Rate) -> bool:
    return min(side.trials for side in sides) >= LEAST_TO_RESIST


def _of_canaries(audit: Audit, limits: AttackLimits) -> AttackFinding:
    """Resisted where the ε by which as many guesses are right, at the upper end of what chance explains, is within the
    limit; and not where all of them right would not have refuted it."""
    if audit.epsilon > limits.canary_epsilon:
        return "succeeded"
    guesses = Rate(successes=audit.correct, trials=audit.guesses)
    within = logit(guesses.interval[1]) <= limits.canary_epsilon < audit.refutable
    return "resisted" if within and _is_tried(guesses) else "inconclusive"


def exceeded(found: Battery, limits: AttackLimits) -> tuple[str, ...]:
    """Why approval needs two people, in words; empty if it does not."""
    reasons = [
        f"{result.name} ({outcome.part}): risk {outcome.risk:.2f}, the policy allows {limit(result.attack, limits):.2f}"
        for result, outcome in exceeding(found, limits)
    ]
    if found.audit is not None and found.audit.epsilon > limits.canary_epsilon:
        reasons.append(
            f"canaries refute every ε below {found.audit.epsilon:.2f}, the policy allows {limits.canary_epsilon:.2f}"
        )
    if limits.inconclusive == "refuse":
        unsure = [each.attack for each in verdicts(found, limits) if each.finding == "inconclusive"]
        reasons += [f"{attack}: not shown to be within the limit" for attack in unsure]
    return tuple(reasons)


def exceeded_on_people(found: Battery, limits: AttackLimits) -> tuple[str, ...]:
    """Why to deny a release under a budget, in words: what a rehearsal found, against it or its draw's claim."""
    claimed = None if found.audit is None else found.audit.claimed
    if found.audit is None or claimed is None or found.audit.epsilon <= claimed:
        return exceeded(found, limits)
    return (f"canaries refute the guarantee of ε = {claimed:.2f}", *exceeded(found, limits))


def missing(found: Battery, limits: AttackLimits) -> tuple[str, ...]:
    """Attacks that the policy requires and nobody has made, or with too few shadow releases to tell, in words."""
    said = [
        f"the policy requires the attack {attack.words}, which was not made: run fair4free-owner attack"
        for attack in limits.required
        if attack not in found.made
    ]
    if Attack.MEMBERSHIP in limits.required and 0 < found.shadows < SHADOWS:
        said.append(f"the policy requires the attack membership, with {SHADOWS} shadow releases at least: run it so")
    return tuple(said)
