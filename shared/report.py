"""One offline HTML page and one JSON file with the same numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from shared.printable import one_line, printable

Level = Literal["good", "caution", "bad", "neutral"]
Cell = str | float | int | None

WORDS: Mapping[Level, str] = {
    "good": "good",
    "caution": "look closer",
    "bad": "bad",
    "neutral": "for information",
}
"""What is printed beside the colour of a level, which not everyone sees."""


@dataclass(frozen=True)
class Verdict:
    """A finding in plain words, with the number that carries it."""

    level: Level
    title: str
    text: str
    value: str = ""

    @property
    def word(self) -> str:
        """The level, for who does not see its colour."""
        return WORDS[self.level]

    def as_line(self) -> str:
        """For a terminal."""
        return one_line(f"{self.title}: {f'{self.value} ' if self.value else ''}({self.word}). {self.text}")


@dataclass(frozen=True)
class Table:
    """Rows of cells. The first of a row names it if it is text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    @property
    def decimals(self) -> int:
        """To which its figures are printed: two where none has more, as on a card, else three."""
        figures = [cell for row in self.rows for cell in row if isinstance(cell, float)]
        return 2 if all(round(figure, 2) == figure for figure in figures) else 3


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
            finalize=_finalized,
        )
        environment.filters |= {"number": shown, "breakable": breakable}
        return environment.get_template("report.html.j2").render(report=self)

    def to_json(self) -> str:
        """Everything but the pictures."""
        content = asdict(self)
        for section in content["sections"]:
            section["figures"] = [figure["alt"] for figure in section["figures"]]
        return json.dumps(content, indent=1)


def _finalized(value: object) -> object:
    """What stands on the page for a value of the template: nothing that turns the rest of a paragraph about."""
    if isinstance(value, Markup):
        return Markup(printable(value))
    return printable(value) if isinstance(value, str) else value


def breakable(text: str) -> Markup:
    """Text for the page, where a long word, such as a key of 64 digits, may go on in the next line."""
    marked = re.sub(r"\S{17,}", lambda word: re.sub("(.{8})", "\\1\u200b", word[0]), text)
    return escape(marked).replace("\u200b", Markup("<wbr>"))


def shown(value: Cell, decimals: int = 3) -> str:
    """A cell as it is printed: a small figure as what it is, no zero with a sign."""
    if value is None:
        return "–"
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.2g}" if value and not round(value, decimals) else f"{value:z,.{decimals}f}"
