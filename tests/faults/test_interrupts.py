"""Ctrl-C in a terminal, which reaches every process of a command: one line, nothing half-written, the rest later."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from geossl_data import pipeline

LINE = "geossl: interrupted; run the same command again to go on from here"


def interrupted(command: list[str], ready: Callable[[int], bool]) -> tuple[int, str]:
    """Send SIGINT to the process group of a command as soon as `ready(pid)`; its exit code and standard error."""

    def as_in_a_terminal() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)

    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=as_in_a_terminal,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not ready(process.pid) and process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, err


def workers(pid: int) -> int:
    """How many worker processes a command has started."""
    try:
        lines = [" ".join(child.cmdline()) for child in psutil.Process(pid).children()]
    except psutil.NoSuchProcess:
        return 0
    return sum("spawn_main" in line for line in lines)


@pytest.mark.parametrize("when", ["starting", "importing", "joining", "working"])
def test_ctrl_c_ends_a_cluster_with_one_line_and_the_next_run_goes_on(dataset: Path, built: Path, when: str) -> None:
    shutil.rmtree(dataset / "shards")
    (dataset / "manifest.parquet").unlink()
    (dataset / ".lock").unlink()
    journal = dataset / "shards" / ".journal"

    def ready(pid: int) -> bool:
        match when:
            case "starting":
                return (dataset / ".lock").exists()
            case "importing":
                # Not exactly one: on a busy machine both may have come between two looks.
                return workers(pid) >= 1
            case "joining":
                return workers(pid) >= 2
        return any(journal.glob("*.json"))

    command = [sys.executable, "-m", "geossl_cli.app", "shard", str(dataset), "--workers", "2"]
    assert interrupted(command, ready) == (1, LINE + "\n")
    assert not (dataset / "manifest.parquet").exists()
    assert list(dataset.glob("**/.*.tmp")) == []
    assert pipeline.shard(dataset).fresh
    assert pipeline.digest(dataset) == pipeline.digest(built)
