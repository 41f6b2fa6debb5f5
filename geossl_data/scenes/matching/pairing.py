"""Scenes → Pairs: which Sentinel-1 passes see the ground of a Sentinel-2 acquisition near it in time.

Works on columns, in blocks of Sentinel-2 acquisitions, so that a million scenes of each sensor take seconds and little
memory; `match` is the same for lists of scenes. Footprints are compared in degrees; longitudes that differ by a whole
turn are the same.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np

from geossl_data.memory import gc_paused
from geossl_data.records import Pair, Scene
from geossl_data.scenes.matching import ground as on_ground
from geossl_data.scenes.matching.acquisitions import (
    UNKNOWN,
    Acquisitions,
    BoolArray,
    FloatArray,
    IntArray,
    ObjectArray,
    microseconds,
)
from geossl_data.scenes.matching.ground import Ground, ground
from geossl_data.scenes.matching.matches import Matches
from geossl_data.scenes.matching.nearby import boxes, candidates
from geossl_data.scenes.matching.orbits import OrbitRule, chosen, orbit_codes, tile_numbers
from geossl_data.scenes.matching.passes import anchors, pass_numbers
from geossl_data.scenes.matching.ragged import Ragged

_DECIMALS = 9
"""Shares of a footprint that agree to this many decimals are equal: the rest is rounding."""


@gc_paused()
def match(s2: Sequence[Scene], s1: Sequence[Scene], *, max_gap: timedelta, orbit: OrbitRule) -> list[Pair]:
    """Every Sentinel-1 pass that qualifies for each Sentinel-2 acquisition, ranked by |gap|, then by id.

    A frame qualifies when it was acquired within `max_gap` (the limit included) and shares ground. Frames of one pass
    make one pair: `s1_id` is the frame that covers most of the Sentinel-2 footprint, of equal ones the earliest, then
    the first by id, and `s1_more` are those that add ground to it; gap and rank are those of `s1_id`. Parts of one
    Sentinel-2 acquisition make one pair, too.

    orbit: `any`; `ascending` and `descending` take passes that say so; `same-relative` keeps each tile to the one
    relative orbit that serves most of its acquisitions, `auto` to the one direction that does.

    Sorted by (s2_acquired, s2_id, rank); the order of the inputs has no influence. Ids are unique; footprints are less
    than half the globe wide.
    """
    return match_acquisitions(Acquisitions.of(s2), Acquisitions.of(s1), max_gap=max_gap, orbit=orbit).pairs()


def match_acquisitions(s2: Acquisitions, s1: Acquisitions, *, max_gap: timedelta, orbit: OrbitRule) -> Matches:
    """What `match` gives, as columns."""
    code = orbit_codes(s1, orbit)
    rank_of_s2, rank_of_s1 = s2.order_of_ids(), s1.order_of_ids()
    order_of_s2, order_of_s1 = (
        np.lexsort((rank, scenes.acquired_us)) for scenes, rank in ((s2, rank_of_s2), (s1, rank_of_s1))
    )
    order_of_s1 = order_of_s1[code[order_of_s1] != UNKNOWN]
    anchor = anchors(s2.take(order_of_s2), rank_of_s2[order_of_s2])
    frames = s1.take(order_of_s1)
    sought = _Sought(
        a_shapes=anchor.shapes,
        b_shapes=frames.footprints,
        a_us=s2.acquired_us[order_of_s2[anchor.scene]],
        b_us=frames.acquired_us,
        b_pass=pass_numbers(frames),
        b_rank=rank_of_s1[order_of_s1],
    )
    near = candidates(boxes(sought.a_shapes), sought.a_us, boxes(sought.b_shapes), sought.b_us, microseconds(max_gap))
    found = _joined(_pairs(sought, *block) for block in near)
    if orbit in ("same-relative", "auto"):
        tile = tile_numbers(s2)[order_of_s2[anchor.scene]]
        gap_us = sought.gap_us(found.a, found.b)
        found = found.only(chosen(tile[found.a], code[order_of_s1][found.b], found.a, found.overlap, gap_us))
    n_candidates = np.bincount(found.a, minlength=len(anchor))
    before = np.cumsum(n_candidates) - n_candidates
    return Matches(
        s2=s2,
        s1=s1,
        s2_index=order_of_s2[anchor.scene[found.a]],
        s1_index=order_of_s1[found.b],
        gap_us=sought.gap_us(found.a, found.b),
        overlap=found.overlap,
        rank=np.arange(len(found.a)) - before[found.a],
        n_candidates=n_candidates[found.a],
        s1_more=Ragged.grouped(found.more_of, found.more_b, len(found.a)).of(order_of_s1),
        s2_more=anchor.more.take(found.a).of(order_of_s2),
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Sought:
    """Sentinel-2 acquisitions (a) and Sentinel-1 frames (b), both in order of (time, id)."""

    a_shapes: ObjectArray
    b_shapes: ObjectArray
    a_us: IntArray
    b_us: IntArray
    b_pass: IntArray
    b_rank: IntArray
    """Position of each frame's id in sorted order."""

    def gap_us(self, a: IntArray, b: IntArray) -> IntArray:
        """Frame minus acquisition, microseconds."""
        return self.b_us[b] - self.a_us[a]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Found:
    """Pairs of an acquisition and a pass, sorted by (acquisition, |gap|, id)."""

    a: IntArray
    b: IntArray
    """The frame that covers most."""
    overlap: FloatArray
    more_of: IntArray
    """Position of a pair that has further frames, once for each of them."""
    more_b: IntArray
    """Those frames."""

    def only(self, keep: BoolArray) -> "_Found":
        """The pairs where `keep` is True, in the same order."""
        place = np.cumsum(keep) - 1
        kept = keep[self.more_of]
        return _Found(
            a=self.a[keep],
            b=self.b[keep],
            overlap=self.overlap[keep],
            more_of=place[self.more_of[kept]],
            more_b=self.more_b[kept],
        )


