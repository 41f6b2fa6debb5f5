"""Gates: how many requests to a host may be under way, for readers on one event loop."""

import asyncio
from collections import deque

RAISE_AFTER = 20
"""Good answers after which one more request may be under way."""


class Gate:
    """Lets at most `most` requests be under way, in the order in which they come.

    A host that complains gets half as many at a time, once for all requests that were under way together; after
    RAISE_AFTER good answers one more (additive increase, multiplicative decrease, as in TCP).
    """

    def __init__(self, most: int) -> None:
        self.allowed = most
        """Requests that may be under way now."""
        self._most = most
        self._under_way = 0
        self._good = 0
        self._era = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    async def enter(self) -> int:
        """Wait for a place and take it; gives what `complained` asks for. Each `enter` needs its `leave`."""
        if self._waiting or self._under_way >= self.allowed:
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.leave()
                raise
        else:
            self._under_way += 1
        return self._era

    def leave(self) -> None:
        """Give a place back."""
        self._under_way -= 1
        self._let_in()

    def complained(self, era: int) -> None:
        """The host asked for less, in answer to a request that entered in this era."""
        self._good = 0
        if era == self._era:
            self._era += 1
            self.allowed = max(1, self.allowed // 2)

    def answered(self) -> None:
        """The host answered as it should."""
        self._good += 1
        if self._good >= RAISE_AFTER and self.allowed < self._most:
            self.allowed += 1
            self._good = 0
            self._let_in()

    def _let_in(self) -> None:
        while self._waiting and self._under_way < self.allowed:
            turn = self._waiting.popleft()
            if not turn.done():
                self._under_way += 1
                turn.set_result(None)
