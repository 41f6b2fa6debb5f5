"""How work shows that it goes on: when, how fast, how long still, and nothing at all where nobody looks."""

import os
import pty
import re
import select
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from geossl_cli.progress import GAP, SLOW_SECONDS, Pace, Row, Screen, Terminal, fitted, shown_rate, shown_seconds

COLOUR = re.compile(r"\x1b\[(?:\d+;)*[39]\dm")


class Clock:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Paper:
    """A canvas that remembers what was drawn last, and how often it was cleared."""

    def __init__(self) -> None:
        self.drawn: list[tuple[str, str]] = []
        self.n_drawn = self.n_cleared = 0

    def draw(self, rows: Sequence[Row], now: float) -> None:
        self.drawn = [(row.description, row.note) for row in rows]
        self.n_drawn += 1

    def clear(self) -> None:
        self.drawn = []
        self.n_cleared += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def screen(clock: Clock, said: list[str]) -> Screen:
    return Screen(said.append, clock=clock)


@pytest.fixture
def paper(screen: Screen) -> Paper:
    found = Paper()
    screen.begin("shard", found)
    return found


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Callable[[], str]]]:
    """Standard error is a terminal of so many columns; answers with what reads what was written there."""
    opened = []

    def make(columns: int) -> Callable[[], str]:
        master, slave = pty.openpty()
        stream = os.fdopen(slave, "w", encoding="utf-8")
        opened.append((master, stream))
        monkeypatch.setattr(sys, "stderr", stream)
        monkeypatch.setenv("TERM", "xterm-256color")
        monkeypatch.setenv("COLUMNS", str(columns))
        for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
            monkeypatch.delenv(name, raising=False)

        def read() -> str:
            stream.flush()
            parts = []
            while select.select([master], [], [], 0)[0]:
                parts.append(os.read(master, 65_536))
            return b"".join(parts).decode()

        return read

    yield make
    for master, stream in opened:
        stream.close()
        os.close(master)


# ------------------------------------------------------------------------------------------------ numbers


def test_a_rate_by_hand() -> None:
    pace = Pace(0.0)
    assert pace.rate(3.0, 0.0) is None
    for step in range(1, 11):
        pace.mark(float(step), 2.0 * step)
    assert pace.rate(10.0, 20.0) == 2.0
    # Nothing for nine seconds: half as fast since the first step.
    assert pace.rate(19.0, 20.0) == 1.0


def test_the_time_that_processes_take_to_start_is_no_pace() -> None:
    pace = Pace(0.0)
    pace.mark(60.0, 1.0)
    assert pace.rate(60.0, 1.0) == 1 / 60
    pace.mark(61.0, 3.0)
    assert pace.rate(61.0, 3.0) == 2.0


def test_what_was_there_before_is_no_speed() -> None:
    pace = Pace(0.0)
    pace.mark(0.1, 5000.0)
    assert pace.rate(0.2, 5000.0) is None
    pace.mark(10.0, 5010.0)
    assert pace.rate(10.0, 5010.0) == 1.0


def test_old_times_are_forgotten_but_not_the_last_steps() -> None:
    pace = Pace(0.0)
    for second in range(1, 101):
        pace.mark(float(second), float(second))
    for second in range(101, 201):
        pace.mark(float(second), 100.0 + 3.0 * (second - 100))
    assert pace.rate(200.0, 400.0) == pytest.approx(3.0)


@settings(max_examples=30)
@given(seconds=st.floats(0.5, 1e4), steps=st.integers(1, 60))
def test_an_even_pace_is_found_however_slow_it_is(seconds: float, steps: int) -> None:
    pace = Pace(0.0)
    for step in range(1, steps + 1):
        pace.mark(step * seconds, float(step))
    assert pace.rate(steps * seconds, float(steps)) == pytest.approx(1 / seconds)


