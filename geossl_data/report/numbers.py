"""Numbers as people read them, the same everywhere on the page."""

import math
from collections.abc import Sequence
from numbers import Integral, Real

UNKNOWN = "–"
_DIGITS = 3


def shown(value: object) -> str:
    """A value as text: whole numbers with thousands separators, others with three digits that count.

    None and NaN are a dash, truth is yes or no, a sequence its values with commas between them, anything else its own
    text.
    """
    if value is None:
        return UNKNOWN
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or type(value).__name__ == "bool":
        return "yes" if value else "no"
    if isinstance(value, Integral):
        return _signed(f"{int(value):,}")
    if isinstance(value, Real):
        return _signed(_real(float(value)))
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return ", ".join(shown(each) for each in value) or UNKNOWN
    return str(value)


def short(value: float) -> str:
    """A number as `shown` writes it, without zeros at its end: edges of bins, places along an axis."""
    text = _signed(_real(float(value)))
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _real(value: float) -> str:
    if math.isnan(value):
        return UNKNOWN
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    rounded = float(f"{value:.{_DIGITS - 1}e}")
    size = abs(rounded)
    if not size:
        return "0"
    if size >= 1e15 or size < 1e-4:
        return f"{rounded:.{_DIGITS - 1}e}"
    return f"{value:,.{max(_DIGITS - 1 - math.floor(math.log10(size)), 0)}f}"


def _signed(text: str) -> str:
    return text.replace("-", "\N{MINUS SIGN}", 1) if text.startswith("-") else text
