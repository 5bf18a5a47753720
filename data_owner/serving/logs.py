"""Structured logs: one JSON object a line on stderr, holding nothing but what is listed here.

A value can only come from a field of `FIELDS`, and a text only from a constant of ours. Of any other library's record
only the place and the kind of error are kept: its message might quote a value.
"""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any

OURS = "fair4free"
FIELDS = (
    *("method", "code", "seconds", "caller", "version", "kind"),
    *("address", "enrolment_address", "metrics_address", "problem"),
)


class JsonLines(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        ours = record.name.split(".")[0] == OURS
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.msg if ours and not record.args else "message withheld",
        }
        line |= {name: record.__dict__[name] for name in FIELDS if ours and name in record.__dict__}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["at"] = _place(record)
        return json.dumps(line, default=str)


def configure() -> None:
    """Log to stderr from now on."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)


def _place(record: logging.LogRecord) -> str:
    """File and line where the error came up."""
    trace = record.exc_info[2] if record.exc_info else None
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename}:{trace.tb_lineno}" if trace else ""
