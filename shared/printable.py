"""Text of others as it may be shown: no character that steers a terminal, turns a line about or begins another."""

from __future__ import annotations

from pydantic import AfterValidator


def _checked(text: str) -> str:
    if not text.isprintable():
        raise ValueError("must be one line of characters that can be printed")
    return text


PRINTABLE = AfterValidator(_checked)
"""In the annotation of a field: its text is one line, every character of which shows."""


def printable(text: str) -> str:
    """The same text, with every character that does not show, but for the ends of lines, replaced."""
    return "\n".join(line if line.isprintable() else _replaced(line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """The same text, where each is to be a line: what of it came from elsewhere begins none."""
    return text.replace("\n", " ")


def _replaced(line: str) -> str:
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)