def _pairs(sought: _Sought, a: IntArray, b: IntArray, turn: FloatArray) -> _Found:
    """The pairs among candidates; all candidates of an acquisition are there, and at least one."""
    used_a, a = _renumbered(a)
    used_b, b = _renumbered(b)
    block = _Block(a=ground(sought.a_shapes[used_a]), b=ground(sought.b_shapes[used_b]), b_pass=sought.b_pass[used_b])
    meetings, group = _by_pass(block, block.meetings(a, b, turn))
    lead = np.flatnonzero(np.diff(group, prepend=-1))
    extra = _further(block, meetings, group, lead[group])
    best, of_pair = meetings.at(lead), group[extra.position]
    covered = best.shared + np.bincount(of_pair, extra.gain, minlength=len(lead))
    frames = block.b.area[best.b] + np.bincount(of_pair, extra.area, minlength=len(lead))
    overlap = np.minimum(covered / np.minimum(block.a.area[best.a], frames), 1.0)

    a, b = used_a[best.a], used_b[best.b]
    order = np.lexsort((sought.b_rank[b], np.abs(sought.gap_us(a, b)), a))
    place = np.empty_like(order)
    place[order] = np.arange(len(order))
    return _Found(
        a=a[order],
        b=b[order],
        overlap=overlap[order],
        more_of=place[of_pair],
        more_b=used_b[meetings.b[extra.position]],
    )


