"""One offline HTML page and one JSON file with the same numbers."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined

Level = Literal["good", "caution", "bad", "neutral"]
Cell = str | float | int | None


@dataclass(frozen=True)
class Verdict:
    """A finding in plain words, with the number that carries it."""

    level: Level
    title: str
    text: str
    value: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of cells; numbers are shown to three decimals."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


@dataclass(frozen=True)
class Figure:
    """An SVG picture. `alt` says in words what it shows."""

    svg: str
    alt: str


@dataclass(frozen=True)
class Section:
    """`text` says in plain words what the tables and figures mean."""

    title: str
    text: str
    tables: tuple[Table, ...] = ()
    figures: tuple[Figure, ...] = ()


@dataclass(frozen=True)
class Report:
    """Headline verdicts first, then sections in reading order. `facts` are label and value pairs."""

    title: str
    subtitle: str
    verdicts: tuple[Verdict, ...]
    facts: tuple[tuple[str, str], ...]
    sections: tuple[Section, ...] = ()

    def to_html(self) -> str:
        environment = Environment(
            loader=PackageLoader("shared"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["number"] = shown
        return environment.get_template("report.html.j2").render(report=self)

    def to_json(self) -> str:
        """Everything but the pictures."""
        content = asdict(self)
        for section in content["sections"]:
            section["figures"] = [figure["alt"] for figure in section["figures"]]
        return json.dumps(content, indent=1)


def shown(value: Cell) -> str:
    """A cell as it is printed."""
    if value is None:
        return "–"
    return f"{value:.3f}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value
