"""What a release card says, in words and pictures that both sides' reports share."""

from __future__ import annotations

from collections.abc import Mapping

from shared.card import AttackFinding, Card
from shared.plots import score_bars
from shared.report import Cell, Level, Section, Table, Verdict
from shared.scores import Scores

LEVELS: Mapping[AttackFinding, Level] = {"succeeded": "bad", "inconclusive": "caution", "resisted": "good"}
"""How a finding of an attack is shown, worst first."""


def score_verdicts(card: Card) -> tuple[Verdict, ...]:
    """Headlines of a card, in plain words."""
    scores, original, best = card.synthetic, card.original, card.ceiling
    aimed = "demographic_parity_ratio" if card.criterion == "parity" else "equalized_odds_ratio"
    ratio, recorded, chance = (getattr(each, aimed) for each in (scores, original, best))
    share = ratio / max(chance, 1e-9)
    level: Level = "good" if share >= 0.9 else "caution" if share >= 0.8 else "bad"
    kept = scores.accuracy / max(original.accuracy, 1e-9)
    empty = "" if scores.f1 else " It finds no positive case, which is fair and useless: nothing is shown."
    unsaid = "" if original.f1 else f" That model finds no positive case, so its {recorded:.2f} says nothing."
    level_of_use: Level = "good" if kept >= 0.95 else "caution" if kept >= 0.9 else "bad"
    constant = card.floor.accuracy
    return (
        Verdict(
            level if scores.f1 else "caution",
            "Fair to real people",
            f"{aimed.replace('_', ' ').capitalize()} of a model trained on synthetic rows; trained on the original "
            f"records it is {recorded:.2f}.{unsaid} Chance allows {chance:.2f}.{empty}",
            f"{ratio:.2f}",
        ),
        Verdict(
            "bad" if scores.accuracy < constant else level_of_use,
            "Useful on real people",
            f"Accuracy on held-out records; trained on the originals it is {original.accuracy:.2f}. Saying the "
            f"commonest class of all reaches {constant:.2f}.",
            f"{scores.accuracy:.2f}",
        ),
        Verdict(
            "good" if card.fidelity.coverage >= 0.9 else "caution" if card.fidelity.coverage >= 0.7 else "bad",
            "Looks like the real thing",
            f"Coverage of held-out records; density is {card.fidelity.density:.2f}. Real rows score "
            f"{card.fidelity_ceiling.coverage:.2f} and {card.fidelity_ceiling.density:.2f}.",
            f"{card.fidelity.coverage:.2f}",
        ),
    )


def attack_verdict(card: Card) -> Verdict:
    """What came of the owner's attacks on its own release, in plain words."""
    if not card.attacks:
        return Verdict("caution", "Attacked by the owner", "The card names no attack on this release.", "no")
    by = {finding: [each.attack for each in card.attacks if each.finding == finding] for finding in LEVELS}
    listed = "; ".join(f"{finding}: {', '.join(names)}" for finding, names in by.items() if names) + "."
    listed = f"Approved by two people over what attacks found. {listed}" if card.overridden else listed
    worst = next(finding for finding in LEVELS if by[finding])
    value = "in part unsure" if worst == "inconclusive" else worst
    return Verdict(LEVELS[worst], "Attacked by the owner", listed, value)


def score_section(card: Card) -> Section:
    """Scores beside ceiling, floor and original."""
    names = {
        "synthetic": card.synthetic,
        "original records": card.original,
        "ceiling": card.ceiling,
        "floor": card.floor,
    }
    model = "random forest" if card.pictures is None else "small convolutional classifier"
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, *scores.cells()) for name, scores in names.items())
    return Section(
        "Fairness and utility",
        f"A {model} trained on each set of rows, tested on real held-out records. The ceiling is what chance "
        "leaves of a perfectly fair model; the floor is the constant classifier, fair and useless.",
        (Table(("trained on", *Scores.heads()), rows),),
        (score_bars(names, "Scores of a model trained on synthetic rows beside original, ceiling and floor."),),
    )
