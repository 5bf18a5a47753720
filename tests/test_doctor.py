"""The doctor holds records to all that `train` would refuse before it trains."""

from pathlib import Path

from data_owner import steps
from data_owner.node import Node
from data_owner.owner_toml import read_settings
from data_owner.privacy.budget import Budget
from shared.diagnosis import Diagnosis
from tests.conftest import patients
from tests.test_private_marginals import PUBLIC, people
from tests.test_private_node import COLUMNS, edit, of_records


def test_a_group_that_is_large_enough_but_for_what_is_held_out_is_found(tmp_path: Path) -> None:
    node, table = Node(tmp_path / "hospital"), patients()
    table["région"] = ["west"] * 10 + ["north", "south"] * 295
    steps.init(node.folder, data=table, target="died", sensitive=("région",), positive="1", small_groups="merge")
    assert of_records(node).text == "600 rows, 8 columns"
    edit(node, policy=read_settings(node).policy.model_copy(update={"small_groups": "refuse"}))
    found = of_records(node)
    assert not found.passed
    assert "records to train on" in found.text


def test_before_a_draw_the_doctor_finds_what_would_refuse_it_and_charges_nothing(tmp_path: Path) -> None:
    node = Node(tmp_path / "hospital")
    steps.init(node.folder, data=people()[COLUMNS], target="died", sensitive=("sex",), positive="1", epsilon=1.0)
    assert "must be declared" in of_records(node).text
    columns = {name: entry.model_copy(update=PUBLIC[name]) for name, entry in read_settings(node).columns.items()}
    edit(node, columns=columns)
    assert of_records(node) == Diagnosis("records", True, "2,000 rows, 4 columns")
    assert Budget(node.budget).charges() == []
