"""How long work shows that it goes on: on a terminal by bars, elsewhere by a line when it is over.

The only place that knows rich. Nothing is drawn for what takes less than SLOW_SECONDS; from then on one line at least
stands until the command ends: a bar for every task that is slow by itself, else the command's own.
"""

import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

SLOW_SECONDS = 2.0
"""What takes longer is shown."""
REDRAW_SECONDS = 0.25
BAR_COLUMNS, LEAST_BAR_COLUMNS, GAP = 24, 8, 2
"""Width of bars, where there is room; the least that is drawn; and the spaces between columns."""

Clock = Callable[[], float]
"""Seconds that only grow, as of `time.monotonic`."""


class Pace:
    """How fast a task goes lately.

    What is done within GRAIN_SECONDS of the start was there before, as when a run is resumed, and tells nothing; nor
    does the time before the first step, as of processes that start, once there is a second step.
    """

    GRAIN_SECONDS = 0.5
    WINDOW_SECONDS = 30.0
    LEAST_STEPS = 10
    """A task whose steps are slow is judged by so many of them, however long they took."""

    def __init__(self, now: float) -> None:
        self._marks = deque([(now, 0.0)])
        self._has_start = True

    def mark(self, now: float, done: float) -> None:
        """So many steps are done by now."""
        latest, _ = self._marks[-1]
        if now - latest < self.GRAIN_SECONDS:
            self._marks[-1] = (latest, done)
        else:
            self._marks.append((now, done))
        if self._has_start and len(self._marks) > 2:
            self._marks.popleft()
            self._has_start = False
        while len(self._marks) > self.LEAST_STEPS and self._marks[1][0] < now - self.WINDOW_SECONDS:
            self._marks.popleft()

    def rate(self, now: float, done: float) -> float | None:
        """Steps a second; None where nothing can be said yet. It falls while nothing happens."""
        since, before = self._marks[0]
        return (done - before) / (now - since) if done > before and now > since else None


class Row:
    """A task that was opened: the Task of geossl_data.progress, and what a line of the screen says of it."""

    def __init__(self, description: str, total: float | None, clock: Clock) -> None:
        self.description, self.total = description, total
        self.began, self.done, self.note = clock(), 0.0, ""
        self._clock, self._pace, self._lock = clock, Pace(self.began), threading.Lock()

    def advance(self, steps: float = 1, note: str | None = None) -> None:
        with self._lock:
            self.done += steps
            self._pace.mark(self._clock(), self.done)
            self.note = self.note if note is None else note

    def cells(self, now: float) -> tuple[str, str, str, str, str]:
        """Description, how many of how many, how fast, how long still (or already), note."""
        with self._lock:
            done, note, rate = self.done, self.note, self._pace.rate(now, self.done)
        elapsed = shown_seconds(now - self.began)
        if self.total is None:
            return self.description, "", "", elapsed, note
        left = elapsed if rate is None else f"{shown_seconds(max(0.0, self.total - done) / rate)} left"
        whole = f"{self.total:,.0f}"
        count = f"{done:,.0f}".rjust(len(whole)) + f"/{whole}"
        return self.description, count, "" if rate is None else shown_rate(rate), left, note

    def line(self, now: float) -> str:
        """What is said when it is over and no bar was drawn."""
        count = f" {self.done:g}/{self.total:g}" if self.total is not None else ""
        return f"{self.description}{count} in {now - self.began:.0f} s {self.note}".rstrip()


def shown_rate(rate: float) -> str:
    """Steps a second as `12.3/s`, or by the minute or hour where it is slower."""
    for per, unit in ((1.0, "s"), (60.0, "min")):
        if rate * per >= 1:
            return f"{rate * per:,.0f}/{unit}" if rate * per >= 100 else f"{rate * per:#.3g}/{unit}"
    return f"{3600 * rate:#.3g}/h"


def shown_seconds(seconds: float) -> str:
    """`0:07`, `1:02:03` or `3 d 4 h`."""
    whole = int(seconds)
    if whole >= 86_400:
        return f"{whole // 86_400} d {whole % 86_400 // 3600} h"
    minutes = f"{whole % 3600 // 60}:{whole % 60:02d}"
    return minutes if whole < 3600 else f"{whole // 3600}:{minutes.zfill(5)}"


class Canvas(Protocol):
    """Where rows are drawn over each other."""

    def draw(self, rows: Sequence[Row], now: float) -> None: ...

    def clear(self) -> None: ...


