"""A node with a budget: records are charged for and read once, and all that leaves is made of microdata."""

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from data_owner import decisions, fitting, preconditions, release, steps
from data_owner.cli import app
from data_owner.ingest import Records
from data_owner.node import Node
from data_owner.owner_toml import dump, parse, read_settings
from data_owner.privacy import microdata, private_marginals
from data_owner.privacy.accounting import Guarantee
from data_owner.privacy.budget import Budget
from data_owner.privacy.statement import privacy_statement, statement
from data_owner.settings import UNBOUNDED, AttackLimits, Floors, PrivacySettings
from protocol.artefacts import Artefact
from shared.card import Card
from shared.clock import now
from shared.errors import BadInput, PolicyRefusal, Unreachable
from shared.table import read_table
from tests.conftest import QUICK, patients, short_training
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


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Node:
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
    with short_training():
        steps.train(node.folder)
    return node


def test_after_the_draw_no_record_is_read_and_the_card_says_so(trained: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []

    def noting(path: Path) -> object:
        read.append(path)
        return read_table(path)

    monkeypatch.setattr(microdata, "read_table", noting)
    monkeypatch.setattr(steps, "read_table", noting)
    with short_training():
        steps.gate(trained.folder)
    assert read == [trained.microdata]
    manifest = decisions.approve(trained.folder, by="Dr. Test")
    card = Card.from_bytes((trained.releases / "1" / Artefact.CARD.filename).read_bytes())
    assert manifest.privacy == card.privacy
    for said in ("ε = ", "δ = 1e-05", "Unit: ", "Neighbours: ", "no sampling", "Accountants: ", "Numerics: "):
        assert said in manifest.privacy
    assert "microdata drawn under it, not people's records" in card.protocol
    assert "rarest category" not in str(card.checks), "nobody is behind microdata, and categories are declared"
    assert "people behind the microdata" in trained.privacy_report.read_text("utf-8")


def test_looking_at_the_budget_spends_nothing(trained: Node) -> None:
    before = trained.budget.read_bytes()
    done = CliRunner().invoke(app, ["budget", str(trained.folder), "--json"])
    said = json.loads(done.stdout)["result"]
    assert (done.exit_code, said["epsilon"], len(said["charges"])) == (0, 1.0, 1)
    assert 0.0 < said["spent"]["epsilon"] <= 1.0
    assert trained.budget.read_bytes() == before


def test_training_again_on_the_same_microdata_costs_nothing(trained: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "default_settings", lambda schema: QUICK)
    before = trained.microdata.read_bytes()
    edit(trained, training=read_settings(trained).training.model_copy(update={"repair": 0.5}))
    steps.train(trained.folder)
    assert trained.microdata.read_bytes() == before
    assert len(Budget(trained.budget).charges()) == 1
    assert Budget(trained.budget).spent(1e-5).epsilon <= 1.0


def test_changed_columns_need_another_draw_which_the_budget_refuses(trained: Node) -> None:
    found = read_settings(trained)
    wider = found.columns["age"].model_copy(update={"bounds": (0.0, 120.0)})
    edit(trained, columns={**found.columns, "age": wider})
    try:
        with pytest.raises(PolicyRefusal, match="budget does not allow it"):
            steps.train(trained.folder)
        with pytest.raises(PolicyRefusal, match="no microdata of these records"):
            steps.prepare(trained, read_settings(trained))
    finally:
        edit(trained, columns=found.columns)


def test_microdata_of_one_unit_does_not_serve_for_another(trained: Node) -> None:
    found = read_settings(trained)
    microdata.load(trained, found)
    of_persons = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=3)
    with pytest.raises(PolicyRefusal, match="no microdata of these records"):
        microdata.load(trained, found.model_copy(update={"privacy": of_persons}))


