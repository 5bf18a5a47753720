"""The report is one offline page with the numbers of its JSON; the command lines speak one envelope."""

import json
import re
import subprocess
import sys
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from consumer import steps as consumer_steps
from consumer.audit_report import _of_the_owners_rows, audit_report, released_dependence
from consumer.distillation import measured_again
from consumer.lineage import Lineage, Origin, Run
from consumer.reading import Rows
from consumer.table_audit import _own_section, _synthetic_section, quantile_distance
from data_owner.learning import fitting
from data_owner.measure import LEAST_PUBLISHED, measure, reference
from data_owner.node import Node
from data_owner.privacy.statement import on_card
from data_owner.records.disclosure import disclose
from data_owner.records.ingest import ingest
from data_owner.reports.owner_report import frame, merged_table, owner_report
from protocol.artefacts import Artefact
from protocol.manifest import Manifest
from shared.canonical import restore
from shared.card import Card, Check
from shared.errors import BadInput, VerificationFailure
from shared.generation import group_shares
from shared.headlines import score_section, score_verdicts
from shared.metrics import density_coverage, out_of_fold, scores
from shared.report import Report, shown
from shared.schema import NumericColumn, Quantiles, Schema
from shared.scores import Scores
from shared.student import Distillation, Student, StudentSettings
from shared.table import drawn_rows
from tests.conftest import patients, settings_for

ROOT = Path(__file__).parent.parent
OUTSIDE = re.compile(r"""(?:src|href)\s*=\s*["'](?!#|data:)|url\((?!#|data:)|@import|https?://(?!www\.w3\.org/)""")


@pytest.fixture(scope="module")
def measured(table: pd.DataFrame, artefacts: dict[Artefact, bytes]) -> tuple[object, ...]:
    settings = settings_for(table)
    prepared = fitting.split(table, settings)
    synthesiser, distillation = reference(artefacts, StudentSettings(steps=400))
    found = measure(synthesiser, distillation, prepared.training, prepared.held_out, settings)
    return found, synthesiser, prepared.held_out


def check(report: Report) -> None:
    html = report.to_html()
    assert not OUTSIDE.search(html), OUTSIDE.search(html)
    assert "<script" not in html
    content = json.loads(report.to_json())
    assert content["title"] in html
    for section in content["sections"]:
        for table in section["tables"]:
            for row in table["rows"]:
                for cell in row:
                    if isinstance(cell, float):
                        assert shown(cell) in html or shown(cell, 2) in html


def test_the_owners_report_is_offline_and_has_the_numbers_of_its_json(measured: tuple[object, ...]) -> None:
    found, synthesiser, held_out = measured
    names = ("step", "reconstruction", "target", "divergence", "dependence", "total")
    history = [dict.fromkeys(names, 1.0), dict.fromkeys(names, 2.0)]
    report = owner_report(found, (), synthesiser, held_out, history)  # type: ignore[arg-type]
    check(report)
    assert "`" not in report.to_html()
    assert report.verdicts[0].value == "passed"
    assert report.verdicts[0].text.endswith(
        "passed when this was measured. What was found and decided since is in privacy.html."
    )
    (groups,) = (section for section in report.sections if section.title == "Groups")
    assert all(0.0 < rate < 1.0 for row in groups.tables[0].rows for rate in row[2:5])
    predicted = [row[4] for row in groups.tables[0].rows]
    parity = found.card.synthetic.demographic_parity_ratio  # type: ignore[attr-defined]
    assert f" {found.refused_by_chance} of 20 times" in groups.text  # type: ignore[attr-defined]
    assert min(predicted) / max(predicted) <= parity + 0.01  # of which the small groups, judged together, say less


def test_under_a_budget_no_headline_speaks_of_real_people(measured: tuple[object, ...]) -> None:
    card: Card = measured[0].card  # type: ignore[attr-defined]
    assert "real people" in str(frame(card, (), ()))
    (bars,) = score_section(card).figures
    assert f"parity ratio of {card.synthetic.demographic_parity_ratio:.2f}" in bars.alt
    under_a_budget = Card.from_bytes(on_card(card, "ε = 1").to_bytes())
    report = frame(under_a_budget, (), (score_section(under_a_budget),))
    said = str((report.subtitle, report.verdicts, report.sections[0].text)).lower()
    assert not any(word in said for word in ("real", "records"))
    assert all("microdata" in f"{each.title} {each.text}" for each in report.verdicts[1:4])
    worded = card.model_copy(update={"protocol": under_a_budget.protocol})
    assert worded.rows == "records", "whatever words a protocol ends in"


