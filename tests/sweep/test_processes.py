"""Processes: what they are told, what becomes of those that die, and that none is left."""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from sweep import jobs

from geossl_data.sweep import processes
from geossl_data.sweep.processes import Failure, devices, environments, run_jobs


def test_jobs_are_done_whatever_befalls_the_others(tmp_path: Path) -> None:
    todo = {
        "first": partial(jobs.note, tmp_path, "first"),
        "dead": jobs.die,
        "failed": partial(jobs.fail, "no\nloss"),
        "stumbled": jobs.stumble,
        "last": partial(jobs.note, tmp_path, "last"),
    }
    ended: list[tuple[str, Failure | None]] = []
    run_jobs(todo, environments(1, ("7",)), lambda name, failure: ended.append((name, failure)))
    assert [name for name, _ in ended] == list(todo)
    reasons = {name: failure for name, failure in ended if failure is not None}
    assert sorted(reasons) == ["dead", "failed", "stumbled"]
    assert reasons["dead"].reason == "its process was ended by SIGKILL; the machine may have run out of memory"
    assert reasons["failed"] == Failure("no loss")
    assert reasons["stumbled"].reason == "ValueError: https://example.org/a"
    assert "jobs.py" in reasons["stumbled"].trace
    assert "secret" not in reasons["stumbled"].trace
    first, last = ((tmp_path / name).read_text().split() for name in ("first", "last"))
    assert first[0] != last[0] != str(os.getpid())
    assert first[1] == last[1] == "7"
    assert multiprocessing.active_children() == []


SCRIPT = """
from functools import partial
from pathlib import Path
from sweep import jobs
from geossl_data.sweep.processes import environments, run_jobs
if __name__ == "__main__":
    folder = Path({folder!r})
    try:
        run_jobs({{"a": partial(jobs.work_until_stopped, folder)}}, environments(1, ()), print)
    except KeyboardInterrupt:
        (folder / "interrupted").touch()
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_processes_stop_with_the_one_that_started_them(tmp_path: Path, how: signal.Signals) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(folder=str(tmp_path)))
    tests = str(Path(__file__).resolve().parents[1])
    with subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": tests}) as parent:
        try:
            wait_for(tmp_path / "begun")
            parent.send_signal(how)
            parent.wait(60)
        finally:
            parent.kill()
    wait_for(tmp_path / "tidied")
    assert (tmp_path / "interrupted").exists() == (how == signal.SIGINT)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path.name} did not come"
        time.sleep(0.01)


@pytest.mark.parametrize(
    ("named", "expected"),
    [("0,1", ("0", "1")), ("GPU-aa, GPU-bb", ("GPU-aa", "GPU-bb")), ("", ()), ("-1", ()), ("2,-1,3", ("2",))],
)
def test_devices_are_those_that_cuda_would_see(
    monkeypatch: pytest.MonkeyPatch, named: str, expected: tuple[str, ...]
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert devices() == expected


def test_devices_are_counted_by_their_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    for name in ("nvidia10", "nvidia2", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    monkeypatch.setattr(processes, "DEVICE_FILES", tmp_path)
    assert devices() == ("2", "10")


def test_devices_come_in_turn_and_processors_are_shared_out(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in processes.THREADS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    found = environments(3, ("4", "5"))
    assert [one["CUDA_VISIBLE_DEVICES"] for one in found] == ["4", "5", "4"]
    assert {one["OMP_NUM_THREADS"] for one in found} == {"2"}
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert environments(2, ())[0] | {} == {
        "OMP_NUM_THREADS": "3",
        "MKL_NUM_THREADS": "4",
        "OPENBLAS_NUM_THREADS": "4",
        "CUDA_VISIBLE_DEVICES": "",
    }
