"""How long work tells that it goes on: a callable handed in, so that the library itself never prints."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Task(Protocol):
    """One bar: `advance` moves it and may replace the short note beside it ("3 skipped", "loss 4.12")."""

    def advance(self, steps: float = 1, note: str | None = None) -> None: ...


class Progress(Protocol):
    """Opens a task: `with progress("cutting looks", total=120) as task: task.advance()`."""

    def __call__(self, description: str, total: float | None = None) -> AbstractContextManager[Task]: ...


class _Silent:
    def advance(self, steps: float = 1, note: str | None = None) -> None:
        return None


@contextmanager
def silent(description: str, total: float | None = None) -> Iterator[Task]:
    """The Progress that shows nothing; the default everywhere."""
    yield _Silent()
