"""What an encoder makes of looks, to see: a map of its embeddings, and the looks that it finds alike."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from geossl_data.progress import Progress, silent
from geossl_data.report.page import Part
from geossl_data.report.parts import Card, Gallery, Scatter, Strip
from geossl_data.report.runs.described import Described, described
from geossl_data.report.runs.embedded import Embedded
from geossl_data.report.runs.neighbours import Neighbours, agreement, axes_of, neighbours, queries, unit
from geossl_data.report.thumbnails import IMAGE, RADAR, SIDE_PX, TRUE_COLOUR, thumbnails
from geossl_data.shards.reading.shards import Shards

N_QUERIES, N_NEIGHBOURS = 8, 5
SMALL_PX = 48
"""Side of the picture that a point of the map shows."""
MOST_SMALL_NBYTES = 600_000
"""Of these pictures in all; where they are more, points show none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What a page shows of an encoder."""

    parts: tuple[Part, ...]
    facts: Mapping[str, object] = field(default_factory=dict)


def seen(
    found: Embedded,
    shards: Shards,
    *,
    seed: int,
    points_have_pictures: bool,
    with_neighbours: bool,
    progress: Progress = silent,
) -> Seen:
    """The map of the embeddings and, if wanted, some looks with those nearest to them as pictures.

    Embeddings are compared by their directions, in both. Raises ShardError where a look cannot be read.
    """
    names = described(shards, found.rows)
    x = unit(found.x)
    place = found.rows.place
    facts: dict[str, object] = {}
    agreed = agreement(x, place, names.group, names.known) if len(set(names.group)) > 1 else None
    if agreed is not None and names.kind != "split":
        said = f"{_percent(agreed[0])}, by chance {_percent(agreed[1])}"
        facts[f"same {names.kind} as the nearest elsewhere, {found.sensors}"] = said
    small: list[bytes] | None = None
    if points_have_pictures:
        pictures = _pictures(found, shards, range(len(x)), SMALL_PX, progress)
        enough = all(pictures.values()) and sum(map(len, pictures.values())) <= MOST_SMALL_NBYTES
        small = list(pictures.values()) if enough else None
    xy, (first, second) = axes_of(x)
    parts: list[Part] = [
        Scatter(
            title=f"Embeddings of {len(x):,} looks by the encoder of {found.sensors}; its two main axes hold "
            f"{_percent(first)} and {_percent(second)} of the variance",
            x=xy[:, 0].tolist(),
            y=xy[:, 1].tolist(),
            category=names.group,
            category_name=names.kind,
            label=[f"{group}: {words}" for group, words in zip(names.group, names.words, strict=True)],
            picture=small,
        )
    ]
    if with_neighbours:
        asked = [
            neighbours(x, place, query, N_NEIGHBOURS) for query in queries(names.group, place, N_QUERIES, seed=seed)
        ]
        shown = [one for one in asked if len(one.found)]
        rows = sorted({row for one in shown for row in (one.query, *one.found.tolist())})
        pictures = _pictures(found, shards, rows, SIDE_PX, progress)
        note = (
            f"A look on the left, then of {N_NEIGHBOURS} other places the looks whose embeddings have the largest "
            f"cosine with its own (1: the same). Queries are drawn by seed, one {names.kind} after the other."
        )
        cards = [_card(one, names, pictures) for one in shown]
        parts.append(Gallery(title=f"Nearest neighbours by the encoder of {found.sensors}", cards=cards, note=note))
    return Seen(parts=tuple(parts), facts=facts)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _card(one: Neighbours, names: Described, pictures: Mapping[int, bytes]) -> Card:
    """A query and its neighbours, the pictures of those that have one side by side."""
    rows = [one.query, *one.found.tolist()]
    said = [f"{names.group[row]} {cosine:.2f}" for row, cosine in zip(rows[1:], one.cosine.tolist(), strict=True)]
    alone = [f"query: {names.group[one.query]}", *said]
    same = sum(names.group[row] == names.group[one.query] for row in rows[1:])
    strip = Strip(
        caption=f"Query: {names.words[one.query]}. Nearest, by cosine: {', '.join(said)}.",
        pictures=[
            (f"{words}, {names.words[row]}", pictures[row])
            for row, words in zip(rows, alone, strict=True)
            if pictures[row]
        ],
    )
    return Card(
        title=names.group[one.query],
        facts={f"of the same {names.kind}": f"{same} of {len(rows) - 1}"},
        strips=(strip,),
        tags={names.kind: names.group[one.query]},
    )


def _pictures(found: Embedded, shards: Shards, rows: Sequence[int], side: int, progress: Progress) -> dict[int, bytes]:
    """A picture of each row as the encoder saw it, in true colour where it can be; empty where there is none."""
    pictures = {}
    with progress("drawing looks", total=len(rows)) as task:
        for row in rows:
            index, look = int(found.rows.index[row]), int(found.rows.look[row, -1])
            drawn = thumbnails(shards.read(index, look, found.members), shards.members, side)
            pictures[row] = next((drawn[name] for name in (TRUE_COLOUR, RADAR, IMAGE) if name in drawn), b"")
            task.advance()
    return pictures
