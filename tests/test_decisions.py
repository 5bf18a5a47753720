"""What people decide of a release that was measured, and what the page says then."""


import pytest
from typer.testing import CliRunner

from data_owner import decisions, preconditions, release
from data_owner.cli import app
from data_owner.ledger import Ledger
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.release import State
from protocol.artefacts import TRAINED, Artefact
from protocol.entry import Denial, Entry, parse_entry
from shared import folder
from shared.clock import now
from tests.conftest import record_measured


def another(node: Node, made: dict[Artefact, bytes]) -> int:
    """A newer release of these bytes, measured, with the card of the first."""
    version = release.write_draft(node, made, preconditions.settings_digest(node, read_settings(node)), now())
    record_measured(node, version, folder.read(node.release(1) / Artefact.CARD.filename, ""))
    return version


def renewed(node: Node) -> int:
    """The first release once more, from unchanged records, approved."""
    another(node, release.trained_artefacts(node, 1))
    return decisions.approve(node.folder, by="Ada").version


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
    assert list(release.servable(node, now())) == [other]
    assert denials(node) == [(again, "Ada", "recalled"), (1, "Ada", "recalled")]


def test_whoever_denies_an_idle_release_takes_out_the_same_that_is_served(node: Node) -> None:
    draft = release.write_draft(node, release.trained_artefacts(node, 1), "", now())
    idle = release.write_draft(node, dict.fromkeys(TRAINED, b"d"), "", now())
    assert decisions.deny(node.folder, by="Ada", reason="recalled", version=idle).same == ()
    assert list(release.servable(node, now())) == [1]
    assert "and with it 1, which is the same byte for byte" in said(node, "--version", str(draft))
    assert release.servable(node, now()) == {}


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
    assert release.servable(node, now()) == {}
    assert {release.status(node, each).state for each in (1, again)} == {State.DENIED}
    decisions.deny(node.folder, by="Ben", reason="again", version=1)
    assert denials(node) == [(again, "Ada", "recalled"), (1, "Ada", "recalled")]