def test_the_owner_sees_how_much_of_a_column_was_merged() -> None:
    codes = [f"code {row // 10 % 30}" if row % 10 < 3 else "a" if row % 2 else "b" for row in range(600)]
    table = patients(600).assign(ward=codes)
    schema, disclosed = disclose(ingest(table, settings_for(table)), 10)
    (shown,) = merged_table(schema, disclosed, "records")
    assert shown.rows == (("ward", 2, 0.3),)
    assert merged_table(*disclose(ingest(patients(600), settings_for(patients(600))), 10), "records") == ()


def test_the_owner_sees_where_groups_that_were_too_small_are_counted(measured: tuple[object, ...]) -> None:
    table = patients(600)
    table.loc[:4, "région"] = "isle"
    found = fitting.split(table, settings_for(table, small_groups="merge"))
    history = [dict.fromkeys(("step", "reconstruction", "target", "divergence", "dependence", "total"), 1.0)]
    report = owner_report(*measured[:1], (), *measured[1:], history, found.merged)  # type: ignore[arg-type, misc]
    (groups,) = (section for section in report.sections if section.title == "Groups")
    assert groups.tables[1].rows == ((1, "east", 0.0083),)


BALANCED = Origin(Lineage.PROVED, Run(0, 0, 300, balanced=True))


def as_read(table: pd.DataFrame) -> Rows:
    return Rows(table, len(table), np.arange(len(table)), draw=0)


@pytest.mark.parametrize("with_real", [False, True])
def test_the_audit_is_offline_and_says_where_rows_came_from(
    measured: tuple[object, ...],
    artefacts: dict[Artefact, bytes],
    approved_node: Path,
    table: pd.DataFrame,
    with_real: bool,
) -> None:
    found, synthesiser, _ = measured
    manifest = Manifest.from_bytes((Node(approved_node).releases / "1" / "manifest.json").read_bytes())
    rows = restore(found.synthetic.head(900), synthesiser.schema)  # type: ignore[attr-defined]
    distillation = Distillation(
        distance=1e-5, gaussian_distance=2e-5, prior_distance=1e-3, history=((50, 1e-4), (100, 1e-5))
    )
    audit = audit_report(
        synthesiser,  # type: ignore[arg-type]
        found.card,  # type: ignore[attr-defined]
        manifest,
        as_read(rows),
        distillation,
        Origin(Lineage.OTHER),
        as_read(table) if with_real else None,
    )
    check(audit.report)
    assert audit.report.verdicts[0].level == "bad"
    assert (audit.on_own_records is not None) is with_real
    assert any("your own records" in section.title.lower() for section in audit.report.sections) is with_real


def test_a_student_far_from_the_released_statistics_is_said_to_be_so_whatever_its_file_says(
    measured: tuple[object, ...], approved_node: Path
) -> None:
    found, synthesiser, _ = measured
    manifest = Manifest.from_bytes((Node(approved_node).releases / "1" / "manifest.json").read_bytes())
    rows = as_read(restore(found.synthetic.head(300), synthesiser.schema))  # type: ignore[attr-defined]
    good = Scores(**dict.fromkeys(Scores.model_fields, 0.9))
    update = {**dict.fromkeys(("synthetic", "original", "ceiling"), good), "checks": ()}
    card = found.card.model_copy(update=update)  # type: ignore[attr-defined]

    def audited(student: Student) -> tuple[Distillation, Report]:
        distillation = measured_again(replace(synthesiser, student=student), found.distillation)  # type: ignore[attr-defined, type-var]
        return distillation, audit_report(
            synthesiser,  # type: ignore[arg-type]
            card,
            manifest,
            rows,
            distillation,
            BALANCED,
            None,
        ).report

    distillation, report = audited(synthesiser.student)  # type: ignore[attr-defined]
    assert distillation == found.distillation  # type: ignore[attr-defined]
    assert [verdict.level for verdict in report.verdicts[1:3]] == ["good", "good"]
    point = deepcopy(synthesiser.student)  # type: ignore[attr-defined]
    with torch.no_grad():
        point.mean.weight.zero_()
        point.log_variance.bias.fill_(-12.0)
    distillation, report = audited(point)
    assert distillation.distance > 10 * distillation.gaussian_distance
    assert [verdict.level for verdict in report.verdicts[1:3]] == ["caution", "caution"]
    assert "yours is further from the released statistics" in report.verdicts[1].text
    (latents,) = (section for section in report.sections if section.title == "Latents")
    assert latents.tables[0].rows[0] == ("student", f"{distillation.distance:.2e}")
    with torch.no_grad():
        point.mean.bias.fill_(3e38)
    with pytest.raises(VerificationFailure, match="not finite"):
        audited(point)


