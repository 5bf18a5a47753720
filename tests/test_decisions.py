"""What people decide of a release that was measured, and what the page says then."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from data_owner import decisions, digests, findings, ledger_export, release, roots, servable
from data_owner.attacks.attack import Attack
from data_owner.attacks.battery import Battery
from data_owner.attacks.outcome import EVERYONE, Outcome, Rate, Result
from data_owner.cli import app
from data_owner.doctor import diagnose
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.privacy.statement import on_card
from data_owner.release_status import State
from data_owner.reports.ledger_report import ledger_report
from protocol.artefacts import TRAINED, Artefact
from protocol.entry import Denial, Entry, parse_entry
from protocol.ledger_file import verify_ledger
from shared import folder
from shared.clock import now
from shared.errors import PolicyRefusal
from tests.conftest import record_measured, write_draft


def another(node: Node, made: dict[Artefact, bytes]) -> int:
    """A newer release of these bytes, measured, with the card of the first."""
    version = write_draft(node, made)
    record_measured(node, version, folder.read(node.release(1) / Artefact.CARD.filename, ""))
    return version


def renewed(node: Node) -> int:
    """The first release once more, from unchanged records, approved."""
    another(node, release.trained_artefacts(node, 1))
    return decisions.approve(node.folder, by="Ada").version


def of_node(node: Node) -> dict[str, Any]:
    """The privacy officer's page as it lies there."""
    found: dict[str, Any] = json.loads(node.privacy_figures.read_text("utf-8"))
    return found


GUESSED = {"main": 3, "control": 0, "baseline": 0}


def attacked(node: Node, guessed: dict[str, int] = GUESSED, trials: int = 20) -> int:
    """A newer release, measured under the node's policy, about which so many of `trials` guesses were right."""
    version = write_draft(node, release.trained_artefacts(node, 1))
    outcome = Outcome(part=EVERYONE, **{name: Rate(successes=of, trials=trials) for name, of in guessed.items()})
    battery = Battery(
        release=release.status(node, version).made_sha256,
        results=(Result(attack=Attack.ATTRIBUTE_INFERENCE, aim="a rate", outcomes=(outcome,)),),
    )
    findings.keep(node, version, findings.card(node, 1), battery, read_settings(node), now())
    return version


def loosen(node: Node) -> None:
    """What a person does in owner.toml once a release is measured."""
    text = node.settings.read_text().replace("attribute_inference = 0.1", "attribute_inference = 0.9")
    node.settings.write_text(text)


def denials(node: Node) -> list[tuple[int, str, str]]:
    with Ledger(node.ledger) as log:
        entries = map(parse_entry, log.entries())
        return [(each.version, each.by, each.reason) for each in entries if isinstance(each, Denial)]


def said(node: Node, *words: str) -> str:
    done = CliRunner().invoke(app, ["deny", str(node.folder), "--by", "Ada", "--reason", "recalled", *words])
    assert done.exit_code == 0, done.output
    return " ".join(done.output.split())


def test_a_recall_takes_out_every_release_of_the_same_bytes_and_logs_each(node: Node) -> None:
    again = renewed(node)
    other = another(node, {**release.trained_artefacts(node, 1), Artefact.DECODER: b"d"})
    decisions.approve(node.folder, by="Ada")
    told = said(node, "--version", "1")
    assert f"release 1 denied, and with it {again}, which is the same byte for byte." in told
    assert f"still be served: {other}." in told
    assert list(servable.manifests(node, now())) == [other]
    assert denials(node) == [(again, "Ada", "recalled"), (1, "Ada", "recalled")]


def test_whoever_denies_an_idle_release_takes_out_the_same_that_is_served(node: Node) -> None:
    draft = write_draft(node, release.trained_artefacts(node, 1))
    idle = write_draft(node, dict.fromkeys(TRAINED, b"d"))
    assert decisions.deny(node.folder, by="Ada", reason="recalled", version=idle).same == ()
    assert list(servable.manifests(node, now())) == [1]
    assert "and with it 1, which is the same byte for byte" in said(node, "--version", str(draft))
    assert servable.manifests(node, now()) == {}