def _renumbered(index: IntArray) -> tuple[IntArray, IntArray]:
    """The distinct values in order, and the position of each value among them; for values that lie close together."""
    least = int(index.min())
    is_used = np.bincount(index - least) > 0
    place = np.cumsum(is_used) - 1
    return np.flatnonzero(is_used) + least, place[index - least]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Meetings:
    """Acquisitions and frames that share ground."""

    a: IntArray
    b: IntArray
    turn: FloatArray
    """Degrees to move the frame east."""
    shared: FloatArray
    """Area, square degrees."""

    def at(self, index: IntArray | BoolArray) -> "_Meetings":
        """Some of them."""
        return _Meetings(a=self.a[index], b=self.b[index], turn=self.turn[index], shared=self.shared[index])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Extra:
    """Frames that add ground to the best frame of their pass."""

    position: IntArray
    """Which meeting."""
    gain: FloatArray
    """Area of the acquisition that the frame adds to what the ones before cover."""
    area: FloatArray
    """Area that it adds to the ground of those frames."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Block:
    """Some acquisitions (a) and the frames (b) that may meet them."""

    a: Ground
    b: Ground
    b_pass: IntArray

    def meetings(self, a: IntArray, b: IntArray, turn: FloatArray) -> _Meetings:
        """Those of the candidates that share ground."""
        shared = on_ground.shared_area(self.a, self.b, a, b, turn)
        return _Meetings(a=a, b=b, turn=turn, shared=shared).at(self.is_ground(shared, a, b))

    def is_ground(self, shared: FloatArray, a: IntArray, b: IntArray) -> BoolArray:
        """Is an area of an acquisition and a frame more than rounding?"""
        return on_ground.is_ground(shared, self.a.area[a], self.b.area[b])

    def seen(self, meetings: _Meetings) -> tuple[ObjectArray, ObjectArray]:
        """Frames at the longitudes of the acquisitions, and what they share with them."""
        import shapely

        frames = on_ground.moved(self.b.shapes[meetings.b], meetings.turn)
        return frames, shapely.intersection(self.a.shapes[meetings.a], frames)


def _by_pass(block: _Block, meetings: _Meetings) -> tuple[_Meetings, IntArray]:
    """Meetings of one acquisition with one pass beside each other, the best frame first; and the number of each group.

    The best frame covers most of the acquisition; of equal ones it is the earliest, then the first by id.
    """
    key = meetings.a * (int(block.b_pass.max(initial=0)) + 1) + block.b_pass[meetings.b]
    order = np.argsort(key, kind="stable")
    group = np.cumsum(np.diff(key[order], prepend=-1) != 0) - 1
    several = np.flatnonzero(np.bincount(group)[group] > 1)
    among = order[several]
    share = np.round(meetings.shared[among] / block.a.area[meetings.a[among]], _DECIMALS)
    order[several] = among[np.lexsort((meetings.b[among], -share, group[several]))]
    return meetings.at(order), group


def _further(block: _Block, meetings: _Meetings, group: IntArray, lead: IntArray) -> _Extra:
    """Which meetings see ground of the acquisition that those before them in their group do not.

    lead: position of the first meeting of each one's group.
    """
    left = block.a.area[meetings.a] - meetings.shared[lead]
    position = np.flatnonzero((lead != np.arange(len(lead))) & block.is_ground(left, meetings.a, meetings.b))
    is_simple = np.bincount(group)[group[position]] == 2
    for one in (position, lead[position]):
        is_simple &= on_ground.can_cut(block.a, block.b, meetings.a[one], meetings.b[one])
    simple, general = position[is_simple], position[~is_simple]
    parts = (
        _second_frames(block, meetings, simple, lead[simple]),
        _further_frames(block, meetings, general, lead[general]),
    )
    return _Extra(
        position=np.concatenate([part.position for part in parts]),
        gain=np.concatenate([part.gain for part in parts]),
        area=np.concatenate([part.area for part in parts]),
    )


def _second_frames(block: _Block, meetings: _Meetings, second: IntArray, first: IntArray) -> _Extra:
    """Those of the meetings `second` that add ground to the only other meeting of their group, `first`; all frames
    can cut the acquisition."""
    one, other = meetings.at(first), meetings.at(second)
    twice = on_ground.shared_by_both(block.a, block.b, one.a, one.b, other.b, (one.turn, other.turn))
    gain = other.shared - twice
    adds = block.is_ground(gain, other.a, other.b)
    one, other = one.at(adds), other.at(adds)
    common = on_ground.shared_area(block.b, block.b, one.b, other.b, other.turn - one.turn)
    return _Extra(position=second[adds], gain=gain[adds], area=block.b.area[other.b] - common)


def _further_frames(block: _Block, meetings: _Meetings, position: IntArray, lead: IntArray) -> _Extra:
    """The meetings at `position` that add ground, for any shapes and any number of frames of a pass.

    lead: position of the first meeting of each one's group. Takes the next frame of every group at a time.
    """
    import shapely

    gain, frame_gain = np.zeros(len(position)), np.zeros(len(position))
    first, owner = np.unique(lead, return_index=True, return_inverse=True)[1:]
    step = np.arange(len(position)) - first[owner]
    frames, covered = block.seen(meetings.at(lead[first]))
    for number in range(int(step.max(initial=-1)) + 1):
        now = np.flatnonzero(step == number)
        who, other = owner[now], meetings.at(position[now])
        shapes, seen = block.seen(other)
        joined = shapely.union(covered[who], seen)
        more = shapely.area(joined) - shapely.area(covered[who])
        adds = block.is_ground(more, other.a, other.b)
        now, who, joined_frames = now[adds], who[adds], shapely.union(frames[who[adds]], shapes[adds])
        gain[now], frame_gain[now] = more[adds], shapely.area(joined_frames) - shapely.area(frames[who])
        covered[who], frames[who] = joined[adds], joined_frames
    added = gain > 0
    return _Extra(position=position[added], gain=gain[added], area=frame_gain[added])


def _joined(parts: Iterable[_Found]) -> _Found:
    """Pairs of blocks of acquisitions, one after the other."""
    blocks = list(parts)
    starts = np.cumsum([0, *(len(block.a) for block in blocks)])[:-1]

    def column(name: str, kind: type) -> Any:
        return np.concatenate([np.empty(0, dtype=kind), *(getattr(block, name) for block in blocks)])

    shifted = [block.more_of + start for block, start in zip(blocks, starts.tolist(), strict=True)]
    return _Found(
        a=column("a", np.int64),
        b=column("b", np.int64),
        overlap=column("overlap", np.float64),
        more_of=np.concatenate([np.empty(0, dtype=np.int64), *shifted]),
        more_b=column("more_b", np.int64),
    )