class Terminal:
    """The Canvas on standard error, by rich: the last lines of the terminal, which others may print above."""

    def __init__(self) -> None:
        self._live: Any = None

    def draw(self, rows: Sequence[Row], now: float) -> None:
        from rich.console import Console
        from rich.live import Live

        if self._live is None:
            console = Console(file=sys.stderr, highlight=False, markup=False, emoji=False)
            self._live = Live(console=console, auto_refresh=False, transient=True, redirect_stdout=False)
            self._live.start()
        self._live.update(_grid(rows, now, self._live.console.width), refresh=True)

    def clear(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None


def fitted(rows: Sequence[Sequence[str]], width: int) -> tuple[list[list[str]], int]:
    """Columns of cells that fit into a width, two spaces between them, and what is left of it.

    Columns in which nothing stands are left out. Notes, the last ones, are cut to what is left, and rates given up
    before the rest is, which a terminal cuts.
    """
    kept = [column for column in range(len(rows[0])) if any(row[column] for row in rows)]

    def spare(columns: Sequence[int]) -> int:
        return width - sum(max(len(row[column]) for row in rows) + GAP for column in columns)

    note, rate = len(rows[0]) - 1, 2
    numbers = [column for column in kept if column != note]
    if spare(numbers) < 0 and rate in numbers:
        numbers.remove(rate)
    left = spare(numbers)
    columns = [[row[column] for row in rows] for column in numbers]
    if note in kept and left > 1:
        notes = [row[note] if len(row[note]) <= left else f"{row[note][: left - 1]}…" for row in rows]
        columns.append(notes)
        left -= max(map(len, notes)) + GAP
    return columns, left


def _grid(rows: Sequence[Row], now: float, width: int) -> Any:
    """The rows as a table of rich, with bars where there is room for them."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table

    columns, left = fitted([row.cells(now) for row in rows], width)
    grid = Table.grid(padding=(0, GAP, 0, 0))
    shown: list[list[Any]] = [list(column) for column in columns]
    if left >= LEAST_BAR_COLUMNS + GAP and any(row.total is not None for row in rows):
        bar_columns = min(BAR_COLUMNS, left - GAP)
        shown.insert(1, [_bar_of(row, bar_columns, ProgressBar) for row in rows])
    for _ in shown:
        grid.add_column(no_wrap=True)
    for cells in zip(*shown, strict=True):
        grid.add_row(*cells)
    return grid


def _bar_of(row: Row, columns: int, kind: Any) -> Any:
    if row.total is None:
        return ""
    # A bar of nothing to do is full.
    total = row.total or 1.0
    completed = min(row.done, total) if row.total else total
    return kind(total=total, completed=completed, width=columns, complete_style="green", finished_style="green")


class Screen:
    """The tasks of a command, and what is seen of them.

    Without a canvas a task that took longer than SLOW_SECONDS is `say`-ed in one line when it ends well.
    quiet: nothing is shown at all.
    """

    def __init__(self, say: Callable[[str], None], *, clock: Clock = time.monotonic) -> None:
        self.quiet = False
        self._say, self._clock = say, clock
        self._canvas: Canvas | None = None
        self._command = Row("", None, clock)
        self._rows: list[Row] = []
        self._hidden_since = clock()
        self._is_shown = False
        self._lock = threading.RLock()
        self._ended = threading.Event()
        self._watch: threading.Thread | None = None

    def begin(self, command: str, canvas: Canvas) -> None:
        """A command starts, whose tasks are drawn on a canvas; call `watch` as well to see them move."""
        self._canvas, self._command = canvas, Row(command, None, self._clock)
        self._hidden_since = self._command.began

    def watch(self) -> None:
        """Redraw every REDRAW_SECONDS until the end, from a thread of its own."""
        self._ended.clear()
        self._watch = threading.Thread(target=self._redraw, name="progress", daemon=True)
        self._watch.start()

    def _redraw(self) -> None:
        while not self._ended.wait(REDRAW_SECONDS):
            try:
                self.tick()
            except OSError:
                return  # the terminal is gone; the work goes on

    def tick(self) -> None:
        """Draw what is to be seen now."""
        with self._lock:
            now = self._clock()
            rows = self.visible(now)
            if rows and self._canvas is not None:
                self._canvas.draw(rows, now)

    def visible(self, now: float) -> list[Row]:
        """The rows that are to be seen: slow tasks, else the command itself once it has been silent for long."""
        if self.quiet:
            return []
        slow = [row for row in self._rows if now - row.began >= SLOW_SECONDS]
        self._is_shown = self._is_shown or bool(slow) or now - self._hidden_since >= SLOW_SECONDS
        if slow or not self._is_shown:
            return slow
        self._command.note = self._rows[-1].description if self._rows else ""
        return [self._command]

    def hide(self) -> None:
        """Clear the canvas, so that something can be printed; what is drawn comes back after SLOW_SECONDS."""
        with self._lock:
            try:
                if self._canvas is not None:
                    self._canvas.clear()
            except OSError:
                self._canvas = None  # the terminal is gone
            self._is_shown, self._hidden_since = False, self._clock()

    def end(self) -> None:
        """The command is over: nothing is drawn any more."""
        self._ended.set()
        if self._watch is not None:
            self._watch.join()
            self._watch = None
        self.hide()
        self._canvas, self.quiet = None, False

    @contextmanager
    def task(self, description: str, total: float | None = None) -> Iterator[Row]:
        """Open a task; see geossl_data.progress."""
        row = Row(description, total, self._clock)
        with self._lock:
            self._rows.append(row)
        try:
            yield row
        finally:
            with self._lock:
                self._rows.remove(row)
        now = self._clock()
        if self._canvas is None and not self.quiet and now - row.began > SLOW_SECONDS:
            self._say(row.line(now))
