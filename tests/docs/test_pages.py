"""The documentation is true: its commands and programs run, and print what the pages show."""

import importlib.util
import json
import re
import runpy
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from geossl_data.errors import RecipeError
from geossl_data.recipe import Recipe

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
tool = runpy.run_path(str(DOCS / "pages.py"), run_name="docs_pages")
blocks_of, difference, run_page = tool["blocks_of"], tool["difference"], tool["run_page"]

PAGES = tool["pages"]()
RUN = [path for path in PAGES if any(block.runs for block in blocks_of(path))]
GENERATED = {"recipe.md", "cli.md", "errors.md", "api.md"}


def name_of(path: Path) -> str:
    return path.relative_to(ROOT).with_suffix("").as_posix()


# ------------------------------------------------------------------------------------------------ they run


@pytest.fixture
def there(planet: Path, built: Path) -> Mapping[str, Path]:
    """What pages begin with."""
    return {"planet": planet.parent, "mydata": built}


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Training takes a moment: one thread, and a network of that name that is none to speak of."""
    import torch
    from pretrain.tiny import BUILDERS

    from geossl_data.pretrain import encoders

    monkeypatch.setitem(encoders._BUILDERS, "resnet10", BUILDERS["tiny"])
    monkeypatch.setenv("MPLBACKEND", "Agg")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("path", RUN, ids=name_of)
def test_a_page_does_what_it_says(path: Path, tmp_path: Path, there: Mapping[str, Path]) -> None:
    tool["begin"](path, tmp_path / "page", there)
    problems = [
        f"{ran.block.where}: {ran.command or ran.block.language} {ran.problem}"
        for ran in run_page(path, tmp_path / "page")
        if ran.problem is not None
    ]
    assert not problems, "\n".join([*problems, "`python docs/pages.py` writes what is printed into the pages"])


# ------------------------------------------------------------------------------------------------ blocks


ALL_BLOCKS = [block for path in PAGES for block in blocks_of(path)]
TYPED = [block for block in ALL_BLOCKS if block.language in tool["TYPED"] and Path(block.page).name not in GENERATED]


def is_snippet(block: Any) -> bool:
    return all(line.startswith('--8<-- "') for line in block.lines)


def test_every_block_that_can_be_typed_says_whether_it_runs() -> None:
    unmarked = [
        block.where
        for block in TYPED
        if not is_snippet(block) and block.marker.split(":")[0] not in {name.split(":")[0] for name in tool["MARKERS"]}
    ]
    assert not unmarked, f"{unmarked[0]}: write <!-- run --> or <!-- not run: why --> above it"


def test_what_is_not_run_says_why() -> None:
    silent = [
        block.where
        for block in TYPED
        if block.marker.startswith(("not run", "by hand")) and len(block.marker.partition(": ")[2]) < 5
    ]
    assert not silent


def test_snippets_are_of_files_that_other_tests_run() -> None:
    tested = "".join(path.read_text() for path in (ROOT / "tests" / "examples").glob("test_*.py"))
    names = [line.split('"')[1] for block in ALL_BLOCKS if is_snippet(block) for line in block.lines]
    assert names
    for name in names:
        assert (ROOT / name).is_file(), name
        assert Path(name).name in tested or Path(name).parent.name == "recipes", f"{name}: no test runs it"


def test_recipes_that_are_shown_are_recipes() -> None:
    shown = [block for block in ALL_BLOCKS if block.language == "yaml" and not is_snippet(block)]
    for block in shown:
        content = yaml.safe_load(block.text)
        if "base" in content:
            continue  # a sweep
        try:
            Recipe.model_validate(content)
        except (RecipeError, ValueError) as error:
            pytest.fail(f"{block.where}: {error}")


# ------------------------------------------------------------------------------------------------ commands


def options_by_command() -> dict[str, set[str]]:
    """Command → its options; the empty name has those that stand before any command."""
    import typer

    from geossl_cli.app import app

    group: Any = typer.main.get_command(app)
    found = {name: command.params for name, command in group.commands.items()} | {"": group.params}
    return {
        name: {"--help", *(text for one in params for text in (*one.opts, *one.secondary_opts))}
        for name, params in found.items()
    }


def geossl_commands(line: str) -> Iterator[list[str]]:
    """The words after each `geossl` of a command line, up to where another command begins."""
    words = shlex.split(line, comments=True)
    starts = [number for number, word in enumerate(words) if Path(word).name == "geossl"]
    for start in starts:
        own = words[start + 1 :]
        end = next((at for at, word in enumerate(own) if word in ("&&", "||", "|", ";", ">", "&")), len(own))
        yield own[:end]


def problem_of(words: list[str], known: Mapping[str, set[str]]) -> str | None:
    """What of a command does not exist; None where all does."""
    before = []
    while words and words[0].startswith("-"):
        before.append(words.pop(0))
    if any(option not in known[""] for option in before):
        return f"no option {before}"
    if not words:
        return None
    if words[0] not in known:
        return f"no command {words[0]!r}"
    for word in words[1:]:
        option = word.split("=")[0]
        if re.match(r"--?[a-z]", option) and option not in known[words[0]]:
            return f"`geossl {words[0]}` has no {option}"
    return None


def test_commands_and_options_exist_also_where_they_are_not_run() -> None:
    known = options_by_command()
    seen = 0
    for block in TYPED:
        if block.language in ("python", "py"):
            continue
        for command, _ in block.commands:
            for words in geossl_commands(command):
                seen += 1
                problem = problem_of(words, known)
                assert problem is None, f"{block.where}: {problem}"
    assert seen > 50


def test_commands_in_the_comments_of_examples_exist() -> None:
    known = options_by_command()
    texts = [*ROOT.glob("examples/**/*.yaml"), *ROOT.glob("examples/**/*.py")]
    for path in texts:
        for line in re.findall(r"^(?:#\s+|\s{4})(geossl [a-z].*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            for words in geossl_commands(line):
                problem = problem_of(words, known)
                assert problem is None, f"{path.name}: {problem}"


def test_commands_and_options_named_in_the_text_exist() -> None:
    known = options_by_command()
    every = set().union(*known.values()) | {"--no-python", "--nproc-per-node", "--strict"}
    for path in PAGES:
        text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
        for inline in re.findall(r"`([^`\n]+)`", text):
            if re.match("geossl [a-z]", inline):
                for words in geossl_commands(inline.replace("…", "")):
                    problem = problem_of(words, known)
                    assert problem is None, f"{name_of(path)}: `{inline}`: {problem}"
            for option in re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", inline):
                assert option in every, f"{name_of(path)}: no command has {option}"


# ------------------------------------------------------------------------------------------------ the runner


def test_a_page_that_lies_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- run -->\n```python\nprint(3)\nprint('three')\n```\n\n<!-- output -->\n```text\n4\nfour\n```\n"
    )
    *_, last = run_page(page, tmp_path)
    assert last.problem == "shows 'four' where 'three' is printed"


def test_a_command_that_fails_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- run -->\n```console\n$ geossl verify nowhere\n```\n")
    (ran,) = run_page(page, tmp_path)
    assert ran.problem is not None
    assert ran.problem.startswith("ends with 1")
    assert "no such folder" in ran.problem


def test_numbers_may_differ_and_words_may_not() -> None:
    shown = ["  places written  1,542", "  N30E060   64", "  … and so on", "…"]
    assert difference(shown[:2], ["  places written  40", "  S15W090     7"]) is None
    assert difference(shown[:1], ["  places drawn  40"]) is not None
    assert difference(["shard", "…"], ["shard", "  a  1", "  b  2"]) is None
    assert difference(["shard", "…", "  c  2"], ["shard", "  a  1", "  b  2"]) is not None
    assert difference(shown[:1], ["  shards  3", "  places written  40"], tiny=True) is None


def test_a_page_is_written_anew_with_what_was_printed(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    text = "# A page\n\n<!-- run -->\n```console\n$ echo one \\\n  two\nold\nlines\n\n$ true\n```\n\nEnd.\n"
    page.write_text(text)
    ran = list(run_page(page, tmp_path))
    assert ran[0].command == "echo one two"
    assert tool["renewed"](page, ran) == text.replace("old\nlines", "one two")


def test_a_block_that_is_never_closed_is_told(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# A page\n\n```sh\nls\n")
    with pytest.raises(ValueError, match=r"page\.md:3: a block that is not closed"):
        blocks_of(page)


# ------------------------------------------------------------------------------------------------ the site


class _Nav(yaml.SafeLoader):
    """YAML whose own tags are read as nothing."""


_Nav.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def in_navigation() -> list[str]:
    config = yaml.load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"), Loader=_Nav)

    def paths(entry: Any) -> Iterator[str]:
        if isinstance(entry, str):
            yield entry
        for inner in entry.values() if isinstance(entry, dict) else entry if isinstance(entry, list) else ():
            yield from paths(inner)

    return list(paths(config["nav"]))


def test_the_navigation_has_every_page_once() -> None:
    assert sorted(in_navigation()) == sorted(
        path.relative_to(DOCS).as_posix() for path in PAGES if DOCS in path.parents
    )


def anchors(path: Path) -> set[str]:
    """The anchors that the headings of a page get, and those that it sets itself."""
    text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall(r"^#{1,6}\s+(.+?)\s*$", text, re.MULTILINE)
    made = {re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_and_pictures_of_a_page_are_there(path: Path) -> None:
    text = re.sub(r"^(`{3,}).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http:", "https:", "mailto:")):
            continue
        target, _, anchor = link.partition("#")
        page = (path.parent / target).resolve() if target else path
        assert page.exists(), f"{name_of(path)}: {link} leads nowhere"
        assert not anchor or anchor in anchors(page), f"{name_of(path)}: {link} has no such heading"


def test_pictures_are_small_and_used() -> None:
    pictures = [path for path in (DOCS / "pictures").iterdir() if path.suffix in (".svg", ".jpg", ".png")]
    text = "".join(path.read_text(encoding="utf-8") for path in PAGES)
    assert [path.name for path in pictures if path.name not in text] == []
    assert sum(path.stat().st_size for path in pictures) <= 300_000
    made = (DOCS / "pictures" / "make.py").read_text(encoding="utf-8")
    assert [path.name for path in pictures if f'"{path.name}"' not in made and path.stem != "report"] == []


def test_the_site_is_built_without_anything_from_elsewhere(tmp_path: Path) -> None:
    if importlib.util.find_spec("mkdocs") is None:
        pytest.skip('no mkdocs: `pip install ".[docs]"` installs what the site is built with')
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = list((tmp_path / "site").rglob("*.html"))
    assert len(pages) > 20
    loaded = r"""<(?:script|img|iframe|source|link)\b[^>]*\b(?:src|href)=["']?((?:https?:)?//[^"'> ]+)"""
    for page in pages:
        outside = re.findall(loaded, page.read_text(encoding="utf-8"))
        assert not outside, f"{page.name} loads {outside[0]}"


# ------------------------------------------------------------------------------------------------ the reference


def test_the_reference_is_what_the_code_says() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"), run_name="docs_generate")
    assert generate["stale"]() == [], "run `python docs/generate.py`"


def test_a_changed_option_is_a_stale_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    from geossl_data.recipe import FetchOptions

    generate = runpy.run_path(str(DOCS / "generate.py"), run_name="docs_generate")
    monkeypatch.setattr(FetchOptions.model_fields["max_gap"], "description", "Something else.")
    assert generate["recipe_page"]() != (DOCS / "reference" / "recipe.md").read_text(encoding="utf-8")


def test_text_of_docstrings_is_no_markup() -> None:
    generate = runpy.run_path(str(DOCS / "generate.py"), run_name="docs_generate")
    assert generate["prose"]("size**power of `a_b`, a_b <c> [0]") == r"size\*\*power of `a_b`, a\_b \<c\> \[0\]"
    assert generate["code"]("a|b") == r"`a\|b`"


# ------------------------------------------------------------------------------------------------ the notebook


def test_the_notebook_looks_at_a_sample(
    built: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = ROOT / "examples" / "notebook" / "look_at_a_sample.ipynb"
    notebook = json.loads(path.read_text(encoding="utf-8"))
    monkeypatch.setenv("GEOSSL_DATASET", str(built))
    names: dict[str, Any] = {"__name__": "__notebook__"}
    for cell in notebook["cells"]:
        assert not cell.get("outputs"), "outputs are not committed"
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
    out = capsys.readouterr().out
    assert "NDVI" in out
    assert "ascending" in out
    assert (notebook["nbformat"], path.stat().st_size < 20_000) == (4, True)
