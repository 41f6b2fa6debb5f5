"""Background: the event loop of this process on which files are read, in a daemon thread of its own.

An interpreter that ends closes what the loop has open and waits for nobody. A fork leaves the loop to its parent and
starts one of its own when it reads.
"""

import asyncio
import atexit
import contextlib
import os
import queue
import socket
import threading
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, TypeVar

T = TypeVar("T")

CLOSE_S = 5.0
"""How long an interpreter that ends waits for connections to close."""

_MOST_THREADS = 32


class Loop(asyncio.SelectorEventLoop):
    """An event loop whose blocking calls run in daemon threads, which nobody waits for at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.at_close: list[Callable[[], Awaitable[None]]] = []
        """What is to be closed before the loop is."""
        self._is_left_behind = False
        self._todo: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Semaphore(0)
        self._n_threads = 0

    def is_closed(self) -> bool:
        """Also true in a fork: what it inherits must not touch connections and selector, which are its parent's."""
        return self._is_left_behind or super().is_closed()

    def leave_behind(self) -> None:
        """Do nothing any more in this process, and say nothing when it ends."""
        self._is_left_behind = True
        self.set_exception_handler(lambda loop, context: None)

    def in_thread(self, call: Callable[[], T]) -> "asyncio.Future[T]":
        """What a blocking call gives, made in another thread; asked for on the loop's own."""
        future: asyncio.Future[T] = self.create_future()
        self._todo.put(partial(self._made, call, future))
        if not self._idle.acquire(blocking=False) and self._n_threads < _MOST_THREADS:
            self._n_threads += 1
            threading.Thread(target=self._work, name=f"geossl-blocking-{self._n_threads}", daemon=True).start()
        return future

    async def getaddrinfo(self, host: Any, port: Any, **hints: Any) -> Any:
        """As the loop's own, without a thread that an interpreter which ends would wait for."""
        return await self.in_thread(partial(socket.getaddrinfo, host, port, **hints))

    def close(self) -> None:
        """As of any loop; its threads end once they have nothing to do."""
        for _ in range(self._n_threads):
            self._todo.put(None)
        super().close()

    def _work(self) -> None:
        while (call := self._todo.get()) is not None:
            call()
            self._idle.release()

    def _made(self, call: Callable[[], T], future: "asyncio.Future[T]") -> None:
        settle: Callable[[], None]
        try:
            settle = partial(_settle, future, call())
        except BaseException as error:
            settle = partial(_fail, future, error)
        # A loop that is closed meanwhile has nobody left who waits for this.
        with contextlib.suppress(RuntimeError):
            self.call_soon_threadsafe(settle)


def _settle(future: "asyncio.Future[T]", result: T) -> None:
    if not future.done():
        future.set_result(result)


def _fail(future: "asyncio.Future[Any]", error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)


_LOCK = threading.Lock()
_LOOP: Loop | None = None
_THREAD: threading.Thread | None = None
_LEFT_BEHIND: list[Loop] = []
"""Loops of parent processes, kept so that nothing of theirs is cleaned up here."""


def background_loop() -> Loop:
    """The loop of this process, running; started when it is first asked for."""
    global _LOOP, _THREAD
    with _LOCK:
        if _LOOP is None:
            _LOOP = Loop()
            _THREAD = threading.Thread(target=_run, args=(_LOOP,), name="geossl-reading", daemon=True)
            _THREAD.start()
        return _LOOP


def _run(loop: Loop) -> None:
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(_wind_up(loop))
        loop.close()


async def _wind_up(loop: Loop) -> None:
    """End all that runs, then close what is open."""
    under_way = asyncio.all_tasks(loop) - {asyncio.current_task()}
    for task in under_way:
        task.cancel()
    await asyncio.gather(*under_way, return_exceptions=True)
    for close in loop.at_close:
        await close()
    await loop.shutdown_asyncgens()
    # Connections are gone only after the loop has come round once more.
    await asyncio.sleep(0)


def stop() -> None:
    """End the loop of this process; who reads again starts another."""
    global _LOOP, _THREAD
    with _LOCK:
        loop, thread = _LOOP, _THREAD
        _LOOP = _THREAD = None
    if loop is not None and thread is not None:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(CLOSE_S)


def _forget() -> None:
    """A fork has none of its parent's threads, one of which may have held the lock."""
    global _LOCK, _LOOP, _THREAD
    _LOCK = threading.Lock()
    if _LOOP is not None:
        _LOOP.leave_behind()
        _LEFT_BEHIND.append(_LOOP)
    _LOOP = _THREAD = None


atexit.register(stop)
os.register_at_fork(after_in_child=_forget)
