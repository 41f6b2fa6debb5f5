"""The reference pages, made from the code: recipe, commands, errors, Python, and the tables of the page about files.

    python docs/generate.py            # write them
    python docs/generate.py --check    # say which differ, and end with 1

Nothing is imported that the reference does not need: signatures and docstrings are read from the source.
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, get_args, get_origin

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"
MADE = "<!-- made by docs/generate.py from the code; change it there -->\n\n"


# ------------------------------------------------------------------------------------------------ text


def prose(text: str) -> str:
    """A docstring or help text as Markdown: what would be markup stands as it is, code in backticks stays code."""
    parts = re.split(r"(`[^`\n]*`)", text)
    escaped = [part if part.startswith("`") else re.sub(r"([*_<>\[\]|])", r"\\\1", part) for part in parts]
    return "".join(escaped)


def cell(text: str) -> str:
    """The same on one line, for a table."""
    return " ".join(prose(text).split())


def code(text: str) -> str:
    """Code inside a table."""
    return f"`{text.replace('|', chr(92) + '|')}`" if text else ""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


# ------------------------------------------------------------------------------------------------ source


@cache
def module_source(module: str) -> ast.Module:
    """The syntax tree of a module of the package."""
    base = ROOT.joinpath(*module.split("."))
    path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def definition(module: str, name: str) -> ast.ClassDef | ast.FunctionDef | None:
    """The class or function of that name in a module's source; None where it is neither."""
    found = (node for node in module_source(module).body if isinstance(node, (ast.ClassDef, ast.FunctionDef)))
    return next((node for node in found if node.name == name), None)


def documented(body: Sequence[ast.stmt]) -> Iterator[tuple[str, ast.AnnAssign | ast.Assign, str]]:
    """Name, assignment and docstring of each public value that is assigned in a body."""
    for statement, following in zip(body, [*body[1:], None], strict=True):
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name = statement.target.id
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            name = statement.targets[0].id
        else:
            continue
        is_text = isinstance(following, ast.Expr) and isinstance(following.value, ast.Constant)
        text = following.value.value if is_text else _described(statement.value)  # type: ignore[union-attr]
        if not name.startswith("_"):
            yield name, statement, inspect.cleandoc(text) if isinstance(text, str) else ""


def _described(value: ast.expr | None) -> str:
    """What a pydantic field says of itself."""
    given = value.keywords if isinstance(value, ast.Call) else []
    return next((ast.literal_eval(one.value) for one in given if one.arg == "description"), "")


def signature(node: ast.FunctionDef, *, name: str = "", bound: bool = False) -> str:
    """`name(parameters) -> result` as the source has it, on as many lines as it needs."""
    arguments = ast.parse(f"def f({ast.unparse(node.args)}): pass").body[0].args  # type: ignore[attr-defined]
    if bound and arguments.args:
        arguments.args = arguments.args[1:]
    answer = f" -> {ast.unparse(node.returns)}" if node.returns is not None else ""
    answer = re.sub(r"""['"]""", "", answer)
    parts = _parameters(arguments)
    line = f"{name or node.name}({', '.join(parts)}){answer}"
    if len(line) <= 100:
        return line
    inner = "".join(f"    {part},\n" for part in parts)
    return f"{name or node.name}(\n{inner}){answer}"


def _parameters(arguments: ast.arguments) -> list[str]:
    """Each parameter with its type and default."""
    plain = [*arguments.posonlyargs, *arguments.args]
    defaults: list[ast.expr | None] = [None] * (len(plain) - len(arguments.defaults)) + list(arguments.defaults)
    found = [_parameter(one, default) for one, default in zip(plain, defaults, strict=True)]
    if arguments.vararg is not None:
        found.append(f"*{_parameter(arguments.vararg, None)}")
    elif arguments.kwonlyargs:
        found.append("*")
    found += [
        _parameter(one, default) for one, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
    ]
    return found + ([f"**{_parameter(arguments.kwarg, None)}"] if arguments.kwarg is not None else [])


