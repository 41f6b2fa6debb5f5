"""Batches of looks: an exact epoch after the other, read and decoded in threads, that can stop and go on anywhere."""

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from geossl_data.errors import ShardError
from geossl_data.shards.reading.buffers import Allocate, Buffers, plain_memory
from geossl_data.shards.reading.files import Files
from geossl_data.shards.reading.index import Index
from geossl_data.shards.reading.order import IntArray, Permutation, Shuffle, Steps, drawn_looks, shuffled

Array = NDArray[Any]
Batch = dict[str, Array]
"""Member name → stored numbers, (B, bands, rows, columns), or (B, looks, bands, rows, columns) where an item is a place
with several looks; `index` → sample of each row, (B,), int64; `look` → its looks, (B,) or (B, looks), int64."""
Looks = int | Literal["each", "all"]


class Drawn(Protocol):
    """Samples, and a rule that draws looks of them."""

    rows: IntArray
    """The samples, shape (n,)."""

    def draw(self, seed: int, epoch: int) -> IntArray:
        """The looks of each in an epoch, shape (n, k)."""
        ...


Items = Sequence[tuple[int, int]] | IntArray | Drawn


@dataclass(frozen=True, slots=True)
class Chosen:
    """What an epoch holds: items of one or several looks."""

    sample: IntArray
    """Of each item, shape (n,)."""
    looks: IntArray | None
    """Of each item, shape (n, looks); None where they are drawn each epoch."""
    eligible: NDArray[np.bool_] | None = None
    """Which looks of each item may be drawn, shape (n, most looks)."""
    k: int = 1
    """Looks of an item."""
    flat: bool = True
    """Whether an item is one look, so that batches have no axis of looks."""
    drawn: Drawn | None = None
    """The rule that draws the looks, where it is not ours."""

    def __len__(self) -> int:
        return len(self.sample)

    def looks_of(self, items: IntArray, *, seed: int, epoch: int) -> IntArray:
        """The looks of all items in an epoch, by item number; shape (items, k)."""
        if self.looks is not None:
            return self.looks[items]
        if self.drawn is not None:
            return self.drawn.draw(seed, epoch)[items]
        assert self.eligible is not None
        return drawn_looks(self.eligible, self.k, seed=seed, epoch=epoch)[items]


def items_of(
    index: Index,
    known: Sequence[str],
    names: Sequence[str],
    looks: Looks,
    items: Items | None,
    log: Callable[[str], None] | None,
) -> Chosen:
    """The items of an epoch whose looks have all the named members; see `Shards.batches`."""
    columns = [list(known).index(name) for name in names]
    whole: NDArray[np.bool_] = np.all(index.member_file[:, columns] >= 0, axis=1)
    if items is not None and hasattr(items, "draw"):
        rule = cast(Drawn, items)
        return Chosen(rule.rows, None, k=rule.draw(0, 0).shape[1], flat=False, drawn=rule)
    if items is not None:
        pairs = np.asarray(items, dtype=np.int64).reshape(len(items), 2)
        inside = (pairs >= 0).all() and (pairs[:, 0] < len(index)).all()
        if not inside or bool((pairs[:, 1] >= index.n_looks[pairs[:, 0]]).any()):
            raise ShardError("items name samples or looks that these shards do not hold")
        lacking = ~whole[index.first_look[pairs[:, 0]] + pairs[:, 1]]
        if lacking.any():
            sample, look = pairs[np.argmax(lacking)].tolist()
            raise ShardError(f"sample {sample}, look {look} has no {' or '.join(names)}")
        return Chosen(pairs[:, 0], pairs[:, 1:])
    sample = np.repeat(np.arange(len(index)), index.n_looks)
    look = np.arange(len(sample)) - index.first_look[sample]
    if looks == "each":
        _tell(log, len(whole) - int(whole.sum()), len(whole), "looks lack a member")
        return Chosen(sample[whole], look[whole, None])
    most = int(index.n_looks.max(initial=0))
    eligible = np.zeros((len(index), most), dtype=np.bool_)
    eligible[sample[whole], look[whole]] = True
    if looks == "all":
        counts = np.unique(index.n_looks)
        if len(counts) > 1:
            raise ShardError(
                f"places have {counts[0]} to {counts[-1]} looks, so they do not stack; ask for a number of looks"
            )
        fit = np.asarray(eligible.all(axis=1))
        _tell(log, len(fit) - int(fit.sum()), len(fit), "places have a look that lacks a member")
        chosen = np.flatnonzero(fit)
        return Chosen(chosen, np.broadcast_to(np.arange(most), (len(chosen), most)), k=most, flat=False)
    if not isinstance(looks, int) or looks < 1:
        raise ShardError(f"looks {looks!r} is not 'each', 'all' or a number from 1 on")
    fit = np.asarray(eligible.sum(axis=1) >= looks)
    _tell(log, len(fit) - int(fit.sum()), len(fit), f"places have fewer than {looks} such looks")
    return Chosen(np.flatnonzero(fit), None, eligible[fit], k=looks, flat=looks == 1)