RECORDED = Origin(Lineage.PROVED, Run(0, 0, 300, balanced=False))


@pytest.mark.parametrize(
    ("origin", "levels"),
    [
        (BALANCED, ["good", "good", "good"]),
        (RECORDED, ["caution", "caution", "good"]),
        (Origin(Lineage.UNKNOWN), ["caution", "caution", "caution"]),
    ],
    ids=["balanced", "as recorded", "unknown"],
)
def test_what_the_owner_measured_is_no_better_than_what_is_known_of_the_rows_and_each_headline_says_why(
    measured: tuple[object, ...], origin: Origin, levels: list[str]
) -> None:
    found, synthesiser, _ = measured
    good = Scores(**dict.fromkeys(Scores.model_fields, 0.9))
    update = {**dict.fromkeys(("synthetic", "original", "ceiling"), good), "checks": ()}
    update |= {"floor": good.model_copy(update={"accuracy": 0.5}), "fidelity": found.card.fidelity_ceiling}  # type: ignore[attr-defined]
    card = found.card.model_copy(update=update)  # type: ignore[attr-defined]
    good_student = Distillation(distance=1e-5, gaussian_distance=2e-5, prior_distance=1e-3, history=((50, 1e-4),))
    said = _of_the_owners_rows(card, origin, good_student, synthesiser.schema)  # type: ignore[attr-defined]
    assert [verdict.level for verdict in said] == levels
    for verdict, measured_by_owner in zip(said, score_verdicts(card), strict=True):
        assert (verdict.level == "good") is (verdict.text == measured_by_owner.text)


def test_an_audit_lists_the_checks_that_the_card_says_did_not_pass(
    measured: tuple[object, ...], approved_node: Path
) -> None:
    found, synthesiser, _ = measured
    manifest = Manifest.from_bytes((Node(approved_node).releases / "1" / "manifest.json").read_bytes())
    rows = as_read(restore(found.synthetic.head(300), synthesiser.schema))  # type: ignore[attr-defined]
    passed = Check(name="accuracy, share of original", measured=0.99, required=0.9, passed=True)
    failed = Check(name="coverage, share of real", measured=0.31, required=0.8, passed=False)

    def of_the_gate(*checks: Check) -> list[str]:
        card = found.card.model_copy(update={"checks": checks})  # type: ignore[attr-defined]
        distillation = found.distillation  # type: ignore[attr-defined]
        report = audit_report(synthesiser, card, manifest, rows, distillation, BALANCED, None).report  # type: ignore[arg-type]
        return [verdict.text for verdict in report.verdicts if verdict.title == "Held to the owner's policy"]

    assert of_the_gate(passed) == []
    said = "By its card the release does not pass: "
    assert of_the_gate(passed, failed) == [f"{said}coverage, share of real is 0.31, asked for is 0.8."]
    assert of_the_gate() == [f"{said}nothing was checked."]


