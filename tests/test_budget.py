"""The budget: charged before anything is drawn, by one process at a time, and never less than was spent."""

import json
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from data_owner import steps
from data_owner.cli import app
from data_owner.doctor import diagnose
from data_owner.node import Node
from data_owner.owner_toml import dump
from data_owner.privacy.accounting import Query, affordable, guarantee
from data_owner.privacy.budget import Budget
from data_owner.privacy.budget_state import state
from data_owner.settings import OwnerSettings, PrivacySettings
from shared.errors import BadInput, PolicyRefusal, Unreachable
from tests.test_private_marginals import declared, people

ROOT = Path(__file__).parent.parent
ONE = PrivacySettings(epsilon=1.0)
ALL = Query(what="all of it", noise_multiplier=(1.0 / (2.0 * affordable(1.0, 1e-5))) ** 0.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    Budget.create(tmp_path / "budget.sqlite")
    return tmp_path / "budget.sqlite"


def start(path: Path, how: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.charge", str(path), "1.0", how],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def test_of_processes_that_race_for_the_last_of_it_one_gets_it(path: Path) -> None:
    racing = [start(path, "wait") for _ in range(4)]
    for process in racing:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in racing:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    codes = sorted(process.wait(60) for process in racing)
    for process in racing:
        process.communicate()
    assert codes == [0, 1, 1, 1]
    assert len(Budget(path).charges()) == 1


def test_a_kill_between_charge_and_draw_leaves_it_spent(path: Path) -> None:
    process = start(path, "stop")
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGKILL
    (charge,) = Budget(path).charges()
    assert charge.sha256 is None
    assert Budget(path).spent(1e-5).epsilon == pytest.approx(1.0, abs=1e-3)
    assert start(path, "").wait(60) == 1


def test_a_refusal_says_what_is_spent_and_spends_nothing(path: Path) -> None:
    Budget(path).charge([ALL], ONE, "a", 0)
    with pytest.raises(PolicyRefusal, match=r"ε 1\.000 of 1 is spent") as refused:
        Budget(path).charge([ALL], ONE, "b", 0)
    assert refused.value.field == "privacy.epsilon"
    assert len(Budget(path).charges()) == 1


def test_a_larger_budget_or_a_smaller_one_is_held_to_all_that_was_charged(path: Path) -> None:
    Budget(path).charge([ALL], ONE, "a", 0)
    Budget(path).charge([ALL], PrivacySettings(epsilon=2.0), "a", 0)
    small = Query(what="small", noise_multiplier=1000.0)
    with pytest.raises(PolicyRefusal):
        Budget(path).charge([small], ONE, "a", 0)


def asking(rho: float) -> Query:
    return Query(what="all of it", noise_multiplier=(1.0 / (2.0 * rho)) ** 0.5)


@pytest.mark.parametrize("draws", [1, 3])
def test_draws_that_were_agreed_on_are_alike_and_there_is_no_other(path: Path, draws: int) -> None:
    agreed = PrivacySettings(epsilon=1.0, draws=draws)
    for _ in range(draws):
        rho = Budget(path).next_rho(agreed)
        assert rho == pytest.approx(affordable(1.0, 1e-5, draws), rel=1e-9)
        Budget(path).charge([asking(rho)], agreed, "a", 0)
    for more in (agreed, agreed.model_copy(update={"draws": draws + 1})):
        with pytest.raises(PolicyRefusal, match="budget does not allow it") as refused:
            Budget(path).next_rho(more)
    assert "raise epsilon and draws" in refused.value.remedy


def test_epsilon_and_draws_raised_allow_a_draw_of_what_is_left_and_no_more(path: Path) -> None:
    Budget(path).charge([ALL], ONE, "a", 0)
    raised = PrivacySettings(epsilon=1.5, draws=2)
    Budget(path).charge([asking(Budget(path).next_rho(raised))], raised, "b", 0)
    assert 1.48 < Budget(path).spent(1e-5).epsilon <= 1.5
    with pytest.raises(PolicyRefusal):
        Budget(path).next_rho(raised)


def test_a_lowered_budget_leaves_the_next_draw_less(path: Path) -> None:
    two = PrivacySettings(epsilon=1.0, draws=2)
    first = Budget(path).next_rho(two)
    Budget(path).charge([asking(first)], two, "a", 0)
    lowered = two.model_copy(update={"epsilon": 0.9})
    rho = Budget(path).next_rho(lowered)
    assert rho < first
    Budget(path).charge([asking(rho)], lowered, "b", 0)
    assert 0.88 < Budget(path).spent(1e-5).epsilon <= 0.9


def test_draws_that_protect_different_units_do_not_add_up(path: Path) -> None:
    small = Query(what="small", noise_multiplier=1000.0)
    Budget(path).charge([small], ONE, "a", 0)
    by_patient = PrivacySettings(epsilon=1.0, person="patient", rows_per_person=10)
    with pytest.raises(PolicyRefusal, match="another unit") as refused:
        Budget(path).charge([small], by_patient, "a", 0)
    assert refused.value.field == "privacy.person"
    assert len(Budget(path).charges()) == 1


def test_charges_can_be_neither_changed_nor_deleted(path: Path) -> None:
    charge = Budget(path).charge([ALL], ONE, "a", 0)
    Budget(path).keep_result(charge, "0" * 64)
    with sqlite3.connect(path) as database:
        for change in ("UPDATE charges SET at = 1", "DELETE FROM charges", "UPDATE results SET sha256 = ''"):
            with pytest.raises(sqlite3.DatabaseError, match="append-only"):
                database.execute(change)


def test_one_charge_makes_one_thing(path: Path) -> None:
    charge = Budget(path).charge([ALL], ONE, "a", 0)
    Budget(path).keep_result(charge, "0" * 64)
    with pytest.raises(PolicyRefusal):
        Budget(path).keep_result(charge, "1" * 64)
    assert set(Budget(path).made("a")) == {"0" * 64}
    assert Budget(path).made("b") == {}


def test_a_budget_that_vanished_is_not_begun_anew(tmp_path: Path, path: Path) -> None:
    with pytest.raises(BadInput):
        Budget.create(path)
    path.unlink()
    with pytest.raises(Unreachable):
        Budget(path)


def test_what_the_next_draw_would_ask_is_what_it_is_charged_for(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    table = people()[["age", "gain", "sex", "died"]]
    steps.init(node.folder, data=table, target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    asked = declared(table)
    fresh = state(node, asked, ONE)
    assert (fresh.charges, fresh.totals, fresh.spent.epsilon) == ((), (), 0.0)
    assert fresh.following is not None
    assert 0.9 < fresh.following.epsilon <= fresh.left == 1.0
    Budget(node.budget).charge(fresh.following.queries, ONE, "a", 0)
    drawn = state(node, asked, ONE)
    assert drawn.totals == (drawn.spent.epsilon,) == (fresh.following.epsilon,)
    assert drawn.following is None
    assert f"ε {drawn.spent.epsilon:.3f} of 1 is spent" in drawn.refused
    assert "raise epsilon and draws" in drawn.refused
    done = CliRunner().invoke(app, ["budget", str(node.folder)])
    assert f"ε {drawn.spent.epsilon:.3f} of 1 is spent in 1 of 1 draws" in done.output
    assert "the next draw would be refused" in done.output


def test_a_program_reads_the_same_of_a_node_with_a_budget_and_of_one_that_has_none_any_more(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    table = people()[["age", "gain", "sex", "died"]]
    steps.init(node.folder, data=table, target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    asked = declared(table)
    following = state(node, asked, ONE).following
    assert following is not None
    Budget(node.budget).charge(following.queries, ONE, "a", 0)

    def told(settings: OwnerSettings) -> dict[str, Any]:
        node.settings.write_text(dump(settings), encoding="utf-8")
        done = CliRunner().invoke(app, ["budget", str(node.folder), "--json"])
        return json.loads(done.stdout)["result"]  # type: ignore[no-any-return]

    bounded, unbounded = told(asked), told(asked.model_copy(update={"privacy": None}))
    assert len(bounded["charges"]) == 1
    assert unbounded == {**dict.fromkeys(bounded), "charges": bounded["charges"]}
    assert bounded["next"] is None
    assert "raise epsilon and draws" in bounded["refused"], "it is not that there is no budget"
    more = told(asked.model_copy(update={"privacy": PrivacySettings(epsilon=2.0, draws=2)}))
    assert (more["draws"], more["refused"]) == (2, None)
    assert more["next"]["epsilon"] > 1.0


def test_a_class_spelt_otherwise_is_told_before_it_spends_the_budget_and_refuses_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    table = people()[["age", "gain", "sex", "died"]]
    steps.init(node.folder, data=table, target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    asked = declared(table)
    node.settings.write_text(dump(asked), encoding="utf-8")
    (records,) = (each for each in diagnose(node) if each.name == "records")
    assert records.passed
    capital = asked.columns["sex"].model_copy(update={"categories": ("F", "M")})
    wrong = asked.model_copy(update={"columns": {**asked.columns, "sex": capital}})
    node.settings.write_text(dump(wrong), encoding="utf-8")
    (records,) = (each for each in diagnose(node) if each.name == "records")
    assert not records.passed
    assert "does not declare: most of sex;" in records.text
    done = CliRunner().invoke(app, ["budget", str(node.folder)])
    assert done.exit_code == 0, done.output
    assert "does not declare: most of sex;" in done.output
    following = state(node, asked, ONE).following
    assert following is not None
    assert state(node, wrong, ONE).following == replace(following, undeclared={"sex": "most"})
    assert Budget(node.budget).charges() == []


@settings(max_examples=5, deadline=None)
@given(st.lists(st.floats(5.0, 100.0), min_size=1, max_size=4))
def test_whatever_is_asked_for_what_is_charged_never_passes_the_budget(
    tmp_path_factory: pytest.TempPathFactory, multipliers: list[float]
) -> None:
    path = tmp_path_factory.mktemp("budget") / "budget.sqlite"
    Budget.create(path)
    allowed = []
    for multiplier in multipliers:
        query = Query(what="one", noise_multiplier=multiplier)
        try:
            Budget(path).charge([query], ONE, "a", 0)
        except PolicyRefusal:
            assert guarantee([*allowed, query], 1e-5).epsilon > 1.0
            continue
        allowed.append(query)
    assert Budget(path).spent(1e-5).epsilon <= 1.0
    assert [query for charge in Budget(path).charges() for query in charge.queries] == allowed