def test_microdata_that_was_tampered_with_is_not_used(trained: Node) -> None:
    before = trained.microdata.read_bytes()
    trained.microdata.write_bytes(trained.records.read_bytes())
    try:
        with pytest.raises(PolicyRefusal, match="no microdata of these records"):
            steps.prepare(trained, read_settings(trained))
    finally:
        trained.microdata.write_bytes(before)


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


@pytest.fixture(scope="module")
def unbounded(tmp_path_factory: pytest.TempPathFactory) -> Node:
    """A node without a budget whose release has been through its gate."""
    node = Node(tmp_path_factory.mktemp("owner") / "hospital")
    steps.init(node.folder, data=people()[COLUMNS], target="died", sensitive=("sex",), positive="1")
    found = read_settings(node)
    edit(node, policy=found.policy.model_copy(update={"floors": NO_FLOORS, "attacks": NO_LIMITS}))
    with short_training():
        steps.train(node.folder)
        steps.gate(node.folder)
    return node


def test_all_that_who_serves_needs_not_is_readable_by_its_owner_alone(unbounded: Node) -> None:
    files = [path for place in unbounded.withheld for path in (place, *place.rglob("*")) if path.is_file()]
    assert {unbounded.records, unbounded.encoder, unbounded.attacks(1), unbounded.report, unbounded.figures} < {*files}
    assert [path for path in files if path.stat().st_mode & 0o077] == []


def test_what_was_made_without_a_budget_is_never_signed_as_private(unbounded: Node) -> None:
    edit(unbounded, privacy=PrivacySettings(epsilon=1.0))
    with pytest.raises(PolicyRefusal, match="changed since this release was trained"):
        decisions.approve(unbounded.folder, by="Dr. Test")
    edit(unbounded, privacy=None)
    assert decisions.approve(unbounded.folder, by="Dr. Test").privacy == UNBOUNDED


def test_a_node_that_let_out_a_release_without_a_budget_cannot_begin_one(unbounded: Node) -> None:
    decisions.deny(unbounded.folder, by="Dr. Test", reason="it has left all the same")
    found = read_settings(unbounded)
    columns = {name: entry.model_copy(update=PUBLIC[name]) for name, entry in found.columns.items()}
    edit(unbounded, privacy=PrivacySettings(epsilon=1.0), columns=columns)
    with pytest.raises(PolicyRefusal, match="without a privacy budget"):
        steps.train(unbounded.folder)
    assert Budget(unbounded.budget).charges() == []


def test_a_card_that_states_another_guarantee_is_not_approved(trained: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    version = release.latest(trained)
    monkeypatch.setattr(decisions, "privacy_statement", lambda node, settings: "another")
    monkeypatch.setattr(decisions, "check_unchanged", lambda node, version, settings: None)
    card = (trained.releases / "1" / Artefact.CARD.filename).read_bytes()
    release.record_measured(trained, version, card, 200, (), preconditions.policy_id(read_settings(trained)), now())
    with pytest.raises(PolicyRefusal, match="another privacy guarantee"):
        decisions.approve(trained.folder, by="Dr. Test")


def test_a_ledger_that_forgot_what_a_release_was_made_from_is_not_used(trained: Node) -> None:
    spent = trained.budget.read_bytes()
    trained.budget.unlink()
    Budget.create(trained.budget)
    try:
        with pytest.raises(Unreachable, match="older than a release"):
            steps.train(trained.folder)
        assert Budget(trained.budget).charges() == []
    finally:
        trained.budget.write_bytes(spent)


@pytest.mark.parametrize(("rdp", "pld"), [(1.0001, 0.9), (0.9, 1.0001)])
def test_the_signed_epsilon_is_the_larger_of_two_accountants_rounded_up(rdp: float, pld: float) -> None:
    spent = Guarantee(rdp=rdp, pld=pld, delta=1e-5)
    assert "ε = 1.001, δ = 1e-05," in statement(declared(people()), PrivacySettings(epsilon=2.0), spent)


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