def _parameter(argument: ast.arg, default: ast.expr | None) -> str:
    kind = "" if argument.annotation is None else f": {ast.unparse(argument.annotation)}"
    kind = re.sub(r"""^: ['"](.*)['"]$""", r": \1", kind)
    return f"{argument.arg}{kind}" + ("" if default is None else f"{' = ' if kind else '='}{ast.unparse(default)}")


# ------------------------------------------------------------------------------------------------ recipe


def recipe_page() -> str:
    """Every section of a recipe with its options."""
    from geossl_data.recipe import SECTIONS

    parts = [
        MADE,
        "# Recipe\n\n",
        "`recipe.yaml` holds every choice made for a dataset folder, a section for each stage that has run. "
        "`geossl config` prints a complete one with the defaults, `geossl run recipe.yaml --out DIR` makes the folder "
        "of one, byte for byte. A key is spelt as the option on the command line, with `_` for `-`; unknown keys and "
        "values out of bounds are refused in one line.\n",
    ]
    for section in SECTIONS:
        parts.append(f"\n## {section.name}\n\n{prose(section.summary)}\n\n")
        command = "sample --anywhere" if section.name == "places" else section.name
        parts.append(f"Command: [`geossl {command}`](cli.md#{section.name if section.name != 'places' else 'sample'})")
        parts.append(f". Example: `{section.example}`\n\n")
        rows = [
            (f"`{info.alias or name}`", code(allowed(info)), code(default(info)), cell(info.description or ""))
            for name, info in section.model_fields.items()
        ]
        parts.append(table(("key", "values", "default", "what it is"), rows))
    return "".join(parts)


def default(info: Any) -> str:
    """A default as YAML has it."""
    value = info.default
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return '""' if value == "" else str(value)


def allowed(info: Any) -> str:
    """What values an option takes: its choices, or its type and bounds."""
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)]
    kind = info.annotation if get_origin(info.annotation) in (Literal, tuple) or not kinds else kinds[0]
    if get_origin(kind) is Literal:
        return ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "[west, south, east, north]"
    name = {"str": "text", "int": "whole number", "float": "number", "bool": "true, false", "date": "date"}
    shown = name.get(getattr(kind, "__name__", ""), "text")
    bounds = {type(one).__name__: next(iter(vars_of(one).values())) for one in info.metadata if vars_of(one)}
    low = f"≥ {bounds['Ge']}" if "Ge" in bounds else f"> {bounds['Gt']}" if "Gt" in bounds else ""
    high = f"≤ {bounds['Le']}" if "Le" in bounds else f"< {bounds['Lt']}" if "Lt" in bounds else ""
    return f"{shown} {', '.join(end for end in (low, high) if end)}".strip()


def vars_of(constraint: Any) -> dict[str, Any]:
    """The bound that a constraint holds, by its name; empty where it is none."""
    names = ("ge", "gt", "le", "lt")
    return {name: getattr(constraint, name) for name in names if getattr(constraint, name, None) is not None}


# ------------------------------------------------------------------------------------------------ commands


def commands() -> Mapping[str, Any]:
    """Every command by name."""
    import typer

    from geossl_cli.app import app

    group: Any = typer.main.get_command(app)
    return dict(group.commands)


def app_options() -> list[Any]:
    """The options that stand before the command."""
    import typer

    from geossl_cli.app import app

    group: Any = typer.main.get_command(app)
    return [one for one in group.params if getattr(one, "opts", None) and one.param_type_name == "option"]


