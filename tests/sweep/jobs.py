"""What processes of `test_processes.py` do; apart, so that they need nothing else to begin."""

import os
import signal
import time
from pathlib import Path

from geossl_data.errors import TrainingError


def note(folder: Path, name: str) -> None:
    """Leave a file that says in which process and with which environment this ran."""
    (folder / name).write_text(f"{os.getpid()} {os.environ['CUDA_VISIBLE_DEVICES']} {os.environ['OMP_NUM_THREADS']}")


def fail(text: str) -> None:
    raise TrainingError(text)


def stumble() -> None:
    raise ValueError("https://example.org/a?sig=secret")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def work_until_stopped(folder: Path) -> None:
    """Say that it began, and that it tidied up; longer than any test waits."""
    try:
        (folder / "begun").touch()
        time.sleep(600)
    finally:
        (folder / "tidied").touch()
