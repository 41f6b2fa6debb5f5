"""The documentation as something that runs: its code blocks found, executed, and their output compared or written anew.

    python docs/pages.py                              # every page that runs: execute it, write what it printed
    python docs/pages.py docs/tutorial.md README.md   # only these

A comment stands above every block of code that a person could type (`console`, `sh`, `python`):

    <!-- run -->              the tests run it, and what it prints has to look like what the page shows
    <!-- run: tiny -->        the same, on the tiny planet: TINY says how its commands are shortened
    <!-- run: fails -->       its last command ends with an error
    <!-- by hand: why -->     only this script runs it
    <!-- not run: why -->     nobody does

Above a `text` block, `<!-- output -->` says that it shows what the Python block before it printed. A page is run from
top to bottom in one folder of its own, its Python blocks share their names, and `<!-- begins with: planet, mydata -->`
says what lies in the folder: the catalog of the tiny planet, and a dataset cut from it.
"""

import contextlib
import io
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
TYPED = ("console", "sh", "bash", "shell", "python", "py")
"""Languages of blocks that a person could type; each needs a marker."""
MARKERS = ("run", "run: tiny", "run: fails", "by hand", "not run", "command")
"""What a marker may begin with; `command` is the README's own, for what CI runs."""
ANYTHING = "…"
"""A line of shown output that stands for any lines."""