def cli_page() -> str:
    """Every command with its options."""
    parts = [
        MADE,
        "# Commands\n\n",
        "`geossl COMMAND --help` says the same in the terminal. A command takes the dataset folder first, the current "
        "one when it is left out. Options that are typed stay in the folder's [recipe](recipe.md); what is not typed "
        "is taken from there. Results go to standard output, progress and errors to standard error. The exit code is "
        "0, or 1 with one line for everything that the user or the world has to mend; 143 after SIGTERM.\n\n",
    ]
    rows = [
        (f"[`{name}`](#{name})", cell((command.help or "").split("\n\n")[0])) for name, command in commands().items()
    ]
    parts.append(table(("command", "what it does"), rows))
    options = [_option_row(one) for one in app_options()]
    if options:
        parts.append("\nBefore the command:\n\n" + table(("option", "what it is"), options))
    for name, command in commands().items():
        summary, _, example = (command.help or "").partition("\n\n")
        parts.append(f"\n## {name}\n\n{cell(summary)}\n\n")
        arguments = [one for one in command.params if one.param_type_name == "argument"]
        usage = " ".join(["geossl", name, *(_argument(one) for one in arguments), "[OPTIONS]"])
        parts.append(f"```text\n{usage}\n```\n\n")
        if example.strip():
            parts.append(f"{_example(example)}\n\n")
        rows = [(code(_argument(one)), cell(getattr(one, "help", "") or "")) for one in arguments]
        rows += [_option_row(one) for one in command.params if one.param_type_name == "option"]
        parts.append(table(("option", "what it is"), rows))
    return "".join(parts)


def _example(text: str) -> str:
    word, _, command = " ".join(text.split()).partition(": ")
    return f"{word}: `{command}`" if command.startswith("geossl") else cell(text)


def _argument(one: Any) -> str:
    name = one.metavar or one.name.upper()
    return name if one.required else f"[{name}]"


def _option_row(one: Any) -> tuple[str, str]:
    names = ", ".join([*one.opts, *one.secondary_opts])
    is_switch = one.is_flag or one.count
    value = "" if is_switch else one.metavar or _value(one.type_descriptor.annotation)
    text = cell(one.help or "")
    stated = getattr(one, "show_default", False) and not is_switch and not callable(one.default)
    if stated and one.default not in (None, "") and "default:" not in text:
        text += f" \\[default: {one.default}\\]"
    return code(f"{names} {value}".strip()), text


def _value(annotation: Any) -> str:
    """What stands for the value of an option: its choices, or a word for its type."""
    kinds = [kind for kind in get_args(annotation) if kind is not type(None)]
    if get_origin(annotation) is Literal:
        return "|".join(map(str, kinds))
    kind = kinds[0] if kinds else annotation
    if get_origin(kind) is Literal:
        return _value(kind)
    return {"int": "N", "float": "X", "Path": "PATH"}.get(getattr(kind, "__name__", ""), "TEXT")


# ------------------------------------------------------------------------------------------------ errors


def errors_page() -> str:
    """Every kind of error."""
    parts = [
        MADE,
        "# Errors\n\n",
        "Everything that the user, the archive or the machine has to mend is a `GeosslError`. On the command line it "
        "is one line and exit code 1; in Python one except clause takes all of them. Any other exception is a bug of "
        "geossl. No message holds a key, a token or a signed address.\n\n",
    ]
    rows = []
    for node in module_source("geossl_data.errors").body:
        if isinstance(node, ast.ClassDef):
            parents = ", ".join(ast.unparse(base) for base in node.bases)
            rows.append((f"`{node.name}`", f"`{parents}`", cell(ast.get_docstring(node) or "")))
    parts.append(table(("error", "is a", "when"), rows))
    parts.append(
        "\nBad items do not stop a run: each becomes a row of [`skipped.parquet`](files.md#skippedparquet) with a "
        "short reason, and the summary shows the counts.\n"
    )
    return "".join(parts)


# ------------------------------------------------------------------------------------------------ Python

ALSO = (
    ("The shards", "geossl_data.shards.reading.shards", ("Shards",)),
    ("Batches", "geossl_data.shards.reading.batches", ("Batches",)),
    ("A loaded encoder", "geossl_data.pretrain.info", ("EncoderInfo",)),
    ("Strategies", "geossl_data.sampling.strategies.ground", ("Strategy", "Ground", "Rules", "Draw")),
    ("Objectives", "geossl_data.pretrain.objectives.registry", ("Objective",)),
    ("Catalogs", "geossl_data.scenes.providers", ("Provider", "TokenService")),
)
"""What the names of the package lead to, and what is written by users: title, module, names."""


