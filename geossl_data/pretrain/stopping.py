"""Signals that ask a run to stop are noted, so that it saves first, and act afterwards."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def asked_to_stop() -> Iterator[threading.Event]:
    """An event that SIGTERM or Ctrl-C sets inside, so that a run can save first; a second Ctrl-C acts at once.

    Outside the main thread, which alone gets signals, it is never set.
    """
    asked = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}

    def note(number: int, _frame: FrameType | None) -> None:
        asked.number = number  # type: ignore[attr-defined]
        asked.set()
        signal.signal(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def raise_again(asked: threading.Event) -> None:
    """Let the signal do what it would have done; where another process got it, as Ctrl-C does."""
    if asked.is_set():
        signal.raise_signal(asked.number)  # type: ignore[attr-defined]
    raise KeyboardInterrupt