@pytest.mark.parametrize(
    ("rate", "text"),
    [(1234.4, "1,234/s"), (12.34, "12.3/s"), (1.0, "1.00/s"), (0.5, "30.0/min"), (1 / 120, "30.0/h"), (0.0, "0.00/h")],
)
def test_rates_in_words(rate: float, text: str) -> None:
    assert shown_rate(rate) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (67.9, "1:07"), (3600, "1:00:00"), (3723, "1:02:03"), (86_399, "23:59:59"), (100_000, "1 d 3 h")],
)
def test_times_in_words(seconds: float, text: str) -> None:
    assert shown_seconds(seconds) == text


def test_what_a_row_says(clock: Clock) -> None:
    row = Row("cutting looks", 1200, clock)
    clock.now += 10
    row.advance(300, note="3 skipped")
    assert row.cells(clock.now) == ("cutting looks", "  300/1,200", "30.0/s", "0:30 left", "3 skipped")
    assert Row("matching", None, clock).cells(clock.now + 7) == ("matching", "", "", "0:07", "")


def test_steps_of_several_threads_are_all_counted(clock: Clock) -> None:
    row = Row("reading", 4000, clock)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: row.advance(), range(4000)))
    assert row.done == 4000


CELLS = st.tuples(*[st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=12)] * 5)


@settings(max_examples=30)
@given(rows=st.lists(CELLS, min_size=1, max_size=3), width=st.integers(1, 90))
def test_what_is_shown_fits_unless_the_numbers_alone_do_not(rows: list[tuple[str, ...]], width: int) -> None:
    columns, left = fitted(rows, width)
    taken = sum(max(map(len, column)) + GAP for column in columns)
    assert width - taken == left
    if all(len(cell) <= 5 for row in rows for cell in row[:4]) and width >= 4 * (5 + GAP):
        assert left + GAP >= 0
        assert not any(row[0] for row in rows) or [row[0] for row in rows] == columns[0]


def test_a_note_is_cut_first_then_rates_are_given_up() -> None:
    cells = [("cutting looks", " 30/120", "3.00/s", "0:30 left", "3 skipped of many")]
    assert fitted(cells, 100) == ([[cell] for cell in cells[0]], 100 - 52 - 5 * GAP)
    assert fitted(cells, 50)[0][-1] == ["3 skip…"]
    assert fitted(cells, 40)[0] == [["cutting looks"], [" 30/120"], ["0:30 left"], ["3 sk…"]]
    assert fitted(cells, 33)[0] == [["cutting looks"], [" 30/120"], ["0:30 left"]]


# ------------------------------------------------------------------------------------------------ when


def test_nothing_flashes(screen: Screen, paper: Paper, clock: Clock) -> None:
    with screen.task("reading scenes"):
        clock.now += SLOW_SECONDS - 0.1
        screen.tick()
    screen.tick()
    assert paper.n_drawn == 0


def test_a_slow_task_is_drawn_until_it_ends(screen: Screen, paper: Paper, clock: Clock) -> None:
    with screen.task("cutting looks", 10) as task:
        clock.now += SLOW_SECONDS
        task.advance(1, note="1 skipped")
        screen.tick()
        assert paper.drawn == [("cutting looks", "1 skipped")]
    # The line stays, so that tasks that follow each other do not blink.
    screen.tick()
    assert paper.drawn == [("shard", "")]


def test_many_short_tasks_are_one_steady_line(screen: Screen, paper: Paper, clock: Clock) -> None:
    for _ in range(5):
        with screen.task("teaching heads"):
            clock.now += 1.5
            screen.tick()
            if paper.n_drawn:
                assert paper.drawn == [("shard", "teaching heads")]
    assert paper.n_drawn == 4


def test_tasks_inside_each_other_are_drawn_below_each_other(screen: Screen, paper: Paper, clock: Clock) -> None:
    with screen.task("running cells", 3), screen.task("pretraining", 9):
        clock.now += SLOW_SECONDS
        screen.tick()
        assert [description for description, _ in paper.drawn] == ["running cells", "pretraining"]