@pytest.mark.parametrize("logged", [0, 1])
def test_a_recall_that_was_stopped_has_withdrawn_all_of_it_and_is_completed_by_denying_again(
    node: Node, logged: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    again, append, done = renewed(node), Ledger.append, list[Entry]()

    def stopped(log: Ledger, entry: Entry) -> int:
        if len(done) == logged:
            raise KeyboardInterrupt
        done.append(entry)
        return append(log, entry)

    monkeypatch.setattr(Ledger, "append", stopped)
    with pytest.raises(KeyboardInterrupt):
        decisions.deny(node.folder, by="Ada", reason="recalled", version=1)
    monkeypatch.undo()
    assert servable.manifests(node, now()) == {}
    assert {release.status(node, each).state for each in (1, again)} == {State.DENIED}
    decisions.deny(node.folder, by="Ben", reason="again", version=1)
    assert denials(node) == [(again, "Ada", "recalled"), (1, "Ada", "recalled")]


def limits_shown(page: dict[str, Any]) -> list[float]:
    (attacks,) = (each for each in page["sections"] if each["title"] == "Attacks")
    return [row[-1] for row in attacks["tables"][1]["rows"]]


def test_a_page_is_judged_by_the_policy_that_its_release_was_measured_under(node: Node) -> None:
    version = attacked(node)
    loosen(node)
    assert read_settings(node).policy.attacks.attribute_inference == 0.9
    decisions.write_privacy_report(node.folder, version=version)
    page = of_node(node)
    assert limits_shown(page) == [0.1]
    (unsure,) = (each for each in page["verdicts"] if each["title"] == "Attacks: inconclusive")
    assert "nor shown to be within it" in unsure["text"]
    assert "Lines above it as measured, on everyone or on a part: attribute inference 1." in unsure["text"]


@pytest.mark.parametrize(("without_the_release", "named"), [(900, True), (100, False)])
def test_an_attack_that_is_no_better_than_guessing_is_resisted_and_named(
    node: Node, without_the_release: int, named: bool
) -> None:
    """Of a perfectly private release none is better."""
    attacked(node, {"main": 900, "control": 900, "baseline": without_the_release}, trials=2000)
    decisions.write_privacy_report(node.folder)
    (resisted,) = (each for each in of_node(node)["verdicts"] if each["title"] == "Attacks: resisted")
    assert resisted["text"].endswith("or they are too weak: attribute inference.") is named
    assert "says nothing" not in str(of_node(node)["sections"])


def test_of_a_release_whose_gate_was_cut_off_there_is_no_page(node: Node) -> None:
    version = write_draft(node, release.trained_artefacts(node, 1))
    folder.write(node.attacks(version), node.attacks(1).read_bytes(), folder.PRIVATE)
    with pytest.raises(PolicyRefusal, match="cut off before it was done"):
        decisions.write_privacy_report(node.folder)


def test_the_page_says_what_became_of_its_release_and_of_when_it_is(node: Node) -> None:
    decisions.write_privacy_report(node.folder, version=1)
    assert "The release is approved. As of 20" in of_node(node)["subtitle"]
    version = attacked(node)  # not by all attacks that the policy requires
    decisions.write_privacy_report(node.folder, version=version)
    assert "The release is measured, and the gate refused it. As of 20" in of_node(node)["subtitle"]
    decisions.deny(node.folder, by="Ada", reason="recalled", version=version)
    page = of_node(node)
    assert page["title"] == f"Privacy of release {version} of hospital"
    assert "The release is denied, and the gate refused it. As of 20" in page["subtitle"]
    assert " UTC; fair4free-owner privacy writes this page anew." in page["subtitle"]
    assert "recalled" in str(page["sections"][-1])
    assert "Parties that received any of it: 0." in page["verdicts"][-1]["text"]
    assert "`" not in node.privacy_report.read_text("utf-8")


def test_under_a_budget_the_page_speaks_of_rows_of_microdata(node: Node) -> None:
    card = on_card(findings.card(node, 1), "ε = 1")
    folder.write(node.release(1) / Artefact.CARD.filename, card.to_bytes())
    decisions.write_privacy_report(node.folder)
    page = of_node(node)
    assert f"{card.records:,} rows of microdata were trained on" in page["subtitle"]
    section = {each["title"]: each for each in page["sections"]}
    content = {row[0]: row[3] for row in section["What leaves"]["tables"][0]["rows"]}
    assert content["decoder"] == "weights of a model trained on microdata"
    assert "minimum count" not in content["schema"], "no people are counted there"
    assert "a row of microdata, with nobody behind it" in section["Attacks"]["text"]
    not_covered = {row[0] for row in section["What is not covered"]["tables"][0]["rows"]}
    assert "people behind the microdata" in not_covered
    assert not not_covered & {"several releases", "schema and card", "the sketch by group"}, "the guarantee covers them"


def test_the_page_names_who_has_overridden_so_far(node: Node) -> None:
    attacked(node, {"main": 900, "control": 100, "baseline": 0}, trials=2000)
    decisions.override(node.folder, by="Ada", reason="no other data on this disease")
    assert "no other data on this disease" in str(of_node(node)["sections"][-1])


def test_a_release_is_denied_though_no_page_can_say_so(node: Node) -> None:
    node.settings.write_text("not a setting")
    decisions.deny(node.folder, by="Ada", reason="recalled")
    assert release.status(node, 1).state is State.DENIED


def test_the_log_tells_under_which_policy_a_release_was_approved_and_the_doctor_which_one_holds_now(node: Node) -> None:
    policy = digests.policy_id(read_settings(node))[:16]
    report = ledger_report(verify_ledger(ledger_export.export(node), roots.newest(node)))
    (decided,) = (each for each in report.sections if each.title == "Decisions")
    assert [row[4] for row in decided.tables[0].rows if row[1] == "approval"] == [policy]
    (said,) = (each.text for each in diagnose(node) if each.name == "policy")
    assert policy in said


def test_a_denial_is_on_the_page_though_the_policy_is_being_edited(node: Node) -> None:
    version = attacked(node)
    decisions.write_privacy_report(node.folder)
    before = of_node(node)["subtitle"]
    node.settings.write_text(node.settings.read_text("utf-8") + "\nhalf a line", "utf-8")
    decisions.deny(node.folder, by="Ada", reason="recalled", version=version)
    assert before != of_node(node)["subtitle"]
    assert "denied" in of_node(node)["subtitle"]
