"""What all commands share: --quiet, --verbose, --json, colours, completion, and errors that are no bug of ours."""

import io
import json
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from geossl_cli import console
from geossl_data import pipeline
from geossl_data.pipeline import Report
from geossl_data.recipe import Recipe, read_recipe

Command = Callable[..., tuple[int, str, str]]
COMMANDS = (
    "fetch", "sample", "shard", "pretrain", "evaluate", "info", "verify", "report", "export", "run", "sweep", "config",
    "sandbox", "demo",
)  # fmt: skip
LOG = logging.getLogger("geossl_data.scenes.search")


class Teletype(io.StringIO):
    """A text that takes itself for a terminal."""

    def isatty(self) -> bool:
        return True


def teletype(monkeypatch: pytest.MonkeyPatch) -> Teletype:
    """Standard output, from here on."""
    stream = Teletype()
    monkeypatch.setattr(sys, "stdout", stream)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    return stream


@pytest.fixture
def talkative(monkeypatch: pytest.MonkeyPatch) -> None:
    """`geossl verify` logs and finds nothing."""

    def verify(folder: Path, **_: Any) -> list[Any]:
        LOG.debug("GET https://host/item?sig=CANARY")
        LOG.info("3 items of %s", "https://user:CANARY@host/items")
        return []

    monkeypatch.setattr(pipeline, "verify", verify)
    monkeypatch.setattr(pipeline, "nearest_splits", lambda folder: {"train–test": 1.234})


REPORT = Report(
    stage="sample",
    fresh=True,
    facts={"places drawn": 1200, "share": float("nan"), "where": Path("here")},
    skipped={"read-failed": 2},
    table=(("stratum", "drawn"), ("S15E150", "12")),
    hints=("geossl shard",),
)


# ------------------------------------------------------------------------------------------------ manner


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_the_same_options(geossl: Command, command: str) -> None:
    out = geossl(command, "--help")[1]
    assert all(option in out for option in ("--json", "--quiet", "-q", "--verbose", "-v"))


