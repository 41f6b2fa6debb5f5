"""What the terminal shows: results, progress, log records, errors and exit codes. The only place that prints.

Results go to standard output, progress, log records and errors to standard error, so that what is piped on is the
result alone. Colours are for terminals, and not where NO_COLOR is set or TERM is `dumb`.
"""

import io
import json
import logging
import math
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TextIO

from geossl_data.progress import Task, silent

from .progress import Screen, Terminal

if TYPE_CHECKING:
    from geossl_data.pipeline import Report

INTERRUPTED = 130
"""What typer answers with when Ctrl-C ended a command."""
TERMINATED = 128 + signal.SIGTERM
"""What a shell answers with when SIGTERM ended a command."""
_INTERRUPTED, _TERMINATED = threading.Event(), threading.Event()
PACKAGE = "geossl_data"
"""Whose log records --verbose shows."""
EXTRAS = {"torch": "train", "safetensors": "train"}
"""Packages that not every installation has, and the extra of ours that brings them."""
BOLD, DIM, GREEN, YELLOW = "1", "2", "32", "33"


def warn(text: str) -> None:
    """One line beside the result."""
    _SCREEN.hide()
    print(text, file=sys.stderr)


_SCREEN = Screen(say=warn)


# ------------------------------------------------------------------------------------------------ manner


def speaks() -> bool:
    """Whether this process is the one that speaks: of several that torchrun started, the first."""
    return os.environ.get("RANK", "0") == "0"


def begin(command: str) -> None:
    """A command starts; on a terminal its progress is drawn until `run_app` is done with it."""
    if speaks() and sys.stderr.isatty() and os.environ.get("TERM") != "dumb":
        _SCREEN.begin(command, Terminal())
        _SCREEN.watch()


def behave(*, quiet: bool = False, verbosity: int = 0) -> None:
    """Say less, or more, until the command ends.

    quiet: no progress and no summaries. verbosity: 1 shows log records from INFO on, 2 from DEBUG on.
    """
    if quiet:
        _SCREEN.quiet = True
    if verbosity and speaks():
        level = logging.INFO if verbosity == 1 else logging.DEBUG
        logger = logging.getLogger(PACKAGE)
        if _RECORDS in logger.handlers:
            level = min(level, logger.level)
        logger.addHandler(_RECORDS)
        logger.setLevel(level)


class _Records(logging.Handler):
    """Prints records, redacted, to whatever standard error is at the moment; while a bar is drawn, that is above it."""

    def emit(self, record: logging.LogRecord) -> None:
        print(_redacted(self.format(record)), file=sys.stderr)


def _make_records() -> _Records:
    formatter = logging.Formatter("{asctime}Z {levelname} {name}: {message}", "%Y-%m-%dT%H:%M:%S", style="{")
    formatter.converter = time.gmtime
    records = _Records()
    records.setFormatter(formatter)
    return records


_RECORDS = _make_records()


def _end() -> None:
    """Be as before the command."""
    logger = logging.getLogger(PACKAGE)
    if _RECORDS in logger.handlers:
        logger.removeHandler(_RECORDS)
        logger.setLevel(logging.NOTSET)
    _SCREEN.end()


def progress(description: str, total: float | None = None) -> AbstractContextManager[Task]:
    """The Progress of the terminal, see geossl_data.progress; shown by the first of the processes of torchrun alone."""
    return _SCREEN.task(description, total) if speaks() else silent(description, total)


# ------------------------------------------------------------------------------------------------ results


def say(text: str) -> None:
    """One line of result."""
    _SCREEN.hide()
    print(text)


def summarise(text: str) -> None:
    """One line of what was done; nothing with --quiet."""
    if not _SCREEN.quiet:
        say(text)


def show_json(content: dict[str, Any]) -> None:
    """A result as one line of JSON; numbers that are not finite are null."""
    say(json.dumps(_plain(content), ensure_ascii=False, allow_nan=False))


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, str | int) else str(value)


def _coloured(stream: TextIO) -> bool:
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, style: str, stream: TextIO | None = None) -> str:
    """The text in a style of ANSI, as in BOLD, where the stream is a terminal; standard output when left out."""
    return f"\x1b[{style}m{text}\x1b[0m" if text and _coloured(stream or sys.stdout) else text