def test_what_is_printed_clears_the_bar_for_a_while(screen: Screen, paper: Paper, clock: Clock) -> None:
    clock.now += SLOW_SECONDS
    screen.tick()
    assert paper.n_drawn == 1
    screen.hide()
    assert (paper.drawn, paper.n_cleared) == ([], 1)
    clock.now += SLOW_SECONDS / 2
    screen.tick()
    assert paper.n_drawn == 1


def test_quiet_draws_and_says_nothing(screen: Screen, said: list[str], clock: Clock) -> None:
    paper = Paper()
    screen.begin("shard", paper)
    screen.quiet = True
    with screen.task("cutting looks", 10):
        clock.now += 60
        screen.tick()
    screen.end()
    assert (paper.n_drawn, said) == (0, [])
    screen.quiet = True
    with screen.task("cutting looks", 10):
        clock.now += 60
    assert said == []


def test_without_a_terminal_slow_tasks_say_one_line_when_they_are_done(
    screen: Screen, said: list[str], clock: Clock
) -> None:
    with screen.task("reading scenes"):
        clock.now += SLOW_SECONDS
    with screen.task("cutting looks", 420) as task:
        task.advance(420, note="3 skipped")
        clock.now += 61
    failing = screen.task("verifying", 3)
    failing.__enter__()
    clock.now += 10
    assert not failing.__exit__(KeyError, KeyError(), None)
    assert said == ["cutting looks 420/420 in 61 s 3 skipped"]


def test_the_watch_ends_with_the_command(screen: Screen, paper: Paper, clock: Clock) -> None:
    screen.watch()
    names = {thread.name for thread in threading.enumerate()}
    assert "progress" in names
    screen.end()
    assert "progress" not in {thread.name for thread in threading.enumerate()}
    assert paper.n_cleared == 1


def test_a_terminal_that_is_gone_ends_no_work(screen: Screen, clock: Clock) -> None:
    class Gone(Paper):
        def clear(self) -> None:
            raise OSError(5, "Input/output error")

    screen.begin("shard", Gone())
    screen.end()


# ------------------------------------------------------------------------------------------------ how


def rows(clock: Clock) -> list[Row]:
    row = Row("cutting looks", 120, clock)
    clock.now += 10
    row.advance(30, note="3 skipped of [many]")
    return [row]


def test_a_bar_on_a_terminal(terminal: Callable[[int], Callable[[], str]], clock: Clock) -> None:
    read, canvas = terminal(100), Terminal()
    canvas.draw(rows(clock), clock.now)
    drawn = read()
    assert "cutting looks" in drawn
    assert "━━━" in drawn
    assert COLOUR.search(drawn)
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", drawn)
    assert re.search(r"30/120 +3\.00/s +0:30 left +3 skipped of \[many\]", plain)
    canvas.clear()
    assert "\x1b[2K" in read()  # the line is erased
    canvas.clear()
    assert read() == ""


def test_no_colours_with_no_color(
    terminal: Callable[[int], Callable[[], str]], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    read, canvas = terminal(100), Terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    canvas.draw(rows(clock), clock.now)
    canvas.clear()
    drawn = read()
    assert "30/120" in drawn
    assert COLOUR.search(drawn) is None


def test_a_narrow_terminal_has_one_line_without_a_bar(
    terminal: Callable[[int], Callable[[], str]], clock: Clock
) -> None:
    read, canvas = terminal(44), Terminal()
    canvas.draw(rows(clock), clock.now)
    drawn = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read())
    canvas.clear()
    assert "━" not in drawn
    assert "30/120" in drawn
    assert all(len(line) <= 44 for line in drawn.splitlines())


def test_what_others_print_meanwhile_goes_above_the_bar(
    terminal: Callable[[int], Callable[[], str]], clock: Clock
) -> None:
    read, canvas = terminal(100), Terminal()
    canvas.draw(rows(clock), clock.now)
    sys.stderr.write("batch size lowered\n")
    canvas.clear()
    drawn = read()
    assert "batch size lowered" in drawn
    assert drawn.index("batch size lowered") > drawn.index("cutting looks")
