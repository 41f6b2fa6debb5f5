"""The loop ends with its interpreter, without a word; a fork has its own; Ctrl-C is heard while a read is under way."""

import asyncio
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path

import pytest
from faults.blobs import Cloud, Seen, serve_cloud

from geossl_data.scenes.opening import background
from geossl_data.scenes.opening.background import background_loop

CONTENT = b"II*\x00" + bytes(range(256)) * 40
WARNING = ("-W", "always", "-W", "ignore:This process:DeprecationWarning")
"""Every warning is shown; that a fork of a process with threads is one is known."""


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    (tmp_path / "a.tif").write_bytes(CONTENT)
    with serve_cloud(tmp_path) as served:
        served.needs_signature = False
        yield served


def started(cloud: Cloud, script: str) -> "subprocess.Popen[str]":
    """A process with `access` and the address `href` of a file at hand, whose standard input stays open."""
    prelude = (
        "import asyncio, os, sys, threading\n"
        "from geossl_data.scenes.opening.access import Access\n"
        f"access, href = Access(), {cloud.href('a.tif')!r}\n"
    )
    return subprocess.Popen(
        [sys.executable, *WARNING, "-c", prelude + script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def told(process: "subprocess.Popen[str]") -> None:
    """Let a process go on that waits for a line."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def ended(process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    try:
        out, err = process.communicate(timeout=60)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return process.returncode, out, err


def wait_for_requests(cloud: Cloud, n: int) -> None:
    until = time.monotonic() + 60
    while cloud.under_way < n and time.monotonic() < until:
        time.sleep(0.01)
    assert cloud.under_way == n


def hold(cloud: Cloud) -> threading.Event:
    """Requests are answered only after the event."""
    opened = threading.Event()

    def behave(seen: Seen, number: int) -> None:
        opened.wait(60)

    cloud.on_blob = behave
    return opened


def test_an_interpreter_that_ends_closes_its_connections_without_a_word(cloud: Cloud) -> None:
    script = "print(len(access.read(href, 0, 100).data))\nasyncio.run(access.fetch(href, 0, 10))\n"
    assert ended(started(cloud, script)) == (0, "100\n", "")


def test_an_interpreter_that_ends_waits_for_no_read(cloud: Cloud) -> None:
    opened = hold(cloud)
    script = (
        "async def many():\n"
        "    await asyncio.gather(*(access.fetch(href, n, 10) for n in range(9)))\n"
        "asyncio.run_coroutine_threadsafe(many(), access.loop())\n"
        "sys.stdin.readline()\n"
    )
    process = started(cloud, script)
    try:
        wait_for_requests(cloud, 9)
        told(process)
        assert ended(process) == (0, "", "")
    finally:
        opened.set()


def test_an_interpreter_that_ends_waits_for_no_blocking_call(cloud: Cloud) -> None:
    script = (
        "import time\n"
        "async def block():\n"
        "    await asyncio.get_running_loop().in_thread(lambda: time.sleep(300))\n"
        "asyncio.run_coroutine_threadsafe(block(), access.loop())\n"
        "while threading.active_count() < 3: time.sleep(0.01)\n"
    )
    assert ended(started(cloud, script)) == (0, "", "")


def test_5_08_ctrl_c_is_heard_while_a_read_is_under_way(cloud: Cloud) -> None:
    opened = hold(cloud)
    script = "try:\n    access.read(href, 0, 10)\nexcept KeyboardInterrupt:\n    print('heard')\n"
    process = started(cloud, script)
    try:
        wait_for_requests(cloud, 1)
        process.send_signal(signal.SIGINT)
        assert ended(process) == (0, "heard\n", "")
    finally:
        opened.set()


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_2_11_a_fork_reads_with_a_loop_of_its_own(cloud: Cloud, end: str) -> None:
    script = (
        "before = access.read(href, 0, 100).data\n"
        "loop = access.loop()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    same = access.read(href, 0, 100).data == before and access.loop() is not loop\n"
        "    print('child', same, flush=True)\n"
        f"    {end}\n"
        "os.waitpid(child, 0)\n"
        "print('parent', access.read(href, 0, 100).data == before and access.loop() is loop)\n"
    )
    assert ended(started(cloud, script)) == (0, "child True\nparent True\n", "")
    assert len(cloud.blobs) == 3


def test_2_11_a_fork_in_the_middle_of_many_reads_leaves_the_parents_alone(cloud: Cloud) -> None:
    opened = hold(cloud)
    script = (
        "async def many():\n"
        "    return await asyncio.gather(*(access.fetch(href, n, 10) for n in range(9)))\n"
        "reading = asyncio.run_coroutine_threadsafe(many(), access.loop())\n"
        "sys.stdin.readline()\n"
        "child = os.fork()\n"
        "if not child:\n"
        "    sys.exit(0)\n"
        "os.waitpid(child, 0)\n"
        "print('forked', flush=True)\n"
        "print(sum(len(piece.data) for piece in reading.result()))\n"
    )
    process = started(cloud, script)
    assert process.stdout is not None
    try:
        wait_for_requests(cloud, 9)
        told(process)
        assert process.stdout.readline() == "forked\n"
    finally:
        opened.set()
    assert ended(process) == (0, "90\n", "")


def test_two_processes_made_by_multiprocessing_read_side_by_side(cloud: Cloud) -> None:
    script = (
        "import multiprocessing\n"
        "def main():\n"
        "    access.read(href, 0, 10)\n"
        "    for how in ('fork', 'spawn'):\n"
        "        with multiprocessing.get_context(how).Pool(1) as pool:\n"
        "            jobs = [pool.apply_async(access.read, (href, n, 10)) for n in range(4)]\n"
        "            print(sum(len(job.get(60).data) for job in jobs))\n"
        "            pool.close()\n"
        "            pool.join()\n"
        "if __name__ == '__main__':\n"
        "    main()\n"
    )
    code, out, err = ended(started(cloud, script))
    assert (code, out, err) == (0, "40\n40\n", "")


def test_a_loop_that_was_stopped_is_started_anew(cloud: Cloud) -> None:
    from geossl_data.scenes.opening.access import Access

    access = Access()
    access.read(cloud.href("a.tif"), 0, 10)
    before = background_loop()
    background.stop()
    assert before.is_closed()
    assert access.read(cloud.href("a.tif"), 0, 10).data == CONTENT[:10]
    assert background_loop() is not before


def test_blocking_calls_give_results_and_errors_in_few_threads() -> None:
    async def call() -> list[int | BaseException]:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, background.Loop)
        calls = [loop.in_thread(lambda n=n: 60 // n) for n in range(200)]
        return await asyncio.gather(*calls, return_exceptions=True)

    before = {thread.ident for thread in threading.enumerate()}
    results = asyncio.run_coroutine_threadsafe(call(), background_loop()).result(60)
    assert isinstance(results[0], ZeroDivisionError)
    assert results[1:] == [60 // n for n in range(1, 200)]
    started = [thread for thread in threading.enumerate() if thread.ident not in before]
    assert sum(thread.name.startswith("geossl-blocking") for thread in started) <= 32


def test_requests_that_nobody_answers_end_with_the_loop(cloud: Cloud) -> None:
    from geossl_data.scenes.opening.access import Access

    opened = hold(cloud)
    loop = background_loop()
    reading = asyncio.run_coroutine_threadsafe(Access().fetch(cloud.href("a.tif"), 0, 10), loop)
    wait_for_requests(cloud, 1)
    background.stop()
    opened.set()
    with pytest.raises(CancelledError):
        reading.result(10)


def test_a_loop_that_is_closed_keeps_no_thread() -> None:
    loop = background_loop()
    assert isinstance(loop, background.Loop)

    async def call() -> int:
        return await loop.in_thread(lambda: 7)

    before = {thread.ident for thread in threading.enumerate()}
    assert asyncio.run_coroutine_threadsafe(call(), loop).result(60) == 7
    started = [thread for thread in threading.enumerate() if thread.ident not in before]
    background.stop()
    for thread in started:
        thread.join(10)
    assert not any(thread.is_alive() for thread in started)
