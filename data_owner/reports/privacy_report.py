"""What a privacy officer reads about one release: what leaves, what is promised, what attacks found, what is unknown.

For the owner's house: it holds figures that the card does not publish.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from data_owner.attack_gate import (
    above_as_measured,
    comparisons,
    exceeded_on_people,
    exceeding,
    judged,
    least_exceeding,
    limit,
    no_better_than_guessing,
    verdicts,
)
from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import EVERYONE, SMALL_GROUPS, Outcome, group_part
from data_owner.release_gate import SMALLEST_GROUP
from data_owner.release_status import State, Status
from data_owner.reports.privacy_words import (
    BEHIND_MICRODATA,
    CONTENT,
    CONTENT_OF_MICRODATA,
    MEANING,
    NOT_COVERED,
    OF_RECORDS,
    QUESTIONS,
    WORDS,
)
from data_owner.settings import AttackLimits
from protocol.artefacts import Artefact
from protocol.entry import Approval, Denial, Entry, Override, Served
from shared.card import Card
from shared.clock import minute
from shared.headlines import LEVELS
from shared.plots import intervals
from shared.report import Cell, Report, Section, Table, Verdict


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
        "fair4free-owner privacy writes this page anew. Not for release: it holds figures.",
        verdicts=(*_headlines(subject), _left_verdict(served)),
        facts=(
            (_title_of_statement(card), card.privacy),
            ("Policy (SHA-256)", subject.status.policy_id),
            *(
                ("Minimum count", f"{check.required:g} records: no group, category or quantile point is of fewer.")
                for check in card.checks
                if check.name == SMALLEST_GROUP
            ),
            *([("Beside earlier releases", f"{subject.status.earlier}.")] if subject.status.earlier else []),
        ),
        sections=(
            Section("Words", "As they are used on this page.", (Table(("word", "meaning"), WORDS),)),
            _left(subject, served),
            _statement(subject),
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
    lines = Counter(result.attack.words for result, _ in above_as_measured(subject.battery, subject.limits))
    for finding, level in LEVELS.items():
        names = [each.attack for each in said if each.finding == finding]
        if names:
            text = f"{', '.join(names)}. {MEANING[finding]}"
            above = [f"{name} {lines[name]}" for name in names if name in lines]
            if above and finding != "succeeded":
                text += f" Lines above it as measured, on everyone or on a part: {', '.join(above)}."
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
        how = "fair4free-owner attack makes it, and needs time" if subject.card.pictures is None else "it is for tables"
        text = f"The strongest attack was not made: {how}."
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
        "Of what is made from records only these five cross; keys, signatures and the log's proof of approval, with "
        "the approver's name, cross too. No record, no encoder and no value of a single record is among them. Bytes "
        "sent are counted before they are sent, and again each time they are fetched.",
        (Table(("artefact", "bytes", "bytes sent", "what it holds"), tuple(rows)),),
    )


def _title_of_statement(card: Card) -> str:
    """Without a budget nothing is guaranteed."""
    return "Guarantee" if card.microdata else "Privacy statement"


def _statement(subject: Subject) -> Section:
    audit, title = (subject.rehearsal or subject.battery).audit, _title_of_statement(subject.card)
    if audit is None:
        how = "fair4free-owner attack plants them" if subject.card.pictures is None else "that is for tables"
        return Section(title, f"As signed: {subject.card.privacy} No canaries were planted: {how}.")
    allowed, claimed = subject.limits.canary_epsilon, audit.claimed and round(audit.claimed, 3)
    row = (audit.canaries, audit.guesses, audit.correct, audit.delta, audit.epsilon, claimed, allowed)
    return Section(
        title,
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
    picture = intervals(
        {result.name: (result.overall.risk, *result.overall.risk_interval) for result in results},
        {result.name: limit(result.attack, limits) for result in results},
        "Risk of each attack on everyone with its 95 % interval; the bar is the policy's limit.",
    )
    questions = tuple((attack.words, question) for attack, question in QUESTIONS.items() if attack in found.made)
    shadows = f" Membership used {found.shadows} shadow releases." if found.shadows else ""
    return Section(
        "Attacks",
        f"The owner attacked the release with all that an analyst gets.{nobody} Main: how often a guess about a member "
        "is right. Control: the same about held-out rows. Baseline: without the release; an attack that does not beat "
        "it found nothing, as nothing is there or it is too weak. Risk: what main has beyond control, as a share of "
        f"what control left. Brackets: 95 % intervals.{shadows}",
        (
            Table(("attack", "question"), questions),
            _rates(found, limits),
        ),
        (replace(picture, alt=f"{picture.alt} {_parts_above(found, limits)}"),),
    )


def _parts_above(found: Battery, limits: AttackLimits) -> str:
    above = sum(outcome.part != EVERYONE for _, outcome in above_as_measured(found, limits))
    of = sum(len(result.outcomes) - 1 for result in judged(found))
    return f"Lines on parts (groups, the rarest and columns, below) above their limit as measured: {above} of {of}."


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
    found, limits = subject.battery, subject.limits
    above, over = (
        {(result.name, outcome.part) for result, outcome in lines}
        for lines in (above_as_measured(found, limits), exceeding(found, limits))
    )
    at_gate, by_attack = (comparisons(found, at_gate=each) for each in (True, False))
    together = f"{at_gate} lines of the gate" + (f", or over the {by_attack} that attack adds" if by_attack else "")
    rows: list[tuple[Cell, ...]] = []
    for result in judged(found):
        count = at_gate if result.attack in AT_EVERY_GATE else by_attack
        for outcome in result.outcomes[1:]:
            line = (result.name, outcome.part)
            said = "not above it" if line not in above else "above it, chance may explain that"
            blocks = least_exceeding(outcome, limit(result.attack, limits), count)
            least = f"{blocks.risk:.3f}: {blocks.main.successes:,} of {blocks.main.trials:,}" if blocks else None
            cells = (*_cells(outcome)[:2], _bracketed(outcome), least, "OVER THE LIMIT" if line in over else said)
            rows.append((outcome.part, result.name, *cells))
    return Section(
        "Groups, the rarest and columns",
        "The same for each sensitive group, for the rarest tenth, and for each hidden column. A part with fewer than "
        "ten guesses is left out; groups so small are judged together if that makes ten, and named below. One that is "
        f"over the limit beyond chance (5 % over all {together}, those on everyone included) blocks too. Of few people "
        "only a large risk does. Blocks from: the smallest risk that would have blocked, and how many right guesses "
        "make it, with control as it was; a dash where not even all right would.",
        (
            Table(("part", "attack", "main", "control", "risk", "blocks from", "finding"), tuple(rows)),
            *_without_a_line(subject),
        ),
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
