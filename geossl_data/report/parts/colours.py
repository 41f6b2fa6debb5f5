"""Which colour stands for what: names of classes of the page's style, which has a value of each for light and dark.

Those of Paul Tol's schemes, apart for colour-blind eyes too.
"""

from collections.abc import Sequence

from geossl_data.records import SPLITS

COLOURS = 9
"""Colours for names, c0 to c8."""
STEPS = 6
"""Colours for ranges of a value, v0 to v5 from low to high."""
OTHERS = "others"


def classes_of(names: Sequence[str]) -> dict[str, str]:
    """Name → class: splits have their own, and so has a single name; else those in order, then from the first."""
    if names and set(names) <= set(SPLITS):
        return {name: f"split-{name}" for name in names}
    if len(names) == 1:
        return {names[0]: "one"}
    return {name: f"c{place % COLOURS}" for place, name in enumerate(names)}


def step_class(step: int, steps: int) -> str:
    """The class of a range among `steps` ranges in order, spread over all colours."""
    return f"v{round(step * (STEPS - 1) / max(steps - 1, 1))}"
