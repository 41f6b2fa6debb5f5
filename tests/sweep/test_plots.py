"""The picture of a sweep: as large as what it shows, and it says what it leaves out."""

import struct
from pathlib import Path

import numpy as np
import pytest

from geossl_data.evaluation.bootstrap import Estimate
from geossl_data.evaluation.pictures.canvas import Canvas
from geossl_data.sweep import plots
from geossl_data.sweep.plots import HEAD_PX, ROW_PX
from geossl_data.sweep.table import Group, What


def group(name: str, value: float, low: float = np.nan) -> Group:
    trained = Estimate(value=value, low=low, high=value + 0.1, replicates=np.zeros(1))
    return Group(name=name, values=(value,), trained=trained, random=np.nan, supervised=0.9)


def what(number: int) -> What:
    return ("change", "s2", f"probe {number}", "F1", 0.1)


def test_a_picture_is_as_high_as_its_panels(tmp_path: Path) -> None:
    plots.picture_sweep(
        tmp_path / "a.png", {what(0): [group("one", 0.5), group("$two", 0.0, 0.0)], what(1): [group("x", 7000.0)]}
    )
    data = (tmp_path / "a.png").read_bytes()
    assert struct.unpack(">II", data[16:24]) == (1200, 130 + HEAD_PX + 2 * ROW_PX)


def test_what_has_no_room_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(Canvas, "text", lambda self, x, y, words, **style: said.append(words))
    monkeypatch.setattr(Canvas, "save", lambda self, path: None)
    monkeypatch.setattr(plots, "MOST_PANELS", 2)
    monkeypatch.setattr(plots, "MOST_GROUPS", 3)
    many = [group(str(number), number / 10) for number in range(6)]
    plots.picture_sweep(tmp_path / "a.png", {what(0): many} | {what(n): [group("x", 0.1)] for n in (1, 2)})
    assert any(words.endswith("; 1 more in sweep.csv") for words in said)
    assert "s2, probe 0, 10 % of labels; 3 more" in said
    assert "| random" not in said
    assert "| supervised" in said
