"""YAML that people write: plain values out of a file, and values put into messages about them.

Nothing in a file is trusted: neither to be small, nor to stay so when its aliases are written out.
"""

import reprlib
from pathlib import Path
from typing import Any

import yaml

from geossl_data.errors import RecipeError, fit_to_show

MAX_NBYTES = 4 * 2**20
"""A sweep of ten thousand cells has a tenth of it."""
MOST_MERGED = 10_000
"""Pairs of one mapping after `<<` has put others into it."""


class _Loader(yaml.SafeLoader):
    """YAML in which a key that is given twice is a mistake."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != "tag:yaml.org,2002:merge":
                if key.value in seen:
                    raise yaml.YAMLError(f"{key.value} is given twice, again in line {key.start_mark.line + 1}")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def flatten_mapping(self, node: yaml.MappingNode) -> None:
        super().flatten_mapping(node)
        if len(node.value) > MOST_MERGED:
            raise yaml.YAMLError(f"a mapping of more than {MOST_MERGED} pairs, in line {node.start_mark.line + 1}")


def read_yaml(path: Path) -> Any:
    """The plain values of a YAML file; RecipeError in one line where it cannot be read or is no YAML."""
    try:
        if path.stat().st_size > MAX_NBYTES:
            raise RecipeError(f"{path}: more than {MAX_NBYTES >> 20} MB; expected a few lines of YAML")
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read: {error.strerror}") from None
    except RecursionError:
        raise RecipeError(f"{path}: not YAML: nested too deep") from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError for a date that is none
        raise RecipeError(f"{path}: not YAML: {_said(error)}") from None


def _said(error: Exception) -> str:
    """What an error says, without the piece of the file that YAML would quote."""
    if isinstance(error, yaml.MarkedYAMLError):
        where = error.problem_mark or error.context_mark
        return f"{error.problem or error.context}" + (f", line {where.line + 1}" if where else "")
    return str(error) or type(error).__name__


def shown(value: Any) -> str:
    """A value as a message shows it: as Python writes it, shortened, however deep it is and whatever it holds."""
    return _SHOWN.repr(value)


class _Shown(reprlib.Repr):
    """Short texts of values; what may be secret of a text goes before it is cut, when it can still be told."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel, self.maxstring, self.maxother, self.maxlong = 2, 80, 80, 80

    def repr_str(self, x: str, level: int) -> str:
        return super().repr_str(fit_to_show(x), level)


_SHOWN = _Shown()