@pytest.mark.parametrize(("repair", "labels"), [(1.2, "repaired, not observed outcomes"), (0.0, "as recorded ones")])
def test_an_audit_says_what_may_not_be_concluded_from_rows_and_how_to_weigh_them(
    measured: tuple[object, ...], approved_node: Path, repair: float, labels: str
) -> None:
    found, synthesiser, _ = measured
    card = found.card.model_copy(update={"repair": repair})  # type: ignore[attr-defined]
    manifest = Manifest.from_bytes((Node(approved_node).releases / "1" / "manifest.json").read_bytes())
    rows = as_read(restore(synthesiser.table(0, 600, balanced=True), synthesiser.schema))  # type: ignore[attr-defined]
    distillation = found.distillation  # type: ignore[attr-defined]
    report = audit_report(synthesiser, card, manifest, rows, distillation, BALANCED, None).report  # type: ignore[arg-type]
    facts = dict(report.facts)
    assert facts["Labels"].startswith(labels)
    unknown = Origin(Lineage.UNKNOWN)
    others = audit_report(synthesiser, card, manifest, rows, distillation, unknown, None).report  # type: ignore[arg-type]
    assert dict(others.facts)["Labels"] == "not known"
    assert f"some {card.records:,} records" in facts["Standard errors"]
    assert "the recorded rate of held-out ones" in facts["Measured by the owner"]
    (section,) = (each for each in report.sections if each.title == "On synthetic rows alone")
    groups = section.tables[1].rows
    assert [row[0] for row in groups] == [group.label for group in synthesiser.schema.groups]  # type: ignore[attr-defined]
    assert [row[1] / len(rows.table) for row in groups] == [row[2] for row in groups]  # type: ignore[operator]
    assert [row[3] for row in groups] == group_shares(synthesiser.schema).tolist()  # type: ignore[attr-defined]
    assert [row[4] for row in groups] == [group.records for group in card.groups]


def test_a_card_is_coarse_and_hides_rates_of_small_groups(measured: tuple[object, ...]) -> None:
    card: Card = measured[0].card  # type: ignore[attr-defined]
    assert Card.from_bytes(card.to_bytes()) == card
    for value in [*card.synthetic.model_dump().values(), *card.fidelity.model_dump().values()]:
        assert round(value, 2) == value
    assert card.records % 10 == 0
    for group in card.groups:
        assert group.records % 10 == 0
        assert group.records >= LEAST_PUBLISHED or group.recorded_rate is None


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"\xff", b'{"format": 2}'])
def test_a_card_or_schema_that_is_none_is_refused_by_name(data: bytes) -> None:
    with pytest.raises(BadInput) as caught:
        Card.from_bytes(data)
    assert caught.value.field == "card"
    with pytest.raises(BadInput) as caught:
        Schema.from_bytes(data)
    assert caught.value.field == "schema"


def test_quantile_distance_is_small_for_the_table_itself_and_large_for_another(measured: tuple[object, ...]) -> None:
    _, synthesiser, held_out = measured
    (age,) = (
        column
        for column in synthesiser.schema.columns  # type: ignore[attr-defined]
        if isinstance(column, NumericColumn) and column.name == "age"
    )
    assert quantile_distance(age, held_out["age"]) < 0.15  # type: ignore[index]
    assert quantile_distance(age, held_out["age"] + 40) > 0.4  # type: ignore[index]
    assert quantile_distance(age, pd.Series([], dtype=float)) == 1.0


@pytest.mark.parametrize("decimals", [0, 1])
def test_quantile_distance_of_rows_drawn_from_the_table_and_rounded_is_none(decimals: int) -> None:
    """A value rounds to a point from half a step above it too."""
    quantiles = Quantiles(ranks=(0.0, 0.25, 0.5, 1.0), values=(0.0, 0.0, 2.0, 4.0))
    column = NumericColumn(
        name="stay", kind="number", dtype="float64", optional=False, decimals=decimals, quantiles=quantiles
    )
    drawn = np.interp(np.random.default_rng(0).random(200_000), quantiles.ranks, quantiles.values)
    assert quantile_distance(column, pd.Series(drawn.round(decimals))) < 0.005


def test_released_dependence_is_zero_for_equal_groups_and_known_for_one_that_is_apart(
    measured: tuple[object, ...],
) -> None:
    synthesiser = measured[1]
    statistics = synthesiser.statistics  # type: ignore[attr-defined]
    real, imaginary = (part[:1].expand_as(part) for part in (statistics.real, statistics.imaginary))

    def dependence(real: Tensor) -> float:
        changed = replace(statistics, real=real, imaginary=imaginary)
        return released_dependence(replace(synthesiser, statistics=changed))  # type: ignore[type-var]

    assert dependence(real) == pytest.approx(0.0, abs=1e-10)
    first, *others = group_shares(synthesiser.schema).tolist()  # type: ignore[attr-defined]
    apart = first**2 * (1.0 - first) ** 2 + sum(share**2 for share in others) * first**2
    assert dependence(real + torch.eye(len(real))[:, :1]) == pytest.approx(apart, rel=1e-4)