def _tell(log: Callable[[str], None] | None, left_out: int, of: int, why: str) -> None:
    if left_out and log is not None:
        log(f"{left_out} of {of} {why} and are left out")


class Batches:
    """Epoch by epoch, every item once, in an order that seed and epoch decide.

    Iterating gives the rest of the present epoch and then moves on to the next. The memory of a batch is used again
    when nothing refers to it any more. `state_dict` says where it stands, to the next item; after `load_state_dict`
    it goes on there, also with another batch size or another number of ranks.
    """

    def __init__(
        self,
        files: Files,
        items: Chosen,
        members: Sequence[str],
        batch_size: int,
        *,
        identity: str = "",
        shuffle: Shuffle | Permutation | None = "global",
        window: int = 8,
        seed: int = 0,
        rank: int = 0,
        world: int = 1,
        drop_last: bool = True,
        threads: int | None = None,
        ahead: int = 2,
        allocate: Allocate = plain_memory,
    ) -> None:
        """See `Shards.batches`."""
        threads = files.source.threads if threads is None else threads
        if threads < 1 or ahead < 1 or window < 1:
            raise ShardError(f"threads {threads}, ahead {ahead} and window {window} must be at least 1")
        if not 0 <= rank < world:
            raise ShardError(f"rank {rank} is not one of {world} ranks")
        if not members:
            raise ShardError("no member is asked for")
        if len(items) < world:
            raise ShardError(f"{len(items)} items for {world} ranks; each needs one at least")
        self.members = tuple(members)
        self.epoch = 0
        """The epoch that the next batch belongs to, from 0 on."""
        self._files, self._items, self._identity = files, items, identity
        self._shuffle, self._window, self._seed = shuffle, window, seed
        self._rank, self._world, self._drop_last = rank, world, drop_last
        self._batch_size, self._threads, self._ahead = batch_size, threads, ahead
        self._buffers = Buffers(allocate)
        self._base, self._step = 0, 0
        if not len(self):
            raise ShardError(
                f"{len(items)} items are fewer than one step of {world} × {batch_size}; ask for smaller batches"
            )

    @property
    def n_items(self) -> int:
        """How many items an epoch has, over all ranks."""
        return len(self._items)

    @property
    def looks_per_item(self) -> int:
        """How many looks an item has."""
        return self._items.k

    def __len__(self) -> int:
        """Steps of a whole epoch, the same for every rank."""
        return len(self._steps(0))

    def _steps(self, base: int) -> Steps:
        return Steps(len(self._items) - base, self._batch_size, self._world, self._drop_last)

    @property
    def remaining(self) -> int:
        """Steps that are left of the present epoch."""
        return len(self._steps(self._base)) - self._step

    @property
    def position(self) -> int:
        """How many items of the present epoch were given out, over all ranks."""
        return self._base + self._steps(self._base).edge(self._step)

    def set_epoch(self, epoch: int) -> None:
        """Go to the begin of an epoch."""
        self.epoch, self._base, self._step = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Where it stands, JSON-able; the same for every rank."""
        return {
            "epoch": self.epoch,
            "base": self._base,
            "step": self._step,
            "batch_size": self._batch_size,
            "world": self._world,
            "drop_last": self._drop_last,
            "seed": self._seed,
            "shuffle": "own" if callable(self._shuffle) else self._shuffle,
            "window": self._window,
            "items": len(self._items),
            "looks": self._items.k if self._items.looks is None else 0,
            "shards": self._identity,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where `state_dict` was asked; ShardError where it was of other shards, items or another order."""
        own = self.state_dict()
        fixed = ("seed", "shuffle", "window", "items", "looks", "shards")
        other = [name for name in fixed if state.get(name) != own[name]]
        if other:
            raise ShardError(
                f"the state is of other batches: {other[0]} {state.get(other[0])!r}, not {own[other[0]]!r}"
            )
        self.epoch, self._base, self._step = int(state["epoch"]), int(state["base"]), int(state["step"])
        changed = [name for name in ("batch_size", "world", "drop_last") if state[name] != own[name]]
        if changed:
            before = Steps(
                len(self._items) - self._base, int(state["batch_size"]), int(state["world"]), bool(state["drop_last"])
            )
            self._base, self._step = self._base + before.edge(self._step), 0

    def order(self, epoch: int) -> tuple[IntArray, IntArray]:
        """Samples and looks, (n,) and (n, looks), of an epoch's items in their order."""
        if callable(self._shuffle):
            order = self._shuffle(self._seed, epoch)
        else:
            shard = self._files.index.shard[self._items.sample]
            order = shuffled(shard, self._shuffle, seed=self._seed, epoch=epoch, window=self._window)
        return self._items.sample[order], self._items.looks_of(order, seed=self._seed, epoch=epoch)

    def __iter__(self) -> Iterator[Batch]:
        """The batches of this rank from where it stands to the end of the epoch."""
        return self.share(0, 1)

    def share(self, worker: int, workers: int) -> Iterator[Batch]:
        """Every `workers`-th of the batches, from the `worker`-th on: what one process of several reads."""
        samples, looks = self.order(self.epoch)
        steps = self._steps(self._base)
        numbers = range(self._step + worker, len(steps), workers)
        parts = [
            slice(self._base + part.start, self._base + part.stop)
            for part in (steps.part(number, self._rank) for number in numbers)
        ]
        pool = ThreadPoolExecutor(self._threads, thread_name_prefix="geossl-batches")
        pending: deque[tuple[int, Batch, list[Future[None]]]] = deque()
        todo = iter(zip(numbers, parts, strict=True))

        def submit() -> None:
            following = next(todo, None)
            if following is None:
                return
            number, part = following
            batch = self._empty(samples[part], looks[part])
            pending.append((number, batch, [pool.submit(self._fill, batch, rows) for rows in self._chunks(part)]))

        try:
            for _ in range(self._ahead + 1):
                submit()
            while pending:
                number, batch, filling = pending.popleft()
                for future in filling:
                    future.result()
                self._step = number + 1
                yield batch
                del batch
                submit()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        self.set_epoch(self.epoch + 1)

    def _chunks(self, part: slice) -> list[range]:
        """The rows of a batch in as many runs as there are threads."""
        n = part.stop - part.start
        count = min(n, self._threads)
        return [range(i * n // count, (i + 1) * n // count) for i in range(count)]

    def _empty(self, samples: IntArray, looks: IntArray) -> Batch:
        """The memory of a batch, and which items it will hold."""
        leading = (len(samples),) if self._items.flat else looks.shape
        batch = {
            name: self._buffers.lend(
                (*leading, *self._files.members[name].shape(self._files.size_px)), self._files.members[name].dtype
            )
            for name in self.members
        }
        return batch | {"index": samples, "look": looks[:, 0] if self._items.flat else looks}

    def _fill(self, batch: Batch, rows: range) -> None:
        """Read some rows of a batch."""
        k = self._items.k
        looks = batch["look"][rows.start : rows.stop].reshape(len(rows), k)
        arrays = {
            name: batch[name].reshape(-1, *self._files.shape(name))[rows.start * k : rows.stop * k]
            for name in self.members
        }
        self._files.read(batch["index"][rows.start : rows.stop], looks, arrays)
