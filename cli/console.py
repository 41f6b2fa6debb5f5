"""What the terminal shows: progress, tables, errors and exit codes. The only place that prints.

Results go to standard output, progress and errors to standard error. Bars are drawn on a terminal; elsewhere a task
that took longer than two seconds leaves one line.
"""

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any

from geossl_data.progress import Task

if TYPE_CHECKING:
    from geossl_data.pipeline import Report

INTERRUPTED = 130
"""What typer answers with when Ctrl-C ended a command."""
TERMINATED = 128 + signal.SIGTERM
"""What a shell answers with when SIGTERM ended a command."""
_TERMINATED = threading.Event()
SLOW_SECONDS = 2.0
"""A task that takes longer is shown even where no bar can be drawn."""


class _Bar:
    """A Task drawn by rich."""

    def __init__(self, bars: Any, task: Any) -> None:
        self._bars, self._task = bars, task

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        self._bars.update(self._task, advance=steps, **({} if note is None else {"note": note}))


class _Line:
    """A Task that remembers its last note and how far it came."""

    def __init__(self) -> None:
        self.done, self.note = 0.0, ""

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        self.done += steps
        self.note = self.note if note is None else note


@contextmanager
def _bar(description: str, total: float | None) -> Iterator[Task]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = [TextColumn("{task.description:<18}")]
    measured = [BarColumn(bar_width=28), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()]
    bars = Progress(
        *columns,
        *(measured if total is not None else [TimeElapsedColumn()]),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
        transient=True,
    )
    with bars:
        yield _Bar(bars, bars.add_task(description, total=total, note=""))


@contextmanager
def _line(description: str, total: float | None) -> Iterator[Task]:
    line, start = _Line(), time.monotonic()
    yield line
    seconds = time.monotonic() - start
    if seconds > SLOW_SECONDS:
        count = f" {line.done:g}/{total:g}" if total is not None else ""
        print(f"{description}{count} in {seconds:.0f} s {line.note}".rstrip(), file=sys.stderr)


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Task]:
    """The Progress of the terminal; see geossl_data.progress."""
    with (_bar if sys.stderr.isatty() else _line)(description, total) as task:
        yield task


def speaks() -> bool:
    """Whether this process is the one that speaks: of several that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def say(text: str) -> None:
    """One line of result."""
    print(text)


def show_json(content: dict[str, Any]) -> None:
    """A result as one line of JSON."""
    print(json.dumps(content, ensure_ascii=False))


def warn(text: str) -> None:
    """One line beside the result."""
    print(text, file=sys.stderr)


def table(rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
    """A header row and rows, in aligned columns; numbers to the right, or all to the left where they are words."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            text.ljust(width) if column == 0 or words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  " + "   ".join(cells).rstrip())
        if number == 0:
            print("  " + "   ".join("─" * width for width in widths))


def show(report: "Report", folder: str, *, as_json: bool = False, hints: bool = True, verbatim: bool = False) -> None:
    """A stage's report: facts, what was skipped and why, its table, and what to type next.

    Hints get the folder as their first argument, unless they are to be shown verbatim.
    """
    if as_json:
        content = {"stage": report.stage, "fresh": report.fresh, "facts": report.facts, "skipped": report.skipped}
        print(json.dumps(content | {"table": [list(row) for row in report.table]}, ensure_ascii=False))
        return
    print(f"{report.stage}" + ("" if report.fresh else "  (up to date, nothing to do)"))
    width = max((len(name) for name in report.facts), default=0)
    for name, value in report.facts.items():
        print(f"  {name.ljust(width)}  {value:,}" if isinstance(value, int) else f"  {name.ljust(width)}  {value}")
    if report.skipped:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped.items())
        print(f"  {'skipped'.ljust(width)}  {listed}  (see skipped.parquet)")
    if report.table:
        print()
        table(report.table)
    if hints and report.hints:
        print("\nnext")
        for hint in report.hints:
            print(f"  {hint if verbatim or folder == '.' else _with_folder(hint, folder)}")


def _with_folder(hint: str, folder: str) -> str:
    command, stage, *options = hint.split(" ", 2)
    return " ".join([command, stage, folder, *options])


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    _TERMINATED.set()
    raise KeyboardInterrupt


def guard_output() -> None:
    """From here on, log records and tracebacks are printed without signatures, passwords and keys."""
    import logging

    from geossl_data.scenes.redaction import RedactedRecord

    logging.setLogRecordFactory(RedactedRecord)
    sys.excepthook = _show_bug
    threading.excepthook = _show_bug_of_thread


def _show_bug(_kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    from geossl_data.scenes.redaction import redacted_traceback

    print(redacted_traceback(error.with_traceback(trace)), end="", file=sys.stderr)


def _show_bug_of_thread(arguments: "threading.ExceptHookArgs") -> None:
    if arguments.exc_value is not None and arguments.exc_type is not SystemExit:
        _show_bug(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)


def run_app(app: Any, arguments: Sequence[str] | None = None) -> int:
    """Run a typer app and answer with the exit code: 0, or 1 with one line for what the user or the world has to mend.

    A command that SIGTERM ended answers as one that Ctrl-C ended, but for its code, 143: what stops a job at the end of
    its time can tell that from a failure.
    arguments: the command line without the program's name; None takes the process's own.
    Anything that is not a GeosslError, a wrong command line or a file that the system refuses is our bug and keeps its
    traceback.
    """
    import typer
    from typer.exceptions import TyperException

    from geossl_data.errors import GeosslError

    _TERMINATED.clear()
    before = signal.signal(signal.SIGTERM, _interrupt)
    if arguments is None:
        guard_output()
    try:
        if app(None if arguments is None else list(arguments), standalone_mode=False) == INTERRUPTED:
            raise KeyboardInterrupt
    except GeosslError as error:
        warn(f"geossl: {_one_line(str(error))}")
    except (KeyboardInterrupt, typer.Abort):
        warn("geossl: interrupted; run the same command again to go on from here")
        if _TERMINATED.is_set():
            return TERMINATED
    except TyperException as error:
        text = error.format_message()
        warn(text if text.startswith("Usage") else f"geossl: {_one_line(text)}; see --help")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        warn(f"geossl: {_shown(error.filename)}: {error.strerror}")
    else:
        return 0
    finally:
        signal.signal(signal.SIGTERM, before)
        if arguments is None:
            sys.excepthook = _show_bug  # typer has put its own one there meanwhile
    return 1


def _shown(filename: Any) -> str:
    from geossl_data.scenes.redaction import redact_text

    return redact_text(str(filename))


def _one_line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")