TINY = (
    ("geossl sandbox planet", "geossl sandbox planet --size tiny"),
    ("--size 96", "--size 60 --test 0.3"),
    ("--block-km 3", "--block-km 1"),
    ("--workers 2", "--workers 1"),
    ("--epochs 10", "--epochs 1"),
    ("--crop 60", "--crop 48"),
    ("--count 10000", "--count 60"),
    ("--encoder vit-small --batch-size 256", "--encoder resnet10 --batch-size 8"),
)
"""How a command of the small planet becomes one that takes a moment on the tiny planet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """One fenced block of a page."""

    page: str
    line: int
    """Of its opening fence, from 1."""
    language: str
    marker: str
    """What the comment above it says; empty where there is none."""
    lines: tuple[str, ...]
    """Its content without the fences, and without their indentation."""
    indent: str = ""

    @property
    def where(self) -> str:
        """Page and line, as an editor opens them."""
        return f"{self.page}:{self.line}"

    @property
    def text(self) -> str:
        """Its content."""
        return "\n".join(self.lines)

    @property
    def runs(self) -> bool:
        """Whether the tests run it."""
        return self.marker.split(":")[0] == "run"

    @property
    def runs_by_hand(self) -> bool:
        """Whether this script runs it, tests or not."""
        return self.runs or self.marker.startswith("by hand")

    @property
    def commands(self) -> list[tuple[str, tuple[str, ...]]]:
        """Of a `console` block each command with the output that is shown for it; of a `sh` block its lines."""
        found: list[tuple[str, list[str]]] = []
        continued = False
        for line in self.lines:
            if continued:
                found[-1] = (f"{found[-1][0]} {line.strip()}", found[-1][1])
            elif self.language != "console":
                if line.split("#")[0].strip():
                    found.append((line.strip(), []))
                else:
                    continue
            elif line.startswith("$ "):
                found.append((line[2:], []))
            elif found:
                found[-1][1].append(line)
                continue
            else:
                continue
            command = found[-1][0]
            continued = command.endswith("\\")
            if continued:
                found[-1] = (command.removesuffix("\\").rstrip(), found[-1][1])
        return [(command, tuple(output)) for command, output in found]


_FENCE = re.compile(r"^(\s*)(`{3,})\s*([A-Za-z0-9_-]*)")
_COMMENT = re.compile(r"^\s*<!--\s*(.*?)\s*-->\s*$")


def blocks_of(path: Path) -> list[Block]:
    """The fenced blocks of a page, in order; ValueError for one that is not closed."""
    found: list[Block] = []
    lines = path.read_text(encoding="utf-8").splitlines()
    page = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else path.name
    number = 0
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if fence is None:
            number += 1
            continue
        indent, ticks, language = fence[1], fence[2], fence[3]
        end = next((at for at in range(number + 1, len(lines)) if lines[at].strip() == ticks), None)
        if end is None:
            raise ValueError(f"{page}:{number + 1}: a block that is not closed")
        comment = _COMMENT.match(lines[number - 1]) if number else None
        content = tuple(line.removeprefix(indent) for line in lines[number + 1 : end])
        found.append(
            Block(
                page=page, line=number + 1, language=language, marker="" if comment is None else comment[1],
                lines=content, indent=indent,
            )
        )  # fmt: skip
        number = end + 1
    return found


def pages() -> list[Path]:
    """Every page of the site and the README."""
    return [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def beginnings(path: Path) -> tuple[str, ...]:
    """What the page says that its folder begins with."""
    found = re.search(r"<!--\s*begins with:\s*(.*?)\s*-->", path.read_text(encoding="utf-8"))
    return tuple(name.strip() for name in found[1].split(",")) if found else ()


# ------------------------------------------------------------------------------------------------ what is printed


def masked(line: str) -> str:
    """A line of output without what differs from one machine and planet to the next: numbers, strata, widths."""
    line = re.sub(r"\b[NS]\d{2}[EW]\d{3}\b|\b[0-9a-f]{8,}\b", "#", line)
    line = re.sub(r"[-−]?\d[\d,.]*", "#", line)
    line = re.sub(r"[─━]{2,}", "─", line)
    return re.sub(r"\s{2,}", "  ", line).strip()


def difference(shown: Sequence[str], printed: Sequence[str], *, tiny: bool = False) -> str | None:
    """How what a page shows differs from what was printed; None where it does not.

    tiny: the page shows the small planet, so only the first column of every shown line has to be printed.
    """
    wanted = [masked(line) for line in shown if line.strip()]
    found = [masked(line) for line in printed if line.strip()]
    if tiny:
        firsts = {line.split("  ")[0] for line in found}
        lacking = [line for line in wanted if line != ANYTHING and line.split("  ")[0] not in firsts]
        return f"shows {lacking[0]!r}, which is not printed" if lacking else None
    pattern = "".join(r"(?:[^\n]*\n)*" if line == ANYTHING else f"{re.escape(line)}\n" for line in wanted)
    if re.fullmatch(pattern, "".join(f"{line}\n" for line in found)):
        return None
    first = next((at for at, pair in enumerate(zip(wanted, found, strict=False)) if pair[0] != pair[1]), None)
    if first is None:
        first = min(len(wanted), len(found))
    shown_line = wanted[first] if first < len(wanted) else "nothing more"
    found_line = found[first] if first < len(found) else "nothing more"
    return f"shows {shown_line!r} where {found_line!r} is printed"


# ------------------------------------------------------------------------------------------------ running


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """What came of one command or Python block."""

    block: Block
    command: str
    """Empty for a Python block."""
    shown: tuple[str, ...]
    printed: tuple[str, ...]
    problem: str | None
    """One line where it did not go as the page says."""


class Session:
    """A page on its way: the folder it is in, and the names its Python blocks have made."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, Any] = {"__name__": "__docs__"}

    def command(self, line: str) -> tuple[int, str, str]:
        """Exit code, standard output and standard error of one command line.

        `cd` changes the session's folder; `geossl` runs in this process; whatever else there is goes to a shell.
        """
        words = shlex.split(line)
        if words[0] == "cd":
            self.folder = (self.folder / words[1]).resolve()
            return 0, "", ""
        if words[0] == "geossl" and not {"|", "&&", ">", "||", ";"} & set(words):
            return self._geossl(words[1:])
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            ["bash", "-c", line], cwd=self.folder, env=environment, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr

    def _geossl(self, arguments: list[str]) -> tuple[int, str, str]:
        from geossl_cli.app import app
        from geossl_cli.console import run_app

        out, err = io.StringIO(), io.StringIO()
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = run_app(app, arguments)
        return code, out.getvalue(), err.getvalue()

    def python(self, block: Block) -> str:
        """What a Python block prints. Whatever it raises comes through, with the page's own line numbers."""
        out = io.StringIO()
        code = compile("\n" * block.line + block.text, block.page, "exec")
        with contextlib.chdir(self.folder), contextlib.redirect_stdout(out):
            exec(code, self.names)
        return out.getvalue()


def shortened(command: str) -> str:
    """A command of the small planet as it is run on the tiny one."""
    for long, short in TINY:
        command = command.replace(long, short)
    return command


def run_page(path: Path, folder: Path, *, by_hand: bool = False) -> Iterator[Ran]:
    """Run a page in a folder, block by block, and say what came of each.

    by_hand: also blocks for this script alone, and nothing is shortened.
    """
    session = Session(folder)
    printed: tuple[str, ...] = ()
    for block in blocks_of(path):
        if block.marker == "output":
            problem = difference(block.lines, printed)
            yield Ran(block=block, command="", shown=block.lines, printed=printed, problem=problem)
        elif not (block.runs or (by_hand and block.runs_by_hand)):
            continue
        elif block.language in ("python", "py"):
            printed = tuple(session.python(block).rstrip().splitlines())
            yield Ran(block=block, command="", shown=(), printed=(), problem=None)
        else:
            yield from _commands(block, session, tiny=block.marker == "run: tiny" and not by_hand)