def api_page() -> str:
    """What `import geossl_data as gd` has, and what that leads to."""
    import geossl_data

    homes: dict[str, str] = dict(geossl_data._HOME)
    parts = [
        MADE,
        "# Python\n\n",
        prose(inspect.getdoc(geossl_data) or "").split("\n\n", 1)[1],
        "\n\n## The stages\n\n",
        "Each takes a folder and its options, does only what is missing, and answers with a `Report`. Options are the "
        "sections of the [recipe](recipe.md); left out, they are the folder's own.\n\n",
    ]
    pipeline = _pipeline_homes()
    parts += [_entry("geossl_data.pipeline", name, module, "gd.pipeline.") for name, module in pipeline.items()]
    parts.append("\n## Names of the package\n\n")
    for name in geossl_data.__all__:
        if name in ("pipeline", "__version__") or name in pipeline:
            continue
        if name.endswith("Options"):
            section = name.removesuffix("Options").lower()
            parts.append(f"### gd.{name}\n\nThe section [`{section}`](recipe.md#{section}) of a recipe.\n\n")
            continue
        parts.append(_entry("geossl_data", name, f"geossl_data.{homes[name]}", "gd."))
    for title, module, names in ALSO:
        parts.append(f"\n## {title}\n\n")
        parts += [_entry(module, name, module, "") for name in names if definition(module, name) is not None]
    return "".join(parts).rstrip() + "\n"


def _pipeline_homes() -> dict[str, str]:
    """The public names of the pipeline and the modules that they are in."""
    found: dict[str, str] = {}
    for node in module_source("geossl_data.pipeline").body:
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            found |= {alias.asname or alias.name: node.module for alias in node.names}
    return dict(sorted(found.items()))


def _resolved(module: str, name: str) -> tuple[str, ast.AST | None]:
    """Where a name is defined: packages only pass names on."""
    seen = set()
    while module not in seen:
        seen.add(module)
        node = definition(module, name)
        if node is not None:
            return module, node
        for statement in module_source(module).body:
            if isinstance(statement, ast.ImportFrom) and any(alias.name == name for alias in statement.names):
                module = statement.module or module
                break
    return module, None


def _entry(package: str, name: str, module: str, prefix: str) -> str:
    """A heading, signature, docstring, and for a class its fields and methods."""
    home, node = _resolved(module, name)
    head = f"### {prefix}{name}\n\n"
    if isinstance(node, ast.FunctionDef):
        return f"{head}```py\n{signature(node)}\n```\n\n{_text(ast.get_docstring(node))}"
    if isinstance(node, ast.ClassDef):
        return head + _class(node)
    value = next((text for own, _, text in documented(module_source(home).body) if own == name), "")
    return f"{head}{_text(value)}" if value else f"{head}From `{home}`.\n\n"


def _text(docstring: str | None) -> str:
    """A docstring as paragraphs; its lists of `name: text` keep their lines."""
    if not docstring:
        return ""
    paragraphs = re.split(r"\n\s*\n", inspect.cleandoc(docstring))
    return "".join(f"{prose(paragraph)}\n\n" for paragraph in paragraphs)


def _class(node: ast.ClassDef) -> str:
    bases = ", ".join(ast.unparse(base) for base in node.bases)
    parts = [f"A `{bases}`. " if bases and "Base" not in bases else "", _text(ast.get_docstring(node))]
    rows = [
        (f"`{name}`", code(ast.unparse(assignment.annotation).strip("\"'")), cell(text))
        for name, assignment, text in documented(node.body)
        if isinstance(assignment, ast.AnnAssign) and "ClassVar" not in ast.unparse(assignment.annotation)
    ]
    if rows:
        parts.append(table(("field", "type", "what it is"), rows) + "\n")
    for method in node.body:
        if not isinstance(method, ast.FunctionDef) or (method.name.startswith("_") and method.name != "__init__"):
            continue
        docstring = ast.get_docstring(method)
        decorators = [ast.unparse(one) for one in method.decorator_list]
        if docstring is None or any("overload" in one for one in decorators):
            continue
        if "property" in decorators or "cached_property" in decorators:
            kind = f": {ast.unparse(method.returns)}" if method.returns is not None else ""
            shown = re.sub(r"""['"]""", "", f"{method.name}{kind}")
        else:
            shown = signature(
                method, name=node.name if method.name == "__init__" else "", bound="staticmethod" not in decorators
            )
        parts.append(f"```py\n{shown}\n```\n\n{_text(docstring)}")
    return "".join(parts)


