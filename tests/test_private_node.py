"""A node with a budget: records are charged for and read once, and all that leaves is made of microdata."""

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from data_owner import decisions, digests, findings, release, steps
from data_owner.attacks.attack import AT_EVERY_GATE, Attack
from data_owner.attacks.outcome import Audit
from data_owner.cli import app
from data_owner.doctor import diagnose
from data_owner.learning import fitting
from data_owner.node import Node
from data_owner.owner_toml import dump, parse, read_settings
from data_owner.privacy import microdata, private_marginals, rehearsal
from data_owner.privacy.accounting import Guarantee, affordable
from data_owner.privacy.budget import Budget
from data_owner.privacy.statement import privacy_statement, statement
from data_owner.records import records_file
from data_owner.records.ingest import Records
from data_owner.settings import UNBOUNDED, AttackLimits, Floors, PrivacySettings
from protocol.artefacts import Artefact
from shared.card import Card
from shared.diagnosis import Diagnosis
from shared.errors import BadInput, PolicyRefusal, Unreachable
from shared.progress import quiet
from shared.table import read_table
from tests.conftest import QUICK, QUICK_STUDENT, patients, record_measured, short_training, write_draft
from tests.test_private_marginals import PUBLIC, declared, people

COLUMNS = ["age", "gain", "sex", "died"]
NO_FLOORS = Floors(**dict.fromkeys(Floors.model_fields, 0.0))
# what chance does to a small release's attacks is not the matter here
NO_LIMITS = AttackLimits(
    **{name: 1.0 for name in AttackLimits.model_fields if name not in ("required", "inconclusive")}
)


def edit(node: Node, **changes: object) -> None:
    """What a person does in owner.toml."""
    found = read_settings(node)
    node.settings.write_text(dump(found.model_copy(update=changes)), encoding="utf-8")