def test_an_analyst_is_told_how_synthetic_rows_do_on_her_own_records_and_how_much_of_them_they_cover(
    disclosed: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = disclosed
    own, four_people = table.iloc[:300], table.iloc[np.arange(300) % 4]
    found, section = _own_section(schema, four_people.assign(died="0"), own)
    assert found.accuracy == pytest.approx((own["died"] == "0").mean()), "the model is of the synthetic rows"
    (_, coverage), *_ = section.tables[1].rows
    assert 0.0 < coverage < 0.5  # type: ignore[operator]


def test_density_and_coverage_of_own_records_do_not_hang_on_the_order_of_the_synthetic_file(
    disclosed: tuple[Schema, pd.DataFrame],
) -> None:
    schema, table = disclosed
    own = table.sample(60, random_state=0)

    def fidelity(rows: pd.DataFrame) -> tuple[object, ...]:
        return _own_section(schema, rows, own)[1].tables[1].rows[0]

    as_generated = fidelity(table.sample(frac=1.0, random_state=1))
    assert fidelity(table.sort_values(["died", "age"])) == pytest.approx(as_generated, abs=0.1)


@pytest.mark.parametrize("text", ["", "1", "0/3", "4/3", "a/b", "1/0", "-1/2", "1/2/3", "1/" + "9" * 5000])
def test_a_shard_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(BadInput, match="shard"):
        consumer_steps.parse_shard(text)


def run(program: str, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    code = f"from {program}.cli import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=cwd, capture_output=True, text=True, env=None, check=False
    )


@pytest.mark.parametrize(
    ("program", "arguments", "code"),
    [
        ("data_owner", ("doctor", "nowhere"), 2),
        ("data_owner", ("init", "node", "--data", "nowhere.csv", "--target", "t", "--sensitive", "s"), 3),
        ("data_owner", ("init", "node", "--dataset", "unknown"), 2),
        ("consumer", ("fetch", "nowhere"), 2),
        ("consumer", ("enrol", "study", "--invitation", "nowhere.json"), 3),
    ],
)
def test_errors_are_one_envelope_and_an_exit_code(
    program: str, arguments: tuple[str, ...], code: int, tmp_path: Path
) -> None:
    done = run(program, *arguments, "--json", cwd=tmp_path)
    assert done.returncode == code, done.stderr
    envelope = json.loads(done.stdout)
    assert (envelope["command"], envelope["ok"], envelope["exit_code"]) == (arguments[0], False, code)
    assert envelope["error"]["problem"]
    assert envelope["error"]["remedy"]
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_approving_what_was_not_measured_is_exit_1(approved_node: Path, tmp_path: Path) -> None:
    done = run("data_owner", "approve", str(approved_node), "--by", "Ada", "--json", cwd=tmp_path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["kind"] == "PolicyRefusal"


BESIDE = ["synthetic rows", "ceiling: groups permuted", "constant classifier: the commonest class"]


def test_few_records_of_ones_own_are_compared_with_few_rows_beside_ceiling_and_constant_classifier(
    disclosed: tuple[Schema, pd.DataFrame],
) -> None:
    """Of many rows some lie near anything."""
    schema, table = disclosed
    own, rows = table.iloc[:50].reset_index(drop=True), table.iloc[50:].reset_index(drop=True)
    _, section = _own_section(schema, rows, own)
    assert [row[0] for row in section.tables[0].rows] == BESIDE
    few, every = (
        density_coverage(own, each, schema, seed=0) for each in (drawn_rows(rows, 200, np.random.default_rng(0)), rows)
    )
    assert few.density != every.density
    assert section.tables[1].rows == ((few.density, few.coverage),)


def test_what_rows_say_of_themselves_has_ceiling_and_constant_classifier_too(
    disclosed: tuple[Schema, pd.DataFrame], measured: tuple[object, ...]
) -> None:
    schema, table = disclosed
    found, section = _synthetic_section(schema, measured[0].card, table)  # type: ignore[attr-defined]
    synthetic, ceiling, floor = section.tables[0].rows
    assert [synthetic[0], ceiling[0], floor[0]] == BESIDE
    assert synthetic[1:] == found.cells()
    assert found == scores(table, out_of_fold(table, schema), schema)
    assert synthetic[3:] == pytest.approx(ceiling[3:]), "who is in which group changes nothing but the ratios"
    assert synthetic[1:3] != ceiling[1:3]
    assert floor[1:3] == (1.0, 1.0)