# ------------------------------------------------------------------------------------------------ files


def file_tables() -> dict[str, str]:
    """The tables of the page about files, by the name that the page asks for them."""
    from geossl_data.bands import MEMBERS
    from geossl_data.records import Pair, RejectedSquare, Sample, Site, Skipped

    members = [
        (f"`{member.name}`", " ".join(member.bands), f"{member.resolution_m} m", code(member.dtype), cell(member.units))
        for member in MEMBERS.values()
    ]
    return {
        "pairs": _columns(Pair),
        "samples": _columns(Sample),
        "places": _columns(Site),
        "skipped": _columns(Skipped),
        "rejected": _columns(RejectedSquare),
        "manifest": _fields("column", "geossl_data.shards.manifest", "Entry", prefix="geossl:", renamed={"key": "id"}),
        "look": _fields("field", "geossl_data.records", "Look"),
        "members": table(("member", "bands", "pixel", "stored as", "units of the numbers"), members),
        "score": _fields("key", "geossl_data.evaluation.scores", "Score"),
    }


def _field_texts(module: str, name: str) -> dict[str, str]:
    node = definition(module, name)
    assert isinstance(node, ast.ClassDef), name
    return {own: text for own, _, text in documented(node.body)}


def _columns(kind: type) -> str:
    """The columns that a record's table has: those of its schema, each with what the record says of it."""
    from geossl_data.tables import schema

    texts = _field_texts(kind.__module__, kind.__name__)
    for own in fields(kind):
        if own.name == "place":
            texts = _field_texts(kind.__module__, "Place") | texts
    rows = [(f"`{column.name}`", code(_arrow(column)), cell(texts.get(column.name, ""))) for column in schema(kind)]
    return table(("column", "type", "what it is"), rows)


def _arrow(column: Any) -> str:
    """A column's Arrow type in words, with `?` where it may be null; records inside lists are called looks."""
    return _kind(column.type) + ("?" if column.nullable else "")


def _kind(kind: Any) -> str:
    from pyarrow import types

    if types.is_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    if types.is_struct(kind):
        return "look"
    return "UTC time" if types.is_timestamp(kind) else str(kind)


def _fields(
    kind: str, module: str, name: str, *, prefix: str = "", renamed: Mapping[str, str] = MappingProxyType({})
) -> str:
    """What the fields of a class hold, under the names that they have in a file. kind: what the file calls a field."""
    node = definition(module, name)
    assert isinstance(node, ast.ClassDef)
    rows = [
        (f"`{renamed.get(own, prefix + own)}`", code(ast.unparse(assignment.annotation)), cell(text))
        for own, assignment, text in documented(node.body)
        if isinstance(assignment, ast.AnnAssign)
    ]
    return table((kind, "type", "what it is"), rows)


_SLOT = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def files_page(text: str) -> str:
    """The page about files with its tables filled in anew."""
    tables = file_tables()
    return _SLOT.sub(lambda found: f"{found[1]}\n{tables[found[2]]}\n{found[3]}", text)


# ------------------------------------------------------------------------------------------------ all of them


def made() -> dict[Path, str]:
    """Path → what it should hold."""
    files = REFERENCE / "files.md"
    return {
        REFERENCE / "recipe.md": recipe_page(),
        REFERENCE / "cli.md": cli_page(),
        REFERENCE / "errors.md": errors_page(),
        REFERENCE / "api.md": api_page(),
        files: files_page(files.read_text(encoding="utf-8")),
    }


def stale() -> list[str]:
    """Names of the pages that are not what the code says."""
    return [
        path.name for path, text in made().items() if not path.is_file() or path.read_text(encoding="utf-8") != text
    ]


def main(arguments: Sequence[str]) -> int:
    """Write the pages, or say which are stale; answers with the exit code."""
    if "--check" in arguments:
        found = stale()
        print(f"stale: {', '.join(found)}; run python docs/generate.py" if found else "all as the code says")
        return 1 if found else 0
    for path, text in made().items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT), len(text.splitlines()), "lines")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
