"""Arguments that several of the owner's commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shared.errors import BadInput

NodePath = Annotated[Path, typer.Argument(metavar="NODE", help="Folder that holds everything of the owner.")]


def check_is_file_name(path: Path, argument: str) -> None:
    """Raises `BadInput` for a path to write to that has no name, as `.` and `/` have none."""
    if not path.name:
        raise BadInput("not the name of a file", field=argument, remedy="name the file to write")
