"""Text of others as it may be shown: no character that steers a terminal, turns a line about or begins another."""

from __future__ import annotations

import re

from pydantic import AfterValidator

# a list, not what Python calls printable: that changes with its version, and refuses spaces and joiners of some scripts
_HIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\xad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\ud800-\udfff"
    "\U000e0000-\U000e007f]"
)
"""Controls, ends of lines, marks of direction, what has no width but the two joiners, and halves of characters."""


def is_one_line(text: str) -> bool:
    """Whether it is one line, every character of which shows."""
    return not _HIDDEN.search(text)


def _checked(text: str) -> str:
    if not is_one_line(text):
        raise ValueError("must be one line, without hidden characters")
    return text


PRINTABLE = AfterValidator(_checked)
"""In the annotation of a field: its text is one line, every character of which shows."""


def printable(text: str) -> str:
    """The same text, with every character that does not show, but for the ends of lines, replaced."""
    return "\n".join(_HIDDEN.sub("\N{REPLACEMENT CHARACTER}", line) for line in text.split("\n"))


def one_line(text: str) -> str:
    """The same text, where each is to be a line: what of it came from elsewhere begins none."""
    return text.replace("\n", " ")