@pytest.mark.parametrize("arguments", [("-q", "verify"), ("verify", "--quiet")])
def test_quiet_says_nothing_before_or_after_the_command(
    geossl: Command, talkative: None, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    assert geossl(*arguments, tmp_path) == (0, "", "")
    # The next command speaks again.
    assert geossl("verify", tmp_path)[1] == "verify\n  no findings\n  nearest train–test  1.23 km\n"


def test_quiet_keeps_errors_and_what_was_asked_for(geossl: Command, talkative: None, tmp_path: Path) -> None:
    code, out, _ = geossl("-q", "verify", tmp_path, "--json")
    assert (code, json.loads(out)["stage"]) == (0, "verify")
    assert geossl("-q", "config", tmp_path)[1].startswith("# Replay with")
    code, out, err = geossl("-q", "sample", tmp_path)
    assert (code, out) == (1, "")
    assert "not a geossl dataset" in err


@pytest.mark.parametrize("arguments", [("-v", "verify"), ("verify", "--verbose"), ("-v", "verify", "-v")])
def test_verbose_shows_records_with_times_and_without_secrets(
    geossl: Command, talkative: None, tmp_path: Path, arguments: tuple[str, ...]
) -> None:
    code, out, err = geossl(*arguments, tmp_path)
    assert (code, out.splitlines()[0]) == (0, "verify")
    (line,) = err.splitlines()
    time, rest = line.split(" ", 1)
    assert (time[4], time[10], time[-1]) == ("-", "T", "Z")
    assert rest == "INFO geossl_data.scenes.search: 3 items of https://host/items"
    assert geossl("verify", tmp_path)[2] == ""
    assert logging.getLogger("geossl_data").level == logging.NOTSET


def test_very_verbose_shows_all(geossl: Command, talkative: None, tmp_path: Path) -> None:
    err = geossl("verify", "-vv", tmp_path)[2]
    assert [line.split()[1] for line in err.splitlines()] == ["DEBUG", "INFO"]
    assert "CANARY" not in err


def test_the_version(geossl: Command) -> None:
    from geossl_data.version import VERSION

    assert geossl("--version") == (0, f"geossl {VERSION}\n", "")


def test_only_the_first_process_shows_progress_and_results(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    with console.progress("pretraining", 3) as task:
        task.advance()
    console.show(REPORT, ".")
    console.show(REPORT, ".", as_json=True)
    assert capsys.readouterr() == ("", "")


# ------------------------------------------------------------------------------------------------ JSON


def test_a_report_as_json_is_one_strict_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(REPORT, "data", as_json=True)
    out = capsys.readouterr().out
    assert out.count("\n") == 1
    assert json.loads(out, parse_constant=pytest.fail) == {
        "stage": "sample",
        "fresh": True,
        "facts": {"places drawn": 1200, "share": None, "where": "here"},
        "skipped": {"read-failed": 2},
        "table": [["stratum", "drawn"], ["S15E150", "12"]],
        "next": ["geossl shard data"],
    }


def test_a_recipe_as_json_is_a_recipe(geossl: Command, tmp_path: Path) -> None:
    out = geossl("config", tmp_path, "--json")[1]
    path = tmp_path / "recipe.json"
    path.write_text(out)
    assert read_recipe(path) == Recipe.complete()


def test_replays_say_one_object_for_each_stage(geossl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "run", lambda *_, **__: iter([REPORT, REPORT]))
    code, out, _ = geossl("run", "recipe.yaml", "--out", "data", "--json")
    assert (code, [json.loads(line)["stage"] for line in out.splitlines()]) == (0, ["sample", "sample"])


def test_a_demo_says_one_object_for_each_stage(geossl: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def run_demo(folder: Path, *, show: Callable[[Report], None], **_: Any) -> Report:
        show(REPORT)
        return Report(stage="demo", fresh=True, facts={})

    monkeypatch.setattr("geossl_data.demo.run_demo", run_demo)
    code, out, _ = geossl("demo", "--json")
    assert (code, [json.loads(line)["stage"] for line in out.splitlines()]) == (0, ["sample", "demo"])


def test_a_planet_as_json(geossl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "catalog.parquet").write_bytes(bytes(2_600_000))
    monkeypatch.setattr("geossl_data.sandbox.build_sandbox", lambda folder, **_: folder / "catalog.parquet")
    told = json.loads(geossl("sandbox", tmp_path, "--json")[1])
    assert (told["stage"], told["facts"]["MB"]) == ("sandbox", 3)
    assert told["next"] == [f"geossl fetch mydata --catalog {tmp_path / 'catalog.parquet'}"]
    assert f"  geossl fetch mydata --catalog {tmp_path / 'catalog.parquet'}\n" in geossl("sandbox", tmp_path)[1]


# ------------------------------------------------------------------------------------------------ colours


def test_a_terminal_gets_bold_names_and_green_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = teletype(monkeypatch)
    console.show(REPORT, ".")
    out = stream.getvalue()
    assert out.startswith("\x1b[1msample\x1b[0m\n")
    assert "  \x1b[32mgeossl shard\x1b[0m\n" in out


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_colours_can_be_put_off(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    stream = teletype(monkeypatch)
    monkeypatch.setenv(name, value)
    console.show(REPORT, ".")
    assert "\x1b" not in stream.getvalue()
    assert "read-failed" in stream.getvalue()


def test_pipes_get_no_colours(capsys: pytest.CaptureFixture[str]) -> None:
    console.show(REPORT, ".")
    assert "\x1b" not in capsys.readouterr().out


def test_a_dumb_terminal_gets_no_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[str] = []
    monkeypatch.setattr(console._SCREEN, "begin", lambda command, canvas: begun.append(command))
    monkeypatch.setattr(console._SCREEN, "watch", lambda: None)
    monkeypatch.setattr(sys, "stderr", Teletype())
    monkeypatch.setenv("TERM", "dumb")
    console.begin("shard")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("RANK", "2")
    console.begin("pretrain")
    monkeypatch.setenv("RANK", "0")
    console.begin("fetch")
    assert begun == ["fetch"]


# ------------------------------------------------------------------------------------------------ errors


def test_a_package_that_is_not_installed_is_named_with_what_brings_it(
    geossl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def verify(folder: Path, **_: Any) -> None:
        raise ModuleNotFoundError("No module named 'torch'", name="torch")

    monkeypatch.setattr(pipeline, "verify", verify)
    code, out, err = geossl("verify", tmp_path)
    assert (code, out) == (1, "")
    assert err == "geossl: torch is not installed, which this needs: run `pip install 'geossl[train]'`\n"


def test_another_missing_module_is_our_bug(geossl: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def verify(folder: Path, **_: Any) -> None:
        raise ModuleNotFoundError("No module named 'geossl_data.nothing'", name="geossl_data.nothing")

    monkeypatch.setattr(pipeline, "verify", verify)
    with pytest.raises(ModuleNotFoundError):
        geossl("verify", tmp_path)


# ------------------------------------------------------------------------------------------------ shells

HEAVY = {"torch", "rasterio", "geopandas", "shapely", "pystac_client", "dask", "pyarrow", "numpy", "rich"}
TYPED = {
    "geossl s": ["sample", "shard", "sweep", "sandbox"],
    "geossl sample data --strategy ge": ["geography"],
    "geossl pretrain --ove": ["--overfit"],
}
COMPLETED = f"""
import contextlib, os, sys
from geossl_cli.app import main
sys.argv = ["geossl"]
os.environ["_GEOSSL_COMPLETE"] = "complete_bash"
for typed in {list(TYPED)!r}:
    os.environ |= {{"COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}}
    with contextlib.suppress(SystemExit):
        main()
    print("end")
print(sorted({HEAVY!r} & set(sys.modules)))
"""
INSTALLED = """
import contextlib, sys
from geossl_cli.app import main
for option in ("--show-completion", "--install-completion"):
    sys.argv = ["geossl", option, "fish"]
    with contextlib.suppress(SystemExit):
        main()
"""


def shell(code: str, **environment: str) -> str:
    """What a process of its own prints."""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, check=True, env={**os.environ, **environment}).stdout


def test_shells_complete_commands_options_and_choices_and_load_nothing_heavy() -> None:
    *answers, loaded = shell(COMPLETED).split("end\n")
    assert [answer.split() for answer in answers] == list(TYPED.values())
    assert loaded == "[]\n"


def test_completion_is_installed_for_a_shell(tmp_path: Path) -> None:
    out = shell(INSTALLED, HOME=str(tmp_path), _TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION="1")
    shown, installed = out.split("fish completion installed")
    (script,) = tmp_path.rglob("geossl.fish")
    assert str(script) in installed
    assert "_GEOSSL_COMPLETE=complete_fish" in script.read_text()
    assert script.read_text().strip() == shown.strip()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 1), (signal.SIGTERM, 143)])
def test_an_interruption_that_a_library_makes_another_error_of(
    number: int, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Code in C++ that calls back into Python does so: matplotlib says "Invalid bounding box" instead."""

    def app(_arguments: object, *, standalone_mode: bool) -> None:
        try:
            os.kill(os.getpid(), number)
            time.sleep(5)
        except KeyboardInterrupt:
            raise ValueError("Invalid bounding box") from None

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert console.run_app(app, []) == code
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert capsys.readouterr().err == "geossl: interrupted; run the same command again to go on from here\n"


def test_a_bug_is_no_interruption() -> None:
    def app(_arguments: object, *, standalone_mode: bool) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        console.run_app(app, [])
