"""A schema's limits hold where an owner with a budget declares it, too."""

import pandas as pd
import pytest

from data_owner.records.infer import infer
from data_owner.records.ingest import read
from shared.errors import BadInput
from shared.limits import LIMITS
from shared.schema import MISSING


@pytest.mark.parametrize("declared", [("1",), ("1", MISSING), tuple(map(str, range(LIMITS.classes + 1)))])
def test_an_owner_who_declares_too_few_or_too_many_classes_is_told_so(
    declared: tuple[str, ...],
) -> None:
    table = pd.DataFrame({"age": [*range(20, 80)] * 2, "sex": ["f", "m"] * 60, "died": ["0", "1", "1"] * 40})
    settings = infer(table, name="n", source="s", target="died", sensitive=("sex",))
    columns = dict(settings.columns)
    columns["age"] = columns["age"].model_copy(update={"kind": "integer", "bounds": (0.0, 100.0)})
    columns["sex"] = columns["sex"].model_copy(update={"categories": ("f", "m")})
    columns["died"] = columns["died"].model_copy(update={"kind": "category", "categories": declared})
    with pytest.raises(BadInput, match="2 to 100 classes") as caught:
        read(table, settings.model_copy(update={"columns": columns}), as_declared=True)
    assert caught.value.field == "died"
