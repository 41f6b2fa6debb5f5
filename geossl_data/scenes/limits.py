"""How hard a host is leant on: requests at a time, requests a second, and requests in all.

Archives are shared by everybody. One budget holds for the whole process, one limiter for each host.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

from geossl_data.errors import BudgetError
from geossl_data.recipe import MOST_REQUESTS

_RAISE_AFTER = 20
"""Answers in a row without a complaint after which one more request may be under way."""


class Budget:
    """Counts requests and refuses the one too many."""

    def __init__(self, most: int = MOST_REQUESTS) -> None:
        self._lock = threading.Lock()
        self._granted = self._most = most
        self.spent = 0

    @contextmanager
    def granting(self, requests: int | None) -> Iterator[None]:
        """So many requests while the block runs, and what was allowed before afterwards; None changes nothing."""
        with self._lock:
            before = self._granted, self._most
            if requests is not None:
                self._granted, self._most = requests, self.spent + requests
        try:
            yield
        finally:
            with self._lock:
                self._granted, self._most = before

    def spend(self) -> None:
        """Take one request out of the budget; BudgetError where none is left."""
        with self._lock:
            if self.spent >= self._most:
                raise BudgetError(
                    f"all {self._granted} requests of the budget are used up; what was found so far is kept: run the "
                    "same command again to go on, with a larger --max-requests or a smaller area"
                )
            self.spent += 1


BUDGET = Budget()
"""The budget of this process."""


class Limiter:
    """Lets at most `concurrency` requests be under way, and starts them at least 1 / `per_second` apart.

    A host that complains (429, 503) gets half as many at a time; after 20 answers without a complaint one more
    (additive increase, multiplicative decrease, as in TCP).
    """

    def __init__(self, concurrency: int, per_second: float) -> None:
        self._most = concurrency
        self._allowed = concurrency
        self._under_way = 0
        self._content = 0
        self._interval = 1.0 / per_second
        self._next_start = 0.0
        self._changed = threading.Condition()

    @property
    def allowed(self) -> int:
        """Requests that may be under way now."""
        return self._allowed

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Waits for its turn; holds one of the places while the block runs."""
        with self._changed:
            self._changed.wait_for(lambda: self._under_way < self._allowed)
            self._under_way += 1
            now = time.monotonic()
            start = max(now, self._next_start)
            self._next_start = start + self._interval
        try:
            if start > now:
                time.sleep(start - now)
            yield
        finally:
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

    def complained(self) -> None:
        """The host asked for less."""
        with self._changed:
            self._allowed = max(1, self._allowed // 2)
            self._content = 0

    def answered(self) -> None:
        """The host answered as it should."""
        with self._changed:
            self._content += 1
            if self._content >= _RAISE_AFTER and self._allowed < self._most:
                self._allowed += 1
                self._content = 0
                self._changed.notify()


@cache
def limiter_for(host: str, concurrency: int, per_second: float) -> Limiter:
    """The one Limiter of this process for those who ask a host alike."""
    return Limiter(concurrency, per_second)
