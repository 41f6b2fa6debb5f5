"""Command-line options made from the recipe, where they are declared.

A command that `stage_command` registers has one option for every field of its section. An option that is not typed
is taken from the folder's recipe, and from the section's default where the folder has no such section yet, or where it
belongs to something else that was typed.
"""

import functools
import inspect
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import typer
from pydantic.fields import FieldInfo

from geossl_data.recipe import Section, make_section

from . import console

FOLDER = Annotated[
    Path, typer.Argument(help="Dataset folder; the current one when left out.", metavar="DIR", show_default=False)
]
QUIET = Annotated[
    bool,
    typer.Option("--quiet", "-q", help="No progress and no summaries; errors, warnings and what --json prints remain."),
]
VERBOSE = Annotated[
    int,
    typer.Option(
        "--verbose",
        "-v",
        count=True,
        show_default=False,
        help="Show what happens, with times, on standard error; -vv: in detail.",
    ),
]


class App(typer.Typer):
    """An application all of whose commands take --quiet and --verbose, so that these work behind the command too."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[[Any], Any]:
        register = super().command(name, **settings)

        def registered(function: Any) -> Any:
            register(_behaving(function))
            return function

        return registered


def _behaving(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function of a command, with the options of every command behind its own."""

    @functools.wraps(function)
    def command(**given: Any) -> Any:
        console.behave(quiet=given.pop("quiet"), verbosity=given.pop("verbose"))
        return function(**given)

    signature = inspect.signature(function)
    added = [
        inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=QUIET),
        inspect.Parameter("verbose", inspect.Parameter.KEYWORD_ONLY, default=0, annotation=VERBOSE),
    ]
    command.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[*signature.parameters.values(), *added]
    )
    command.__annotations__ = {**function.__annotations__, "quiet": QUIET, "verbose": VERBOSE}
    return command


def _kind(info: FieldInfo) -> Any:
    """The type of a field that may be left out as well."""
    kinds = [kind for kind in get_args(info.annotation) if kind is not type(None)] or [info.annotation]
    return info.annotation if get_origin(info.annotation) in (Literal, tuple) else kinds[0]


def _value_type(info: FieldInfo) -> Any:
    """The plain type that the command line parses: choices, numbers and tuples as they are, the rest as text."""
    kind = _kind(info)
    return kind if kind in (int, float, bool) or get_origin(kind) in (Literal, tuple) else str


def _metavar(info: FieldInfo) -> str | None:
    """What to type for a value, where its type does not say it."""
    kind = _kind(info)
    if get_origin(kind) is tuple:
        return "W S E N"
    return "YYYY-MM-DD" if kind is date else None


def _default_text(info: FieldInfo) -> str:
    if info.default is None or info.default is False or info.default == "":
        return ""
    return f" [default: {'yes' if info.default is True else info.default}]"


def _parameter(name: str, info: FieldInfo) -> inspect.Parameter:
    flag = f"--{(info.alias or name).replace('_', '-')}"
    kind = _value_type(info)
    if kind is bool:
        flag = f"{flag}/--no-{flag.removeprefix('--')}"
    option = typer.Option(
        flag, help=f"{info.description}{_default_text(info)}", metavar=_metavar(info), show_default=False
    )
    annotation: Any = Annotated[kind | None, option]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def stage_command(
    app: typer.Typer,
    section: type[Section],
    act: Callable[..., None],
    *,
    short: str,
    extra: tuple[inspect.Parameter, ...] = (),
) -> None:
    """Register the command of a section: `act(folder, options, **extra)` is called with the merged options.

    short: what the list of commands says of it, at most 60 letters.
    """

    def command(**given: Any) -> None:
        folder = given.pop("folder")
        others = {parameter.name: given.pop(parameter.name) for parameter in extra}
        act(folder, merged(folder, section, given), **others)

    folder = inspect.Parameter("folder", inspect.Parameter.KEYWORD_ONLY, default=Path(), annotation=FOLDER)
    fields = [_parameter(name, info) for name, info in section.model_fields.items()]
    parameters = [folder, *fields, *extra]
    command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app.command(section.name, help=f"{section.summary}\n\nExample: {section.example}", short_help=short)(command)


def merged(folder: Path, section: type[Section], given: dict[str, Any]) -> Section:
    """The folder's section with what was typed on top of it; RecipeError in one line for a value out of bounds."""
    from geossl_data.pipeline import recipe_of

    present = getattr(recipe_of(folder), section.name)
    typed = {name: value for name, value in given.items() if value is not None}
    return make_section(section, ({} if present is None else present.carried(typed)) | typed)


def switch(name: str, text: str) -> inspect.Parameter:
    """A flag that is not part of the recipe, such as --fresh."""
    annotation = Annotated[bool, typer.Option(f"--{name.replace('_', '-')}", help=text)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=False, annotation=annotation)


def text(name: str, metavar: str, help_text: str) -> inspect.Parameter:
    """A text that is not part of the recipe, such as --compare; None where it is not given."""
    flag = f"--{name.replace('_', '-')}"
    annotation = Annotated[str | None, typer.Option(flag, help=help_text, metavar=metavar, show_default=False)]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def number(name: str, default: int, text: str) -> inspect.Parameter:
    """A whole number from 1 that is not part of the recipe, such as --workers."""
    annotation = Annotated[int, typer.Option(f"--{name.replace('_', '-')}", help=text, min=1, metavar="N")]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)