def table(rows: Sequence[Sequence[str]], *, words: bool = False) -> None:
    """A header row and rows, in aligned columns; numbers to the right, or all to the left where they are words."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for number, row in enumerate(rows):
        cells = [
            text.ljust(width) if column == 0 or words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        ]
        line = "   ".join(cells).rstrip()
        say("  " + (styled(line, BOLD) if number == 0 else line))
        if number == 0:
            say("  " + styled("   ".join("─" * width for width in widths), DIM))


def show(
    report: "Report",
    folder: str,
    *,
    as_json: bool = False,
    hints: bool = True,
    verbatim: bool = False,
    words: bool = False,
    asked: bool = False,
) -> None:
    """A stage's report: facts, what was skipped and why, its table, and what to type next.

    As JSON it is one line: `stage`, `fresh`, `facts`, `skipped`, `table`, `next`. Hints get the folder as their first
    argument, unless they are to be shown verbatim. words: of the table, see there. With --quiet nothing is shown but
    JSON and what was asked for. Of processes that torchrun started, the first shows it.
    """
    if not speaks():
        return
    commands = [hint if verbatim or folder == "." else _with_folder(hint, folder) for hint in report.hints]
    if as_json:
        content = {"stage": report.stage, "fresh": report.fresh, "facts": report.facts, "skipped": report.skipped}
        show_json(content | {"table": [list(row) for row in report.table], "next": commands})
        return
    if _SCREEN.quiet and not asked:
        return
    say(styled(report.stage, BOLD) + ("" if report.fresh else "  (up to date, nothing to do)"))
    width = max((len(name) for name in report.facts), default=0)
    for name, value in report.facts.items():
        say(f"  {name.ljust(width)}  {value:,}" if isinstance(value, int) else f"  {name.ljust(width)}  {value}")
    if report.skipped:
        listed = ", ".join(f"{count:,} {reason}" for reason, count in report.skipped.items())
        say(f"  {styled('skipped'.ljust(width), YELLOW)}  {listed}  (see skipped.parquet)")
    if report.table:
        say("")
        table(report.table, words=words)
    if hints and commands:
        say("\nnext")
        for command in commands:
            say("  " + styled(command, GREEN))


def _with_folder(hint: str, folder: str) -> str:
    command, stage, *options = hint.split(" ", 2)
    return " ".join([command, stage, folder, *options])


# ------------------------------------------------------------------------------------------------ ends


def _interrupt(number: int, _frame: FrameType | None) -> None:
    _INTERRUPTED.set()
    if number == signal.SIGTERM:
        _TERMINATED.set()
    raise KeyboardInterrupt


def guard_output() -> None:
    """From here on, log records and tracebacks are printed without signatures, passwords and keys.

    What an old terminal has no letters for is printed as question marks.
    """
    from geossl_data.scenes.redaction import RedactedRecord

    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
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

    _INTERRUPTED.clear()
    _TERMINATED.clear()
    before = signal.signal(signal.SIGTERM, _interrupt)
    # Else it is ignored, as in the background of a script.
    has_ctrl_c = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if has_ctrl_c:
        signal.signal(signal.SIGINT, _interrupt)
    if arguments is None:
        guard_output()
    try:
        if app(None if arguments is None else list(arguments), standalone_mode=False) == INTERRUPTED:
            raise KeyboardInterrupt
    except GeosslError as error:
        _fail(str(error))
    except (KeyboardInterrupt, typer.Abort):
        return _stopped()
    except TyperException as error:
        text = error.format_message()
        if text.startswith("Usage"):
            warn(text)
        else:
            _fail(f"{text.rstrip().removesuffix('.').replace('Value error, ', '', 1)}; see --help")
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except OSError as error:
        if error.filename is None:
            raise
        _fail(f"{_redacted(str(error.filename))}: {error.strerror}")
    except ModuleNotFoundError as error:
        if error.name not in EXTRAS:
            raise
        _fail(f"{error.name} is not installed, which this needs: run `pip install 'geossl[{EXTRAS[error.name]}]'`")
    except Exception:
        # Code in C++ that calls back makes another error of an interruption: matplotlib of one while it draws.
        if not _INTERRUPTED.is_set():
            raise
        return _stopped()
    else:
        return 0
    finally:
        _end()
        signal.signal(signal.SIGTERM, before)
        if has_ctrl_c:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        if arguments is None:
            sys.excepthook = _show_bug  # typer has put its own one there meanwhile
    return 1


def _stopped() -> int:
    """The line and the code of a command that Ctrl-C or SIGTERM ended."""
    _fail("interrupted; run the same command again to go on from here")
    return TERMINATED if _TERMINATED.is_set() else 1


def _fail(text: str) -> None:
    """The one line of an error."""
    warn(f"{styled('geossl:', BOLD, sys.stderr)} {_one_line(text)}")


def _redacted(text: str) -> str:
    from geossl_data.scenes.redaction import redact_text

    return redact_text(text)


def _one_line(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")
