"""The page of a report is read on paper, by ear and without colours, and its numbers are read as what they are."""

import re
from types import SimpleNamespace

import pytest
from typer.testing import CliRunner

from consumer.audit_report import Audit
from consumer.cli import app
from data_owner.attacks.outcome import EVERYONE, Outcome, Rate
from data_owner.people import named
from data_owner.reports.owner_report import gate_section
from data_owner.reports.privacy_report import _bracketed
from protocol.entry import Denial
from shared.card import Check
from shared.diagnosis import Diagnosis, as_text
from shared.plots import short
from shared.printable import is_one_line, printable
from shared.report import WORDS, Cell, Figure, Level, Report, Section, Table, Verdict
from shared.scores import Scores


def page(*sections: Section, verdicts: tuple[Verdict, ...] = ()) -> str:
    return Report("t", "s", verdicts, (), sections).to_html()


def printed(*rows: tuple[Cell, ...]) -> list[list[str]]:
    """The cells of a table as the page has them."""
    html = page(Section("Figures", "", (Table(("a",) * len(rows[0]), rows),)))
    body = html[html.index("<tbody>") : html.index("</tbody>")]
    return [re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row) for row in body.split("</tr>")[:-1]]


def test_a_small_figure_is_not_printed_as_zero_and_all_of_a_table_have_as_many_decimals() -> None:
    assert printed((1e-5, -0.00004, 8.0, -0.0, 0.12345)) == [["1e-05", "-4e-05", "8.000", "0.000", "0.123"]]
    assert printed((30.0, 0.5), (0.25, 1000000.0)) == [["30.00", "0.50"], ["0.25", "1,000,000.00"]]


def test_figures_that_were_published_with_two_decimals_are_printed_with_two() -> None:
    assert printed(("a", 0.8, 7280), ("b", 0.41, None)) == [["a", "0.80", "7,280"], ["b", "0.41", "–"]]


def test_a_line_of_the_gate_that_counts_people_is_a_count() -> None:
    counted = Check(name="records", measured=1, required=10, passed=False)
    share = Check(name="accuracy", measured=1.0, required=1.0, passed=True)
    (table,) = gate_section(SimpleNamespace(checks=(counted, share))).tables  # type: ignore[arg-type]
    assert printed(*table.rows) == [
        ["records", "1", "10", "NO"],
        ["accuracy", "1.00", "1.00", "yes"],
    ]


@pytest.mark.parametrize("level", WORDS)
def test_the_level_of_a_verdict_is_a_word_on_the_page_and_in_a_terminal(level: Level) -> None:
    verdict = Verdict(level, "Origin", "Signed.", "verified")
    assert f">{WORDS[level]}<" in page(verdicts=(verdict,))
    assert verdict.as_line() == f"Origin: verified ({WORDS[level]}). Signed."
    assert len(set(WORDS.values())) == len(WORDS)


def test_a_line_of_a_verdict_or_a_doctor_is_one_whatever_stands_in_it() -> None:
    forged = "Signed.\npassed   invitation: fingerprint"
    assert "\n" not in Verdict("good", forged, forged, forged).as_line()
    assert "\n" not in as_text([Diagnosis("release", True, forged)])


def test_a_terminal_reads_out_the_audit_with_the_word_of_each_level(monkeypatch: pytest.MonkeyPatch) -> None:
    scores = Scores(**dict.fromkeys(Scores.model_fields, 0.9))
    found = Audit(scores, None, Report("t", "s", (Verdict("caution", "Origin", "Signed.", "unproved"),), ()))
    monkeypatch.setattr("consumer.audit_steps.audit", lambda *_, **__: found)
    said = CliRunner().invoke(app, ["audit", "study"]).stdout
    assert said.startswith("Origin: unproved (look closer). Signed.\n")


def test_a_risk_just_below_zero_is_printed_without_a_sign() -> None:
    main, control = Rate(successes=1000, trials=5000), Rate(successes=1001, trials=5000)
    outcome = Outcome(part=EVERYONE, main=main, control=control, baseline=control)
    assert outcome.risk < 0.0
    assert _bracketed(outcome).startswith("0.000 [-0.0")


