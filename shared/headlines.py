"""What a release card says, in words and pictures that both sides' reports share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from shared.card import (
    ACCURACY,
    BETWEEN_LARGE,
    COMPARABLE,
    COVERAGE,
    DENSITY,
    F1,
    RATIOS,
    STRONGEST_ATTACK,
    AttackFinding,
    Card,
    fairness_check,
)
from shared.metrics import PERMUTATIONS
from shared.plots import score_bars
from shared.report import Cell, Level, Section, Table, Verdict
from shared.scores import Criterion, PictureScores, Scores

LEVELS: Mapping[AttackFinding, Level] = {"succeeded": "bad", "inconclusive": "caution", "resisted": "good"}
"""How a finding of an attack is shown, worst first."""


@dataclass(frozen=True)
class Scale:
    """From which share of what can be reached a score is good, and below which it is bad."""

    good: float
    bad: float

    def level(self, share: float) -> Level:
        return "good" if share >= self.good else "caution" if share >= self.bad else "bad"

    @property
    def in_words(self) -> str:
        return f"good from {self.good:.2f}, bad below {self.bad:.2f}"


FAIR, USEFUL, COVERED, DENSE = Scale(0.9, 0.8), Scale(0.95, 0.9), Scale(0.9, 0.7), Scale(0.9, 0.6)
WORST_FIRST = tuple(LEVELS.values())
RELIABLE = 0.8
"""A ceiling. Below it so few are held out, or so few of them positive, that chance decides how fair a model looks."""


def score_verdicts(card: Card) -> tuple[Verdict, ...]:
    """Headlines of a card, in plain words. Bad is what a check of the card's own refuses and, however low the owner's
    floors are, what lies far below the original or the ceiling."""
    fairness = tuple(fairness_check(ratio, between) for ratio in RATIOS for between in ("", BETWEEN_LARGE))
    return (
        _held_to(card, _fairness(card), COMPARABLE, *fairness),
        _held_to(card, _utility(card), ACCURACY, F1),
        _held_to(card, _fidelity(card), DENSITY, COVERAGE),
    )


def _held_to(card: Card, verdict: Verdict, *about: str) -> Verdict:
    """Bad where a check whose name begins so did not pass, which it then names."""
    failed = [
        check.name.removesuffix(",") for check in card.checks if check.name.startswith(about) and not check.passed
    ]
    if not failed:
        return verdict
    return replace(verdict, level="bad", text=f"{verdict.text} Below what the policy asks for: {'; '.join(failed)}.")


def _fairness(card: Card) -> Verdict:
    """By the ratio aimed at, where it is lowest; that the other one was given up for it is said."""
    scores, original = card.synthetic, card.original
    ratio, recorded, chance = (_ratio(each, card.criterion) for each in (scores, original, card.ceiling))
    shares = fairness_shares(card)
    text = (
        f"{RATIOS[card.criterion].capitalize()} ratio of a model trained on synthetic rows; trained on the original "
        f"{card.rows} it is {recorded:.2f}."
    )
    if not original.f1:
        text += f" That model finds no positive case, so its {recorded:.2f} says nothing."
    listed = ", ".join(f"{share:.2f}{between}" for between, share in shares.items())
    text += f" Chance allows {chance:.2f}; as a share of what chance allows it is {listed}: {FAIR.in_words}."
    other: Criterion = "odds" if card.criterion == "parity" else "parity"
    if original.f1 and _ratio(scores, other) < _ratio(original, other):
        text += f" {RATIOS[other].capitalize()} ratio is {_ratio(scores, other):.2f}, below the "
        text += f"{_ratio(original, other):.2f} of the original {card.rows}."
    level = FAIR.level(min(shares.values()))
    if chance < RELIABLE:
        level = _worst(level, "caution")
        text += " Where chance allows so little, too few are held out to tell what is fair."
    if not scores.f1:
        level = "caution"
        text += " It finds no positive case, which is fair and useless: nothing is shown."
    return Verdict(level, "Fair on microdata" if card.microdata else "Fair to real people", text, f"{ratio:.2f}")


def fairness_shares(card: Card) -> dict[str, float]:
    """The ratio aimed at as a share of its ceiling: between all groups (""), and large ones if a check says."""
    ratio, ceiling = (_ratio(each, card.criterion) for each in (card.synthetic, card.ceiling))
    shares = {"": _share(card, fairness_check(card.criterion), ratio, ceiling)}
    large = [each.measured for each in card.checks if each.name == fairness_check(card.criterion, BETWEEN_LARGE)]
    return shares | ({BETWEEN_LARGE: large[0]} if large else {})


def _share(card: Card, check: str, score: float, of: float) -> float:
    """As the card's check has it; a quotient of the card's rounded scores may be another."""
    return next((each.measured for each in card.checks if each.name == check), score / max(of, 1e-9))


def _utility(card: Card) -> Verdict:
    found, original, constant = card.synthetic, card.original.accuracy, card.floor.accuracy
    learned = found.accuracy > constant and found.f1 > 0.0
    text = (
        f"Accuracy on held-out {card.rows}; trained on the originals it is {original:.2f}. As a share of that, "
        f"accuracy is {USEFUL.in_words}. Saying the commonest class of all reaches {constant:.2f}."
    )
    if not found.f1:
        text += " No positive case is found, which is bad."
    elif not learned:
        text += " No better than that is bad."
    return Verdict(
        USEFUL.level(_share(card, ACCURACY, found.accuracy, original)) if learned else "bad",
        "Useful on microdata" if card.microdata else "Useful on real people",
        text,
        f"{found.accuracy:.2f}",
    )


def _fidelity(card: Card) -> Verdict:
    """By the worse of both: coverage is full of rows that lie between the real ones, which lowers density."""
    found, real = card.fidelity, card.fidelity_ceiling
    covered = _share(card, COVERAGE, found.coverage, real.coverage)
    dense = _share(card, DENSITY, found.density, real.density)
    levels = {
        f"coverage {found.coverage:.2f} of {real.coverage:.2f}": COVERED.level(covered),
        f"density {found.density:.2f} of {real.density:.2f}": DENSE.level(dense),
    }
    worse = min(levels, key=lambda each: WORST_FIRST.index(levels[each]))
    real_rows = "microdata itself scores" if card.microdata else "real rows score"
    return Verdict(
        levels[worse],
        "Looks like the microdata" if card.microdata else "Looks like the real thing",
        f"Rows with groups as recorded against held-out {card.rows}: coverage {found.coverage:.2f}, density "
        f"{found.density:.2f}; {real_rows} {real.coverage:.2f} and {real.density:.2f}. Coverage is the share of "
        f"{card.rows} with a synthetic row near, density how closely synthetic rows lie among them. As a share of the "
        f"latter scores, coverage is {COVERED.in_words}, density {DENSE.in_words}; the level is that of the worse.",
        worse,
    )


def _ratio(scores: Scores, of: Criterion) -> float:
    return scores.demographic_parity_ratio if of == "parity" else scores.equalized_odds_ratio


def _worst(*levels: Level) -> Level:
    return min(levels, key=WORST_FIRST.index)


def attack_verdict(card: Card) -> Verdict:
    """What came of the owner's attacks on its own release, in plain words."""
    if not card.attacks:
        return Verdict("caution", "Attacked by the owner", "The card names no attack on this release.", "no")
    by = {finding: [each.attack for each in card.attacks if each.finding == finding] for finding in LEVELS}
    listed = "; ".join(f"{finding}: {', '.join(names)}" for finding, names in by.items() if names) + "."
    if by["resisted"]:
        listed += " Resisted is what came no further than the owner's limit; a stronger attack may."
    listed = f"Approved by two people over what attacks found. {listed}" if card.overridden else listed
    worst = next(finding for finding in LEVELS if by[finding])
    level = LEVELS[worst]
    if STRONGEST_ATTACK not in {each.attack for each in card.attacks}:
        level = _worst(level, "caution")
        listed += " Attacked were rows of microdata, not people." if card.microdata else ""
        listed += " The strongest, membership by shadow releases, is not among these."
    return Verdict(level, "Attacked by the owner", listed, worst)


