"""What a person who decides says: a name, and a reason where one is due."""

from __future__ import annotations

from shared.errors import BadInput
from shared.printable import is_one_line


def named(by: str) -> str:
    """The person who decides, without space around the name. Raises `BadInput` if nobody is named in plain text."""
    return _said(by, "a person must be named", "--by", "give your name with --by")


def reasoned(reason: str) -> str:
    """The reason of a decision, without space around it. Raises `BadInput` if there is none in plain text."""
    return _said(reason, "a reason must be given", "--reason", "say why with --reason")


def _said(text: str, problem: str, option: str, remedy: str) -> str:
    if not text.strip():
        raise BadInput(problem, field=option, remedy=remedy)
    if not is_one_line(text.strip()):  # others read it in a line of its own
        problem = "it holds the end of a line, or another hidden character"
        raise BadInput(problem, field=option, remedy="give it as one line of plain text")
    return text.strip()