def _commands(block: Block, session: Session, *, tiny: bool) -> Iterator[Ran]:
    for number, (command, shown) in enumerate(block.commands, 1):
        code, out, err = session.command(shortened(command) if tiny else command)
        fails = block.marker == "run: fails" and number == len(block.commands)
        printed = tuple((err if fails else out).rstrip().splitlines())
        problem = None
        if (code != 0) != fails:
            problem = f"ends with {code}: {(err or out).strip().splitlines()[-1:]}"
        elif any(line.strip() for line in shown):
            problem = difference(shown, printed, tiny=tiny)
        yield Ran(block=block, command=command, shown=shown, printed=printed, problem=problem)


# ------------------------------------------------------------------------------------------------ writing anew


def renewed(path: Path, ran: Sequence[Ran]) -> str:
    """The page with what was printed in place of what it showed; blocks that show no output stay without."""
    lines = path.read_text(encoding="utf-8").splitlines()
    by_block: dict[int, list[Ran]] = {}
    for one in ran:
        by_block.setdefault(one.block.line, []).append(one)
    for line in sorted(by_block, reverse=True):
        block = by_block[line][0].block
        content = _anew(block, by_block[line])
        if content is not None:
            lines[line : line + len(block.lines)] = [f"{block.indent}{text}".rstrip() for text in content]
    return "\n".join(lines) + "\n"


def _anew(block: Block, ran: Sequence[Ran]) -> list[str] | None:
    if block.marker == "output":
        return list(ran[0].printed)
    if block.language != "console" or not any(text.strip() for one in ran for text in one.shown):
        return None
    content: list[str] = []
    typed = _as_typed(block)
    for number, one in enumerate(ran):
        if number and (one.shown or ran[number - 1].shown):
            content.append("")
        content += typed[number]
        if any(text.strip() for text in one.shown):
            content += one.shown if ANYTHING in (text.strip() for text in one.shown) else one.printed
    return [text for text, _ in _squeezed(content)]


def _as_typed(block: Block) -> list[list[str]]:
    """The lines of each command as the page has them, broken lines and all."""
    typed: list[list[str]] = []
    for line in block.lines:
        if line.startswith("$ "):
            typed.append([line])
        elif typed and typed[-1][-1].endswith("\\"):
            typed[-1].append(line)
    return typed


def _squeezed(lines: Sequence[str]) -> Iterator[tuple[str, int]]:
    """Lines without a second empty one in a row, nor one at either end."""
    for number, line in enumerate(lines):
        if line.strip() or (0 < number < len(lines) - 1 and lines[number - 1].strip()):
            yield line, number


# ------------------------------------------------------------------------------------------------ the folder


def make_beginnings(folder: Path) -> dict[str, Path]:
    """What pages may begin with, made in a folder: the tiny planet, and a dataset of 40 places cut from it."""
    from geossl_data import pipeline
    from geossl_data.recipe import FetchOptions, SampleOptions, ShardOptions
    from geossl_data.sandbox import build_sandbox

    catalog = build_sandbox(folder / "planet", size="tiny", seed=0)
    data = folder / "mydata"
    pipeline.fetch(data, FetchOptions(catalog=str(catalog), max_cloud=60))
    pipeline.sample(data, SampleOptions(size=60, looks="seasons", block_km=1.0, test=0.3, val=0.1, count=40))
    pipeline.shard(data, ShardOptions(shard_mb=1))
    return {"planet": folder / "planet", "mydata": data}


def begin(path: Path, folder: Path, there: Mapping[str, Path]) -> None:
    """Copy what a page begins with into its folder; the checkout's examples are beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in beginnings(path):
        shutil.copytree(there[name], folder / name)
    (folder / "examples").symlink_to(ROOT / "examples")


def main(names: Sequence[str]) -> int:
    """Run pages, write them anew, and tell what did not go as they say; answers with the exit code."""
    chosen = [(ROOT / name).resolve() for name in names] or [
        path for path in pages() if any(block.runs for block in blocks_of(path))
    ]
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        there = make_beginnings(Path(scratch) / "there") if any(map(beginnings, chosen)) else {}
        for number, path in enumerate(chosen):
            folder = Path(scratch) / f"page{number}"
            begin(path, folder, there)
            ran = []
            for one in run_page(path, folder, by_hand=True):
                is_broken = one.problem is not None and one.problem.startswith("ends with")
                failed += is_broken
                if one.problem is not None:
                    print(f"{one.block.where}: {one.command or one.block.language} {one.problem}", file=sys.stderr)
                ran.append(replace(one, printed=one.shown) if is_broken else one)
            path.write_text(renewed(path, ran), encoding="utf-8")
            print(f"{path.relative_to(ROOT)}: {len(ran)} blocks and commands")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