def test_verdicts_are_reached_by_headings_and_end_where_the_facts_begin() -> None:
    html = page(verdicts=(Verdict("good", "Origin", "Signed."), Verdict("bad", "Gate", "Refused.")))
    region = html[html.index('role="region" aria-label="Verdicts"') : html.index("<dl>")]
    assert re.findall(r"<h2>(\w+) <span[^>]*>([\w ]+)</span></h2>", region) == [("Origin", "good"), ("Gate", "bad")]


def test_a_narrow_screen_has_facts_below_their_names_and_pictures_that_are_read_by_scrolling() -> None:
    figures = (Figure("<svg></svg>", "First."), Figure("<svg></svg>", "Second."))
    html = page(Section("Groups", "", figures=figures))
    narrow = html[html.index("@media screen and (max-width:600px)") : html.index("@media print")]
    assert re.search(r"dl \{[^}]*grid-template-columns:1fr", narrow)
    assert re.search(r"figure svg \{[^}]*min-width:880px", narrow)
    for picture in (1, 2):
        assert f'class="scroll" role="region" tabindex="0" aria-label="Groups, picture {picture}"><svg>' in html


def test_a_table_tells_a_screen_reader_its_columns_and_rows_and_can_be_scrolled_by_keys() -> None:
    html = page(Section("Scores", "", (Table(("", "rows"), (("north", 3),)), Table(("share",), ((0.5,),)))))
    assert '<td></td><th scope="col">rows</th>' in html
    assert '<th scope="row">north</th><td>3</td>' in html
    assert "<td>0.50</td>" in html, "a figure names no row"
    for table in (1, 2):
        assert f'role="region" tabindex="0" aria-label="Scores, table {table}"' in html


def test_on_paper_nothing_is_cut_off_at_the_margin() -> None:
    html = page()
    on_paper = html[html.index("@media print") : html.index("</style>")]
    assert re.search(r"\.scroll \{[^}]*overflow:visible", on_paper)
    assert re.search(r"main \{[^}]*overflow-wrap:anywhere", html), "headings, verdicts and captions hold names too"
    assert re.search(r"\.scroll \{[^}]*overflow-wrap:normal", html), "cells break where they are marked"
    assert re.search(r"\.wide thead th \{[^}]*hyphens:auto", on_paper)
    assert "@media screen and (prefers-color-scheme: dark)" in html, "light ink is not for paper"
    (key, number), *_ = printed(("0123456789abcdef" * 4, "121,724"))
    assert (key.count("<wbr>"), key.replace("<wbr>", ""), number) == (8, "0123456789abcdef" * 4, "121,724")


def test_no_character_that_does_not_show_is_on_the_page() -> None:
    """One of another direction would turn the rest of its paragraph about, a zero end it for some readers."""
    nasty = "Ada \u202eAda\u2066\0\x1b\nnext"
    figure = Figure(f"<svg><!-- {nasty} --></svg>", nasty)
    section = Section(nasty, nasty, (Table((nasty, nasty), ((nasty, nasty),)),), (figure,))
    html = Report(nasty, nasty, (Verdict("good", nasty, nasty, nasty),), ((nasty, nasty),), (section,)).to_html()
    assert all(is_one_line(line) for line in html.split("\n"))
    assert html.count("Ada \N{REPLACEMENT CHARACTER}Ada") > 10
    assert "<svg><!-- Ada " in html
    assert is_one_line(short(nasty).split("\n")[0]), "in a picture it would be a blank"


@pytest.mark.parametrize("name", ["حسین\u200cزاده", "ක්\u200dෂ", "Dr.\u00a0Ada", "12\u202f%", "\U00031350"])
def test_spaces_and_joiners_of_any_script_and_letters_that_python_does_not_know_are_shown_as_they_are(
    name: str,
) -> None:
    assert printable(name) == name
    assert named(name) == name
    assert Denial(at=0, nonce="0" * 32, by=name, version=1, reason=name).by == name


def test_what_a_report_says_is_escaped() -> None:
    nasty = "<img src=x onerror=alert(1)>"
    report = Report(
        nasty,
        nasty,
        (Verdict("good", nasty, nasty),),
        ((nasty, nasty),),
        (Section(nasty, nasty, (Table((nasty,), ((nasty,),)),)),),
    )
    assert "<img" not in report.to_html()
