"""What both command lines share: one JSON envelope, progress with time left, errors as exit codes."""

from __future__ import annotations

import errno
import io
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType
from typing import Annotated, Any, NoReturn

import click
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from shared import signals
from shared.errors import BadInput, Fair4FreeError, Unreachable
from shared.folder import permitted
from shared.printable import one_line, printable
from shared.progress import Pace

LINE_EVERY_SECONDS = 5.0
OURS = ("consumer", "data_owner", "protocol", "shared")
"""Packages of this distribution: what lacks one of them is broken, and no extra mends it."""


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(version("fair4free"))
        raise typer.Exit


Json = Annotated[bool, typer.Option("--json", help="One JSON envelope on stdout.")]
Version = Annotated[
    bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Show the version and exit.")
]


class Stopped(Fair4FreeError):
    """A signal ended the command."""

    def __init__(self, code: int) -> None:
        super().__init__(f"stopped by {signal.Signals(code - 128).name}")
        self.exit_code = code


class Bug(Fair4FreeError):
    """A fault of this program. What is said of it may hold a data value, so a program is told its kind alone."""

    exit_code = os.EX_SOFTWARE


@dataclass
class Shell:
    """One command on its way: where its result and its diagnostics go.

    The result goes to stdout, as text or as one JSON envelope; everything else goes to stderr.
    """

    command: str
    as_json: bool
    err: Console = field(default_factory=lambda: Console(stderr=True, highlight=False))

    def result(self, values: dict[str, Any], text: str) -> None:
        """End of a command that went well. Raises `Unreachable` where stdout takes nothing."""
        try:
            _to_stdout((self._envelope(0, {"result": values}) if self.as_json else printable(text)) + "\n")
        except BrokenPipeError:
            raise
        except OSError as error:
            raise Unreachable(
                f"done, but its result cannot be written: {os.strerror(error.errno or errno.EIO).lower()}",
                field="stdout",
                remedy="see where stdout leads",
            ) from error

    def failed(self, error: Fair4FreeError) -> int:
        """Report an error; returns the exit code."""
        if self.as_json:
            with suppress(OSError):  # stderr says it all the same
                _to_stdout(self._envelope(error.exit_code, {"error": error.as_json()}) + "\n")
        where = f"{error.field}: " if error.field else ""
        self._say(f"[bold red]error[/] {_plain(one_line(where + error.problem))}")
        if error.remedy:
            self._say(f"[bold]remedy[/] {_plain(one_line(error.remedy))}")
        return error.exit_code

    def note(self, text: str) -> None:
        self._say(_plain(text))

    def _say(self, markup: str) -> None:
        with suppress(OSError):  # no step stops, and none ends otherwise, because stderr is full
            self.err.print(markup, soft_wrap=True)

    @contextmanager
    def progress(self, title: str) -> Iterator[Callable[[int, int, str], None]]:
        """A bar with time left on a terminal that can redraw a line, a line now and then elsewhere."""
        if not self.err.is_terminal or self.err.is_dumb_terminal:
            yield self._lines(title)
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[message]}"),
        )
        with Progress(*columns, console=self.err, transient=True) as bar:
            task = bar.add_task(title, total=None, message="")

            def update(step: int, total: int, message: str) -> None:
                bar.update(task, completed=step, total=total, message=message)

            yield update

    def _lines(self, title: str) -> Callable[[int, int, str], None]:
        last, pace = time.monotonic(), Pace()

        def update(step: int, total: int, message: str) -> None:
            nonlocal last
            now = time.monotonic()
            left = pace.left(step, total, now)
            if now - last > LINE_EVERY_SECONDS:
                last = now
                self.note(f"{title}: {step} of {total}, {'' if left is None else f'{left:.0f} s left, '}{message}")

        return update

    def _envelope(self, code: int, content: dict[str, Any]) -> str:
        return json.dumps({"command": self.command, "ok": code == 0, "exit_code": code, **content})


def _to_stdout(text: str) -> None:
    """Write it now. Raises `OSError` where that fails, and then no more is written."""
    if sys.stdout is None:  # closed before we began
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError:
        # what is left in the buffer would fail once more as Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise


def _plain(text: str) -> str:
    """Text that may be the other side's, for a terminal: nothing in it steers that or is markup."""
    return escape(printable(text))


def run(app: typer.Typer, extra: str) -> NoReturn:
    """The command line of `app`, whose commands the distribution's `extra` completes. With --json, what cannot be
    parsed, is stopped or fails by a fault of ours ends in an envelope too. A signal ends it with 128 and its number;
    `serve` has its own way. A pipe that nobody reads ends it with 141."""
    for each in signals.heard():
        signal.signal(each, _stopped)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # as stderr is: a result is told in the letters there are
    as_json = "--json" in sys.argv
    command = typer.main.get_command(app)
    _take_any_path(command)
    running = Shell(_named(command), as_json)
    try:
        code = command.main(standalone_mode=not as_json)  # an exit code, as of Ctrl-C, or nothing
    except SystemExit as ended:
        code = 128 + signal.SIGPIPE if isinstance(ended.__context__, BrokenPipeError) else ended.code
    except Exception as error:
        code = running.failed(_explained(error, running, extra))
    if code in {128 + each for each in signals.STOPPING}:
        code = running.failed(Stopped(code))
    raise SystemExit(code)


def _explained(error: Exception, running: Shell, extra: str) -> Fair4FreeError:
    """What an error that no command expects means for the person at the keyboard; a fault of ours is told whole."""
    usage = error.__context__ if isinstance(error, OSError) else error  # it could not be told
    if isinstance(usage, click.UsageError):
        return BadInput(usage.format_message(), remedy="see --help")
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        if module not in ("", *OURS):
            remedy = f"pip install -c deploy/constraints.txt -e '.[{extra}]'"  # it is on no index
            return BadInput("is not installed", field=module, remedy=remedy)
    if isinstance(error, OSError) and error.filename is None and error.errno in (errno.ENOSPC, errno.EIO):
        with suppress(OSError):
            _to_stdout("")  # it may be what failed, as it does for --help
        return Unreachable(
            f"cannot write: {os.strerror(error.errno).lower()}", remedy="check free space, and where stdout leads"
        )
    running.note("".join(traceback.format_exception(error)))
    return Bug(f"the program is at fault: {type(error).__name__}", remedy="report it, with what stderr says")


def _take_any_path(command: click.Command) -> None:
    """Not to be readable is no bad usage: what reads a path says what is wrong with it, and ends with 3."""
    for parameter in command.params:
        if isinstance(parameter.type, click.Path):
            parameter.type.readable = False
    for each in command.commands.values() if isinstance(command, click.Group) else ():
        _take_any_path(each)


def _named(command: click.Command) -> str:
    """The words of the command line that name a command; none where the first is none."""
    named = []
    for word in sys.argv[1:]:
        if not isinstance(command, click.Group) or word not in command.commands:
            break
        named.append(word)
        command = command.commands[word]
    return " ".join(named)


def _stopped(number: int, frame: FrameType | None) -> None:
    """End as an exception does, so that no part of a file stays behind."""
    raise SystemExit(128 + number)


@contextmanager
def shell(command: str, as_json: bool) -> Iterator[Shell]:
    """Run a command's body; our errors become a message and an exit code, others stay loud."""
    running = Shell(command, as_json)
    try:
        with permitted():
            yield running
    except Fair4FreeError as error:
        raise SystemExit(running.failed(error)) from None
