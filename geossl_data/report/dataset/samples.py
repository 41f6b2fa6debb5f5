"""Samples to look at: places spread over strata and splits, and those that changed least and most."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import GeosslError
from geossl_data.progress import Progress, silent
from geossl_data.report.dataset.contents import Contents
from geossl_data.report.dataset.counting import spread_choice
from geossl_data.report.dataset.ground import UNNAMED, position
from geossl_data.report.dataset.recorded import LookFacts, look_facts, looks_of
from geossl_data.report.page import Section
from geossl_data.report.parts import Card, Gallery, SideBySide, Strip
from geossl_data.report.thumbnails import FALSE_COLOUR, IMAGE, RADAR, TRUE_COLOUR, thumbnails

if TYPE_CHECKING:
    from geossl_data.shards.reading.shards import Shards

MOST_LOOKS = 12
"""Looks that a card shows: of more, the first, the last, and others evenly between them."""
MOST_CHANGED = 6
"""Places of each column of the least and the most changed."""
MOST_CLOUD = 0.2
"""Share of cloud up to which a look is compared by eye."""
COMPARED = (TRUE_COLOUR, FALSE_COLOUR, RADAR, IMAGE)
"""Pictures of a comparison."""

NOTE = (
    "Each row is one look: true colour (reflectance 0 to 0.3), false colour (near infrared, red, green), radar (red: "
    "VV, −25 to 0 dB; green: VH, −32 to −5 dB; blue: VV less VH) and scene classes (green: vegetation, yellow: bare, "
    "blue: water, white and grey: cloud, brown: cloud shadow, pink: snow). The stretch is the same everywhere, so that "
    "looks compare; grey is where nothing was measured."
)
OWN_NOTE = "Each row is one look, in the order of time."

IntArray = NDArray[np.int64]


def gallery_section(
    shards: "Shards", contents: Contents, *, places: int, nbytes: int, seed: int = 0, progress: Progress = silent
) -> list[Section]:
    """Cards of at most `places` places, drawn by seed and spread over splits and strata, with all their looks.

    nbytes: how much the pictures may take together; what does not fit is left out and said, but for one place.
    [] for no places.
    """
    chosen = spread_choice([contents.split.tolist(), contents.stratum.tolist()], places, np.random.default_rng(seed))
    cards: list[Card] = []
    taken = 0
    with progress("drawing samples", len(chosen)) as task:
        for sample in chosen.tolist():
            card = card_of(shards, contents, sample, _some(int(contents.n_looks[sample])))
            taken += _nbytes(card)
            if cards and taken > nbytes:
                break
            cards.append(card)
            task.advance(note=f"{taken / 1e6:.1f} MB")
    if not cards:
        return []
    note = NOTE if any(len(ids) for ids in contents.s2_id.slice(0, 1).to_pylist()) else OWN_NOTE
    if int(contents.n_looks[chosen].max(initial=0)) > MOST_LOOKS:
        note += f" Of more than {MOST_LOOKS} looks some between the first and the last are left out."
    title = f"{len(cards):,} of {len(contents):,} places, drawn by seed and spread over splits and strata"
    return [Section(title="Samples", parts=(Gallery(title=title, cards=tuple(cards), note=note),))]


def changed_section(
    shards: "Shards", contents: Contents, *, most: int = MOST_CHANGED, progress: Progress = silent
) -> list[Section]:
    """The first and last clear look of the places that changed least and most; [] where change was not measured."""
    known = np.flatnonzero(np.isfinite(contents.change) & (contents.n_looks > 1))
    if len(known) < 2:
        return []
    order = known[np.lexsort((known, contents.change[known]))]
    count = min(most, len(order) // 2)
    least, largest = order[:count], order[::-1][:count]
    with progress("drawing change", 2 * count) as task:

        def cards(samples: IntArray) -> tuple[Card, ...]:
            found = []
            for sample in samples.tolist():
                found.append(card_of(shards, contents, sample, _ends(contents, sample), pictures=COMPARED))
                task.advance()
            return tuple(found)

        part = SideBySide(
            title="Least and most changed",
            left_title="Least changed",
            right_title="Most changed",
            left=cards(least),
            right=cards(largest),
        )
    scores = contents.change[order]
    facts = {
        "change score": f"{scores[0]:.2f} to {scores[-1]:.2f}, median {np.median(scores):.2f}",
        "places with a score": len(order),
    }
    text = (
        "The first and the last look of each place, by how much more it differs over years than over seasons; cloudy "
        "looks only where there are no two others."
    )
    return [Section(title="Least and most changed", facts=facts, text=text, parts=(part,))]


def _ends(contents: Contents, sample: int) -> tuple[int, int]:
    """The first and the last look whose cloud is not above MOST_CLOUD; of all looks where fewer than two are."""
    first, count = int(contents.first_look[sample]), int(contents.n_looks[sample])
    clear = np.flatnonzero(~(contents.cloud[first : first + count] > MOST_CLOUD))
    return (int(clear[0]), int(clear[-1])) if len(clear) > 1 else (0, count - 1)


def card_of(
    shards: "Shards", contents: Contents, sample: int, looks: Iterable[int], *, pictures: Sequence[str] = ()
) -> Card:
    """A place with some of its looks; what cannot be read has a line instead of pictures.

    pictures: names of those to show, all when left out.
    """
    try:
        described = looks_of(shards.meta(sample))
    except GeosslError:
        described = []
    first = int(contents.first_look[sample])
    strips = tuple(
        _strip(shards, contents, sample, look, described[look] if look < len(described) else {}, first, pictures)
        for look in looks
    )
    split, stratum = str(contents.split[sample]), str(contents.stratum[sample])
    key = contents.key[sample].as_py()
    located = bool(contents.located[sample])
    title = position(float(contents.lon[sample]), float(contents.lat[sample])) if located else key
    tags = {"split": split, **({"stratum": stratum or UNNAMED} if contents.stratum.any() else {})}
    facts: dict[str, object] = {"key": key} if located else {}
    facts |= {"split": split, "stratum": stratum, "land class": _land_class(contents, first)}
    for name, values in (("change score", contents.change), ("spectral entropy", contents.entropy)):
        value = float(values[sample])
        facts[name] = f"{value:.2f}" if math.isfinite(value) else ""
    return Card(title=title, facts={name: value for name, value in facts.items() if value}, strips=strips, tags=tags)


def _strip(
    shards: "Shards",
    contents: Contents,
    sample: int,
    look: int,
    described: Mapping[str, Any],
    first: int,
    pictures: Sequence[str],
) -> Strip:
    try:
        drawn = thumbnails(shards.read(sample, look), shards.members)
    except GeosslError as error:
        return Strip(caption=f"look {look}: cannot be read: {error}", pictures=())
    caption = _caption(contents, first + look, look_facts(first + look, described))
    kept = [(f"{name}, look {look}", data) for name, data in drawn.items() if not pictures or name in pictures]
    return Strip(caption=caption, pictures=tuple(kept))


def _caption(contents: Contents, number: int, facts: LookFacts) -> str:
    """Ids, date, gap, orbits, cloud and baseline of a look, as far as they are known."""
    time = contents.acquired[number]
    when = "" if np.isnat(time) else f"{str(time.astype('datetime64[m]')).replace('T', ' ')} UTC"
    gap, cloud = float(contents.gap_hours[number]), float(contents.cloud[number])
    parts = (
        when,
        f"gap {gap:+.1f} h".replace("-", "\N{MINUS SIGN}") if math.isfinite(gap) else "",
        f"cloud {100 * cloud:.0f} %" if math.isfinite(cloud) else "",
        facts.s2.words,
        facts.s1.words,
        contents.s2_id[number].as_py(),
        contents.s1_id[number].as_py(),
    )
    return " · ".join(filter(None, parts))


def _land_class(contents: Contents, number: int) -> str:
    label = int(contents.label[number])
    return contents.label_names.get(str(label), str(label)) if label else ""


def _some(count: int) -> list[int]:
    """All looks, or MOST_LOOKS of them from the first to the last."""
    if count <= MOST_LOOKS:
        return list(range(count))
    return sorted({round(number * (count - 1) / (MOST_LOOKS - 1)) for number in range(MOST_LOOKS)})


def _nbytes(card: Card) -> int:
    """What the pictures of a card take in a page, as base64."""
    return sum(4 * len(data) // 3 for strip in card.strips for _, data in strip.pictures)
