"""What a privacy officer reads about one release: what leaves, the guarantee, what attacks found, what is unknown.

For the owner's house: it holds figures that the card does not publish.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from data_owner.attack_gate import (
    above_as_measured,
    exceeded_on_people,
    exceeding,
    judged,
    limit,
    no_better_than_guessing,
    verdicts,
)
from data_owner.attacks.attack import Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import EVERYONE, SMALL_GROUPS, Outcome, group_part
from data_owner.release_status import State, Status
from data_owner.settings import AttackLimits
from protocol.artefacts import Artefact
from protocol.entry import Approval, Denial, Entry, Override, Served
from shared.card import AttackFinding, Card
from shared.clock import minute
from shared.headlines import LEVELS
from shared.plots import intervals
from shared.report import Cell, Report, Section, Table, Verdict

MEANING: Mapping[AttackFinding, str] = {
    "succeeded": "They tell members beyond the policy's limit: approval needs two people.",
    "inconclusive": "Not shown to be beyond the limit, nor shown to be within it: too few guesses or shadow releases, "
    "or a part is above it and chance may explain that.",
    "resisted": "Within the policy's limit, the whole interval; no part is above it but for what chance explains.",
}

CONTENT = {
    Artefact.MANIFEST: "names and digests of the other four, the privacy statement, expiry; signed",
    Artefact.DECODER: "weights of a model trained on the records: the one place where a record could be memorised",
    Artefact.STATISTICS: "mean and covariance of the latents by class and their characteristic function by group",
    Artefact.SCHEMA: "column names, categories, quantile points and group shares, each of at least the minimum count",
    Artefact.CARD: "scores to two decimals, counts to tens, one word for each attack",
}

CONTENT_OF_MICRODATA = CONTENT | {
    Artefact.DECODER: "weights of a model trained on microdata",
    Artefact.SCHEMA: "column names, what owner.toml declares of them, quantile points and group shares of microdata",
}

QUESTIONS = {
    Attack.RECONSTRUCTION: "Can the decoder be made to say exactly this person's record, or far better in the person's "
    "own group than in another? Searches its latent space.",
    Attack.DENSITY_RATIO: "Are synthetic rows denser around this person than real people are? (DOMIAS)",
    Attack.ATTRIBUTE_INFERENCE: "Who knows all of a person's record but one column: can they guess that one?",
    Attack.LINKABILITY: "Who has two files without a common column: can they tell which rows are one person?",
    Attack.SINGLING_OUT: "Does a condition made from synthetic rows hold for exactly one person?",
    Attack.MEMBERSHIP: "Was this person among the records? Compares with shadow releases made with and without. (LiRA)",
}

NOT_COVERED = (
    (
        "stronger attackers",
        "Only these attacks were made. One that resists them may fall to another, or to more effort.",
    ),
    (
        "people in general",
        "What is true of members and of others alike can be learned, and may concern a person all the same.",
    ),
    (
        "one person in several rows",
        "Where no column says whose a row is, a record counts as a person: rows of one are neither joined nor bounded.",
    ),
    (
        "the sensitive column",
        "Attackers are taken to know a person's group; it is not among the columns that are guessed.",
    ),
    (
        "the synthetic rows of others",
        "An analyst's rows follow from the release; what is done with them is not seen here.",
    ),
)

OF_RECORDS = (
    (
        "those who choose when training ends",
        "A tenth of the training records: no weight of the decoder is learned from them, but the latent statistics and "
        "the repair of labels are of them too. They are neither attacked nor a control.",
    ),
    (
        "several releases",
        "Each is attacked alone. Two from much the same records tell more together, though their records are the same "
        "or differ in as many rows as the minimum count: a row is another once any cell is.",
    ),
    ("schema and card", "They are held to the minimum count and to rounding, and were not attacked."),
    (
        "the sketch by group",
        "Nobody tried to solve it for single records. Small groups share one: it has fewer numbers than unknowns.",
    ),
)
"""What the guarantee of a budget covers: under one, records are read for microdata alone."""

BEHIND_MICRODATA = (
    "people behind the microdata",
    "Under the budget microdata stands in for records, at the gate too: its attacks were made on those rows. What the "
    "release tells of people themselves is bounded by the guarantee, and shown by a rehearsal alone.",
)


@dataclass(frozen=True)
class Subject:
    """The release that is reported on, and the time that it is reported `at`. `lengths`: bytes of the artefacts that
    exist; `entries`: the egress log; `limits`: those that the release was measured under.

    Under a budget, `rehearsal` is what attacks found on people.
    """

    version: int
    at: int
    status: Status
    card: Card
    battery: Battery
    limits: AttackLimits
    lengths: Mapping[Artefact, int]
    entries: tuple[Entry, ...]
    rehearsal: Battery | None = None


def privacy_report(subject: Subject) -> Report:
    card, found = subject.card, subject.battery
    not_covered = (BEHIND_MICRODATA, *NOT_COVERED) if card.microdata else (*NOT_COVERED, *OF_RECORDS)
    served = [each for each in subject.entries if isinstance(each, Served) and each.version == subject.version]
    refused = ", and the gate refused it" if subject.status.failures else ""
    return Report(
        title=f"Privacy of release {subject.version} of {card.node}",
        subtitle=f"For a privacy officer. {card.records:,} {card.rows} were trained on and {card.held_out:,} held out "
        f"(to the nearest ten). The release is {subject.status.state}{refused}. As of {minute(subject.at)}; "
        "fair4free-owner privacy writes it anew. Not for release: it holds figures.",
        verdicts=(*_headlines(subject), _left_verdict(served)),
        facts=(
            ("Guarantee", card.privacy),
            ("Policy", subject.status.policy_id),
            *([("Beside earlier releases", f"{subject.status.earlier}.")] if subject.status.earlier else []),
        ),
        sections=(
            _left(subject, served),
            _guarantee(subject),
            _attacks(subject),
            *_rehearsal(subject),
            _parts(subject),
            _nearest(found),
            Section(
                "What is not covered",
                "The limits of what this page can say.",
                (Table(("not covered", "why it matters"), not_covered),),
            ),
            _decisions(subject),
        ),
    )


def _headlines(subject: Subject) -> Iterable[Verdict]:
    said = verdicts(subject.battery, subject.limits)
    for finding, level in LEVELS.items():
        names = [each.attack for each in said if each.finding == finding]
        if names:
            text = f"{', '.join(names)}. {MEANING[finding]}"
            above = [name for name in names if name in above_as_measured(subject.battery, subject.limits)]
            if above and finding == "inconclusive":
                text += f" Above it as measured: {', '.join(above)}."
            no_better = [name for name in names if name in no_better_than_guessing(subject.battery)]
            if no_better and finding == "resisted":
                text += (
                    " No better than a guess without the release, as nothing is there to find or they are too weak: "
                )
                text += f"{', '.join(no_better)}."
            yield Verdict(level, f"Attacks: {finding}", text, str(len(names)))
    if subject.status.charges:
        yield _on_people(subject)
    elif not subject.battery.shadows:
        text = "The strongest attack, shadow releases, was not made: fair4free-owner attack does, and needs time."
        yield Verdict("caution", "Attacks: not made", text, "membership")
    if subject.card.overridden:
        yield Verdict("bad", "Overridden", "Approved by two people over what attacks found.", "two people")


def _on_people(subject: Subject) -> Verdict:
    if subject.rehearsal is None:
        text = "Attacks at the gate are on microdata's rows: fair4free-owner attack rehearses the release on people."
        return Verdict("caution", "Attacks on people", text, "not made")
    reasons = exceeded_on_people(subject.rehearsal, subject.limits)
    if reasons:
        text = f"{'; '.join(reasons)}. Deny the release, with no figure of this in the reason: analysts read that."
        return Verdict("bad", "Attacks on people", text, "succeeded")
    return Verdict("good", "Attacks on people", "None is beyond the limits in the rehearsal.", "within the limits")


def _left_verdict(served: list[Served]) -> Verdict:
    parties = {each.party for each in served}
    total = sum(each.length for each in served)
    text = f"By the egress log, at the time above. Parties that received any of it: {len(parties)}."
    return Verdict("neutral", "What left", text, f"{total:,} B")


def _left(subject: Subject, served: list[Served]) -> Section:
    content = CONTENT_OF_MICRODATA if subject.card.microdata else CONTENT
    rows: list[tuple[Cell, ...]] = []
    for kind in Artefact:
        sent = sum(each.length for each in served if each.artefact is kind)
        rows.append((kind.value, subject.lengths.get(kind), sent, content[kind]))
    return Section(
        "What leaves",
        "These five and nothing else; no record, no encoder and no value of a single record is among them. Bytes sent "
        "are counted before they are sent, and again each time they are fetched.",
        (Table(("artefact", "bytes", "bytes sent", "what it holds"), tuple(rows)),),
    )


def _guarantee(subject: Subject) -> Section:
    audit = (subject.rehearsal or subject.battery).audit
    if audit is None:
        return Section(
            "Guarantee",
            f"As signed: {subject.card.privacy} No canaries were planted; fair4free-owner attack does.",
        )
    allowed, claimed = subject.limits.canary_epsilon, audit.claimed and round(audit.claimed, 3)
    row = (audit.canaries, audit.guesses, audit.correct, audit.delta, audit.epsilon, claimed, allowed)
    return Section(
        "Guarantee",
        f"As signed: {subject.card.privacy} Beside it what a run of the same training with canaries refutes, at "
        "95 % confidence (Steinke et al. 2023): no claim of a smaller ε can be true. It is a lower bound; a small "
        "one is no proof of privacy.",
        (
            Table(
                ("canaries", "guesses", "correct", "δ", "ε is at least", "ε that one draw claims", "policy allows"),
                (row,),
            ),
        ),
    )


def _attacks(subject: Subject) -> Section:
    found, limits = subject.battery, subject.limits
    results = judged(found)
    nobody = " A person is here a row of microdata, with nobody behind it." if subject.card.microdata else ""
    questions = tuple((attack.words, question) for attack, question in QUESTIONS.items() if attack in found.made)
    shadows = f" Membership used {found.shadows} shadow releases." if found.shadows else ""
    return Section(
        "Attacks",
        f"The owner attacked the release with all that an analyst gets.{nobody} Main: how often a guess about a row "
        "that was trained on is right. Control: the same about held-out rows. Baseline: without the release; an attack "
        "that does not beat it found nothing, as nothing is there or it is too weak. Risk: what main has beyond "
        "control, as a share of what control left. Brackets are 95 % Wilson intervals. TPR at 1 % FPR: the share "
        "called trained on, by a threshold that calls about 1 % of other held-out rows so; of few control rows more "
        f"may be.{shadows}",
        (
            Table(("attack", "question"), questions),
            _rates(found, limits),
        ),
        (
            intervals(
                {result.name: (result.overall.risk, *result.overall.risk_interval) for result in results},
                {result.name: limit(result.attack, limits) for result in results},
                "Risk of each attack with its 95 % interval; the bar is the policy's limit.",
            ),
        ),
    )


def _rates(found: Battery, limits: AttackLimits) -> Table:
    rows = tuple((result.name, *_cells(result.overall), limit(result.attack, limits)) for result in judged(found))
    return Table(("attack", "main", "control", "baseline", "risk", "beats baseline", "limit"), rows)


def _rehearsal(subject: Subject) -> Iterable[Section]:
    if subject.rehearsal is not None:
        yield Section(
            "Attacks on people, in a rehearsal",
            "All that made this release, done once more with four fifths of the people and canaries among them, and "
            "attacked on the people themselves; the other fifth is the control. This answer was charged to nobody: it "
            "stays in the house, and neither card nor gate knows of it.",
            (_rates(subject.rehearsal, subject.limits),),
        )


def _parts(subject: Subject) -> Section:
    found = subject.battery
    over = {(result.name, outcome.part) for result, outcome in exceeding(found, subject.limits)}
    rows: list[tuple[Cell, ...]] = []
    for result in judged(found):
        for outcome in result.outcomes:
            if outcome.part != EVERYONE:
                said = "OVER THE LIMIT" if (result.name, outcome.part) in over else "within chance or limit"
                rows.append((outcome.part, result.name, *_cells(outcome)[:2], _bracketed(outcome), said))
    return Section(
        "Groups, the rarest and columns",
        "The same for each sensitive group, for the tenth of rows that lie farthest from others, and for each "
        "hidden column. A part with fewer than ten guesses is left out; groups so small are judged together if that "
        "makes ten, and named below. One that is over the limit beyond chance (5 % over all lines of the gate, or over "
        "those that attack adds) blocks too.",
        (Table(("part", "attack", "main", "control", "risk", "finding"), tuple(rows)), *_without_a_line(subject)),
    )


def _without_a_line(subject: Subject) -> Iterable[Table]:
    """The groups that some attack did not judge by themselves."""
    judged_parts = {
        result.attack.words: {outcome.part for outcome in result.outcomes} for result in judged(subject.battery)
    }
    rows: list[tuple[Cell, ...]] = []
    for group in subject.card.groups:
        alone = {attack for attack, parts in judged_parts.items() if group_part(group.label) in parts}
        together = [name for name, parts in judged_parts.items() if name not in alone and SMALL_GROUPS in parts]
        by_none = [name for name in judged_parts if name not in alone and name not in together]
        if together or by_none:
            rows.append((group.label, ", ".join(together), ", ".join(by_none)))
    if rows:
        yield Table(("group", "judged at most together with other small groups", "not judged"), tuple(rows))


def _nearest(found: Battery) -> Section:
    rows = tuple(
        (result.name, *_cells(result.overall)[:2], _bracketed(result.overall))
        for result in found.results
        if result.attack is Attack.NEAREST_RECORD
    )
    return Section(
        "Nearest record, not evidence",
        "Calling those members who lie close to a synthetic row. Many ask for this distance. It finds "
        "little but copies, and few of them where many others have the same values: a release can pass it and fail "
        "every attack above, so the gate does not look at it.",
        (Table(("attack", "main", "control", "risk"), rows),),
    )


def _decisions(subject: Subject) -> Section:
    rows: list[tuple[Cell, ...]] = []
    for entry in subject.entries:
        if isinstance(entry, Approval | Denial | Override) and entry.version == subject.version:
            reason = "" if isinstance(entry, Approval) else entry.reason
            rows.append((entry.kind, entry.by, reason))
    blocked = subject.status.exceeded if subject.status.state is State.MEASURED else ()
    none_yet = "" if rows else " Nobody has decided yet."
    text = f"Blocked until two people override: {'; '.join(blocked)}." if blocked else f"From the egress log.{none_yet}"
    return Section("Decisions", text, (Table(("decision", "by", "reason"), tuple(rows)),) if rows else ())


def _cells(outcome: Outcome) -> tuple[str, str, str, str, str]:
    rates = [
        f"{rate.share:.3f} [{rate.interval[0]:.3f}, {rate.interval[1]:.3f}] of {rate.trials:,}"
        for rate in (outcome.main, outcome.control, outcome.baseline)
    ]
    return rates[0], rates[1], rates[2], _bracketed(outcome), "yes" if outcome.beats_baseline else "no"


def _bracketed(outcome: Outcome) -> str:
    low, high = outcome.risk_interval
    return f"{outcome.risk:z.3f} [{low:z.3f}, {high:z.3f}]"  # z: no zero with a sign
