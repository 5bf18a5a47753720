"""Arguments that several of the owner's commands take."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

NodePath = Annotated[Path, typer.Argument(metavar="NODE", help="Folder that holds everything of the owner.")]