def drawn(node: Node) -> Path:
    """The microdata of the node's settings."""
    return node.microdata(digests.microdata_key(node, read_settings(node)))


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Node, list[Path]]:
    """A node at ε = 1 whose release has been through its gate, and the tables that were read after the draw."""
    node = Node(tmp_path_factory.mktemp("owner") / "hospital")
    steps.init(node.folder, data=people()[COLUMNS], target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    found = read_settings(node)
    with pytest.raises(PolicyRefusal, match="must be declared"):
        steps.train(node.folder)
    assert Budget(node.budget).charges() == []
    edit(
        node,
        columns={name: entry.model_copy(update=PUBLIC[name]) for name, entry in found.columns.items()},
        policy=found.policy.model_copy(update={"floors": NO_FLOORS, "attacks": NO_LIMITS}),
    )
    read: list[Path] = []

    def noting(path: Path) -> object:
        read.append(path)
        return read_table(path)

    with short_training() as patch:
        steps.train(node.folder)
        patch.setattr(microdata, "read_table", noting)
        patch.setattr(steps, "read_table", noting)
        patch.setattr(records_file, "read_table", noting)
        steps.gate(node.folder)
    return node, read


@pytest.fixture
def gated(original: tuple[Node, list[Path]], tmp_path: Path) -> Node:
    """A fresh copy of it, to do anything to."""
    shutil.copytree(original[0].folder, tmp_path / "hospital")
    return Node(tmp_path / "hospital")


def test_after_the_draw_no_record_is_read_and_the_card_says_so(original: tuple[Node, list[Path]], gated: Node) -> None:
    node, read = original
    assert read == [drawn(node)]
    manifest = decisions.approve(gated.folder, by="Dr. Test")
    card = Card.from_bytes((gated.releases / "1" / Artefact.CARD.filename).read_bytes())
    assert manifest.privacy == card.privacy
    for said in ("ε = ", "δ = 1e-05", "Unit: ", "Neighbours: ", "no sampling", "Accountants: ", "Numerics: "):
        assert said in manifest.privacy
    assert "microdata drawn under it, not people's records" in card.protocol
    assert "rarest category" not in str(card.checks), "nobody is behind microdata, and categories are declared"
    assert not gated.rows(1).exists(), "what a budget bounds needs no comparison of records"
    assert "people behind the microdata" in gated.privacy_report.read_text("utf-8")
    report = json.loads(gated.figures.read_text("utf-8"))
    assert report["title"] == "What hospital would release: release 1"
    assert report["subtitle"].startswith("20")


def test_a_rehearsal_is_of_people_and_stays_in_the_house(gated: Node) -> None:
    leaves = {path: path.read_bytes() for path in (gated.releases / "1").iterdir()}
    budget = gated.budget.read_bytes()
    with short_training() as patch:
        patch.setattr(rehearsal, "StudentSettings", QUICK_STUDENT)
        done = CliRunner().invoke(app, ["attack", str(gated.folder), "--json"])
    assert done.exit_code == 0, done.output
    said = json.loads(done.stdout)["result"]
    assert said["rehearsal"]
    assert set(said["attacks"]) == {attack.words for attack in (*AT_EVERY_GATE, Attack.CANARIES)}
    assert {path: path.read_bytes() for path in (gated.releases / "1").iterdir()} == leaves
    assert gated.budget.read_bytes() == budget, "no answer leaves, so none is charged"
    assert gated.rehearsal(1).stat().st_mode & 0o077 == 0
    sections = {each["title"]: each for each in json.loads(gated.privacy_figures.read_text("utf-8"))["sections"]}
    assert "neither card nor gate" in sections["Attacks on people, in a rehearsal"]["text"]
    (table,) = sections["Guarantee"]["tables"]
    row = dict(zip(table["columns"], table["rows"][0], strict=True))
    assert row["ε is at least"] <= row["ε that one draw claims"] <= 1.0
    found = gated.rehearsal(1).read_bytes()
    again = CliRunner().invoke(app, ["attack", str(gated.folder), "--json"])
    assert again.exit_code == 1
    assert "a second could hide the first" in again.output
    assert gated.rehearsal(1).read_bytes() == found


def test_what_was_rehearsed_for_another_release_is_not_shown(gated: Node) -> None:
    found = findings.last(gated, 1)
    assert found is not None
    audit = Audit(canaries=100, guesses=50, correct=50, delta=1e-5, epsilon=2.7, refutable=2.7, claimed=1.0)
    rehearsed = found.model_copy(update={"audit": audit})
    gated.rehearsal(1).write_bytes(rehearsed.model_copy(update={"release": "of another"}).to_bytes())
    assert findings.rehearsed(gated, found.release) is None
    gated.rehearsal(1).write_bytes(rehearsed.to_bytes())
    assert findings.rehearsed(gated, found.release) == rehearsed


def test_the_same_release_under_another_version_is_not_rehearsed_again(gated: Node) -> None:
    found = findings.last(gated, 1)
    assert found is not None
    audit = Audit(canaries=100, guesses=50, correct=50, delta=1e-5, epsilon=2.7, refutable=2.7, claimed=1.0)
    gated.rehearsal(1).write_bytes(found.model_copy(update={"audit": audit}).to_bytes())
    shutil.copytree(gated.releases / "1", gated.releases / "2")
    shutil.copy(gated.attacks(1), gated.attacks(2))
    done = CliRunner().invoke(app, ["attack", str(gated.folder), "--json"])
    assert done.exit_code == 1
    assert "a second could hide the first" in done.output


def test_the_privacy_officer_reads_that_a_rehearsal_refuted_the_guarantee(gated: Node) -> None:
    found = findings.last(gated, 1)
    assert found is not None
    audit = Audit(canaries=100, guesses=50, correct=50, delta=1e-5, epsilon=2.7, refutable=2.7, claimed=1.0)
    gated.rehearsal(1).write_bytes(found.model_copy(update={"audit": audit}).to_bytes())
    decisions.write_privacy_report(gated.folder, version=1)
    said = {each["title"]: each for each in json.loads(gated.privacy_figures.read_text("utf-8"))["verdicts"]}
    assert said["Attacks on people"]["level"] == "bad"
    assert "canaries refute the guarantee" in said["Attacks on people"]["text"]
    assert "no figure of this in the reason" in said["Attacks on people"]["text"]


def test_shadow_releases_are_refused_under_a_budget(gated: Node) -> None:
    done = CliRunner().invoke(app, ["attack", str(gated.folder), "--shadows", "2", "--json"])
    assert done.exit_code == 2
    assert json.loads(done.stdout)["error"]["field"] == "--shadows"


def test_looking_at_the_budget_spends_nothing(gated: Node) -> None:
    before = gated.budget.read_bytes()
    done = CliRunner().invoke(app, ["budget", str(gated.folder), "--json"])
    said = json.loads(done.stdout)["result"]
    assert (done.exit_code, said["epsilon"], len(said["charges"])) == (0, 1.0, 1)
    assert 0.0 < said["spent"]["epsilon"] <= 1.0
    assert said["left"] == pytest.approx(1.0 - said["spent"]["epsilon"], abs=1e-3)
    assert said["next"] is None, "the one draw is made"
    assert gated.budget.read_bytes() == before


def test_training_again_on_the_same_microdata_costs_nothing(gated: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "default_settings", lambda schema: QUICK)
    before = drawn(gated).read_bytes()
    edit(gated, training=read_settings(gated).training.model_copy(update={"repair": 0.5}))
    steps.train(gated.folder)
    assert drawn(gated).read_bytes() == before
    assert len(Budget(gated.budget).charges()) == 1
    assert Budget(gated.budget).spent(1e-5).epsilon <= 1.0


def test_microdata_serves_whatever_the_budget_is_raised_to_and_is_rehearsed_as_it_was_drawn(gated: Node) -> None:
    found = read_settings(gated)
    raised = found.model_copy(update={"privacy": PrivacySettings(epsilon=2.0, delta=1e-6, draws=2)})
    assert microdata.load(gated, raised)[0].equals(microdata.load(gated, found)[0])
    assert microdata.charged(gated, raised) == pytest.approx(affordable(1.0, 1e-5))
    lowered = found.model_copy(update={"privacy": PrivacySettings(epsilon=0.9)})
    with pytest.raises(PolicyRefusal, match="more is spent than the budget"):
        microdata.load(gated, lowered)


def test_changed_columns_need_another_draw_which_the_budget_refuses(gated: Node) -> None:
    found = read_settings(gated)
    wider = found.columns["age"].model_copy(update={"bounds": (0.0, 120.0)})
    edit(gated, columns={**found.columns, "age": wider})
    with pytest.raises(PolicyRefusal, match="budget does not allow it"):
        steps.train(gated.folder)
    with pytest.raises(PolicyRefusal, match="no microdata of these records"):
        steps.prepare(gated, read_settings(gated))
    assert "budget does not allow it" in of_records(gated).text


def test_going_back_to_settings_that_were_drawn_for_costs_nothing(gated: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(microdata, "draw", lambda records, settings, asked, progress: people(150)[COLUMNS])
    privacy = PrivacySettings(epsilon=2.0, draws=2)
    first = read_settings(gated).model_copy(update={"privacy": privacy})
    kept = microdata.load(gated, first)[0]
    wider = first.columns["age"].model_copy(update={"bounds": (0.0, 120.0)})
    microdata.make(gated, first.model_copy(update={"columns": {**first.columns, "age": wider}}), privacy, quiet)
    assert len(Budget(gated.budget).charges()) == 2
    microdata.make(gated, first, privacy, quiet)
    assert len(Budget(gated.budget).charges()) == 2
    assert microdata.load(gated, first)[0].equals(kept)


def test_a_release_is_not_gated_on_other_microdata_than_it_was_made_from(gated: Node) -> None:
    drawn(gated).write_bytes(gated.records.read_bytes())
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        steps.gate(gated.folder)


def test_the_doctor_looks_at_microdata_and_not_at_records_that_are_charged_for(gated: Node) -> None:
    assert of_records(gated).text.endswith("rows of microdata, 4 columns")


def of_records(node: Node) -> Diagnosis:
    """What the doctor says of a node's records."""
    return next(found for found in diagnose(node) if found.name == "records")


def test_microdata_of_one_unit_does_not_serve_for_another(gated: Node) -> None:
    found = read_settings(gated)
    microdata.load(gated, found)
    of_persons = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=3)
    with pytest.raises(PolicyRefusal, match="no microdata of these records"):
        microdata.load(gated, found.model_copy(update={"privacy": of_persons}))


def test_microdata_that_was_tampered_with_is_not_used(gated: Node) -> None:
    drawn(gated).write_bytes(gated.records.read_bytes())
    with pytest.raises(PolicyRefusal, match="no microdata of these records"):
        steps.prepare(gated, read_settings(gated))


def test_a_draw_that_fails_has_spent_its_charge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    node = Node(tmp_path / "hospital")
    table = people(400)[COLUMNS].assign(patient=lambda frame: [f"patient {row // 4}" for row in frame.index])
    steps.init(node.folder, data=table, target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    found = read_settings(node)
    columns = {name: entry.model_copy(update=PUBLIC.get(name, {})) for name, entry in found.columns.items()}
    columns["patient"] = found.columns["patient"].model_copy(update={"kind": "exclude"})
    assert found.privacy is not None
    privacy = found.privacy.model_copy(update={"person": "patient", "rows_per_person": 2})
    edit(node, columns=columns, privacy=privacy)
    seen: list[int] = []

    def failing(records: Records, *rest: object) -> None:
        seen.append(len(records.frame))
        raise InterruptedError

    monkeypatch.setattr(microdata, "draw", failing)
    with pytest.raises(InterruptedError):
        steps.train(node.folder)
    assert seen == [200], "two rows of each patient"
    (charge,) = Budget(node.budget).charges()
    assert charge.sha256 is None
    with pytest.raises(PolicyRefusal, match="budget does not allow it"):
        steps.train(node.folder)


def test_all_that_who_serves_needs_not_is_readable_by_its_owner_alone(gated: Node) -> None:
    files = [path for place in gated.withheld for path in (place, *place.rglob("*")) if path.is_file()]
    kept = gated.records, drawn(gated), gated.encoder, gated.attacks(1), gated.report, gated.figures
    assert {*kept} < {*files}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_what_was_made_without_a_budget_is_never_signed_as_private(node: Node) -> None:
    made, card = release.trained_artefacts(node, 1), (node.releases / "1" / Artefact.CARD.filename).read_bytes()
    version = write_draft(node, made)
    record_measured(node, version, card)
    edit(node, privacy=PrivacySettings(epsilon=1.0))
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        decisions.approve(node.folder, by="Dr. Test")
    edit(node, privacy=None)
    assert decisions.approve(node.folder, by="Dr. Test").privacy == UNBOUNDED


def test_a_node_that_let_out_a_release_without_a_budget_cannot_begin_one(node: Node) -> None:
    decisions.deny(node.folder, by="Dr. Test", reason="it has left all the same")
    edit(node, privacy=PrivacySettings(epsilon=1.0))
    with pytest.raises(PolicyRefusal, match="without a privacy budget"):
        steps.train(node.folder)
    (node.releases / "1" / release.STATE).unlink()
    with pytest.raises(Unreachable, match="nothing says whether a privacy budget bounds it"):
        steps.train(node.folder)
    assert Budget(node.budget).charges() == []


def test_a_node_that_let_out_a_release_under_a_budget_lets_none_out_without(gated: Node) -> None:
    decisions.approve(gated.folder, by="Dr. Test")
    decisions.deny(gated.folder, by="Dr. Test", reason="it has left all the same")
    edit(gated, privacy=None)
    with pytest.raises(PolicyRefusal, match="it counts on all that this node lets out"):
        steps.train(gated.folder)
    assert "counts on all" in of_records(gated).text


def test_a_card_that_states_another_guarantee_is_not_approved(gated: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    version = release.latest(gated)
    monkeypatch.setattr(decisions, "privacy_statement", lambda node, settings: "another")
    monkeypatch.setattr(decisions, "check_unchanged", lambda node, version, settings: None)
    card = (gated.releases / "1" / Artefact.CARD.filename).read_bytes()
    record_measured(gated, version, card, 200)
    with pytest.raises(PolicyRefusal, match="another privacy guarantee"):
        decisions.approve(gated.folder, by="Dr. Test")


def test_a_ledger_that_forgot_what_a_release_was_made_from_is_not_used(gated: Node) -> None:
    gated.budget.unlink()
    Budget.create(gated.budget)
    with pytest.raises(Unreachable, match="older than a release"):
        steps.train(gated.folder)
    with pytest.raises(Unreachable, match="older than a release"):
        decisions.approve(gated.folder, by="Dr. Test")
    assert Budget(gated.budget).charges() == []
    assert "older than a release" in of_records(gated).text


@pytest.mark.parametrize(("rdp", "pld"), [(1.0001, 0.9), (0.9, 1.0001)])
def test_the_signed_epsilon_is_the_larger_of_two_accountants_rounded_up(rdp: float, pld: float) -> None:
    spent = Guarantee(rdp=rdp, pld=pld, delta=1e-5)
    assert "ε = 1.001, δ = 1e-05," in statement(declared(people()), PrivacySettings(epsilon=2.0), spent)


def test_the_signed_statement_tells_of_every_kind_of_answer_and_of_what_people_decide_by_looking() -> None:
    said = statement(declared(people()), PrivacySettings(epsilon=2.0), Guarantee(rdp=1.0, pld=1.0, delta=1e-5))
    assert "counts of records, and sums of absolute differences between counts and a model's, with Gaussian" in said
    assert "what people decide after looking at the records or at a rehearsal on them" in said


def test_without_a_budget_the_release_says_that_nothing_bounds_it_whatever_else_it_says(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    found = steps.init(str(node.folder), data=patients(), target="died", sensitive=("région",), positive="1")
    assert found.privacy is None
    assert privacy_statement(node, found) == UNBOUNDED
    assert "without differential privacy: nothing bounds" in UNBOUNDED
    boasting = found.model_copy(update={"policy": found.policy.model_copy(update={"privacy": "Anonymous."})})
    assert privacy_statement(node, boasting) == f"{UNBOUNDED} Anonymous."


def test_under_a_budget_the_positive_class_is_named_and_not_read_off_the_records(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="public") as caught:
        steps.init(tmp_path / "hospital", data=people()[COLUMNS], target="died", sensitive=("sex",), epsilon=1.0)
    assert caught.value.field == "--positive"
    assert not (tmp_path / "hospital").exists()


@pytest.mark.parametrize(
    "section",
    [
        "epsilon = 0.0",
        "epsilon = 1.0\ndelta = 0.5",
        "epsilon = 1.0\nrows_per_person = 3",
        'epsilon = 1.0\nperson = "age"',
        'epsilon = 1.0\nperson = "nobody"',
        "delta = 1e-6",
    ],
)
def test_a_budget_that_says_nothing_sound_is_refused(section: str, tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    steps.init(node.folder, data=patients(), target="died", sensitive=("région",), positive="1")
    text = node.settings.read_text(encoding="utf-8")
    with pytest.raises(BadInput, match="privacy"):
        parse(text.replace("\n[columns", f"\n[privacy]\n{section}\n\n[columns", 1))


def test_what_noise_left_too_little_of_is_left_out_and_not_refused() -> None:
    """Nothing that a person could do about it is free once the budget is spent."""
    drawn = people(90)[COLUMNS].assign(
        gain=0, age=lambda frame: frame["age"].where(frame.index < 9), weight=70.5, stay=range(90)
    )
    drawn["died"] = [0] * 43 + [1] * 42 + [2] * 5
    found = declared(people())
    died = found.columns["died"].model_copy(update={"categories": ("0", "1", "2", "3")})
    stay = found.columns["age"].model_copy(update={"bounds": (0.0, 90.0)})
    found = found.model_copy(update={"columns": {**found.columns, "died": died, "stay": stay}})
    left, kept = private_marginals.varied(drawn, found)
    assert list(left.columns) == list(kept.columns) == ["sex", "died", "stay"]
    assert (len(left), kept.columns["died"].categories) == (85, ("0", "1"))
    prepared = fitting.split(left, kept)
    assert (len(prepared.training), prepared.schema.target.categories) == (68, ("0", "1"))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("died", [0] * 191 + [1] * 9),
        ("died", [0] * 100 + [2] * 100),
        ("sex", ["f"] * 191 + ["m"] * 9),
        ("age", [30] * 200),
    ],
    ids=["one class", "not the positive", "one group", "no feature"],
)
def test_of_too_little_the_refusal_names_what_helps_and_no_second_draw(column: str, values: list[object]) -> None:
    drawn = people(200)[["age", "sex", "died"]].assign(**{column: values})
    with pytest.raises(PolicyRefusal, match="noise left less than two classes") as refused:
        private_marginals.varied(drawn, declared(people()))
    assert "new node" in refused.value.remedy


def test_a_group_that_noise_left_small_is_merged_without_another_draw_if_the_policy_says_so() -> None:
    drawn = people(200)[COLUMNS].assign(sex=["f"] * 100 + ["m"] * 95 + [None] * 5)
    found = declared(people())
    with pytest.raises(PolicyRefusal, match="fewer than 10 rows") as refused:
        private_marginals.varied(drawn, found)
    assert "needs no other draw" in refused.value.remedy
    merging = found.model_copy(update={"policy": found.policy.model_copy(update={"small_groups": "merge"})})
    prepared = fitting.split(*private_marginals.varied(drawn, merging))
    assert {group.values for group in prepared.schema.groups} == {("f",), ("m",)}


def test_a_csv_that_was_read_without_a_budget_is_not_drawn_from(tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    people()[COLUMNS].to_csv(path, index=False)
    asked = {"target": "died", "sensitive": ("sex",), "positive": "1"}
    steps.init(tmp_path / "typed", data=path, **asked)
    node = Node(tmp_path / "typed")
    columns = {name: entry.model_copy(update=PUBLIC[name]) for name, entry in read_settings(node).columns.items()}
    edit(node, privacy=PrivacySettings(epsilon=1.0), columns=columns)
    with pytest.raises(PolicyRefusal, match="read without a budget"):
        steps.train(node.folder)
    assert Budget(node.budget).charges() == []
    steps.init(tmp_path / "text", data=path, **asked, epsilon=1.0)
    stored = pd.read_parquet(Node(tmp_path / "text").records)
    assert all(pd.api.types.is_string_dtype(stored[name]) for name in stored)