def score_section(card: Card) -> Section:
    """Scores beside ceiling, constant classifier and original."""
    names = {
        "synthetic": card.synthetic,
        f"original {card.rows}": card.original,
        "ceiling of the synthetic model": card.ceiling,
        "constant classifier": card.floor,
    }
    ratio, found, original = RATIOS[card.criterion], card.synthetic, card.original
    said = (
        f"Trained on synthetic rows a model has a {ratio} ratio of {_ratio(found, card.criterion):.2f} and an accuracy "
        f"of {found.accuracy:.2f}, on originals {_ratio(original, card.criterion):.2f} and {original.accuracy:.2f}."
    )
    tested_on = f"held-out {card.rows}" if card.microdata else "real held-out records"
    model = "random forest" if card.pictures is None else "small convolutional classifier"
    rows: tuple[tuple[Cell, ...], ...] = tuple((name, *scores.cells()) for name, scores in names.items())
    return Section(
        "Fairness and utility",
        f"A {model} trained on each set of rows, tested on {tested_on}. Demographic parity ratio: how often it "
        "names the positive class in the group where it does so least, over where it does so most; equalized odds "
        "ratio: the same of those who are positive and of those who are not, the lower of the two. 1 is equal "
        "treatment. The ceiling is what chance leaves of the "
        f"synthetic model's predictions, a mean of {PERMUTATIONS} permutations of the groups; the constant "
        "classifier is fair and useless. Its ratios and those of the originals may lie above that ceiling: "
        "who says one thing of all cannot differ, and another model has another chance.",
        (Table(("trained on", *Scores.heads()), rows),),
        (score_bars(names, f"Scores of models beside the ceiling and the constant classifier. {said}"),),
    )


def picture_section(found: PictureScores) -> Section:
    """Labels, groups and latents beside what originals reach and what chance would."""
    latents: tuple[tuple[Cell, ...], ...] = (
        ("group from z and the class", found.group_from_latent_in_class, found.group_commonest_in_class),
        ("group from z alone", found.group_from_latent, found.group_commonest),
    )
    return Section(
        "Pictures",
        "How often a classifier trained on the originals gives a synthetic picture the label it came with; accuracy on "
        "real held-out pictures of each group, which should be alike; and in the tenth of all pairs of class and group "
        "on which a classifier trained on the originals is worst. Last, how often the group is predicted from the "
        "latent z of a held-out picture, beside always naming the commonest group: no better than that is the goal.",
        (
            Table(
                ("what", "synthetic", "original"),
                (
                    ("label agrees with a classifier trained on originals", found.agreement, found.agreement_ceiling),
                    *((f"accuracy on {group.label}", group.synthetic, group.original) for group in found.groups),
                    *(
                        [("accuracy in the hardest cells", found.hardest_synthetic, found.hardest_original)]
                        if found.hardest_synthetic is not None
                        else []
                    ),
                ),
            ),
            *(
                [Table(("predicted", "accuracy", "commonest group"), latents)]
                if found.group_from_latent is not None
                else []
            ),
        ),
    )
