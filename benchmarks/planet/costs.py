"""What a dataset costs: requests, bytes, hours and euros, from measured rates and from assumptions that one can change.

    python benchmarks/planet.py --costs
    python benchmarks/planet.py --costs latency_ms=120 gigabits=1 vm_euros_an_hour=0.2

The table of docs/scale.md is what this prints; a test holds them together.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

PLACES = (1_000, 100_000, 1_000_000)
S2_BLOCK_MB = 6.25 / 20.0
"""Of a stored block of 512 pixels as it comes over the network; 20 blocks a window were 6.25 MB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What the costs are computed from. Each field's docstring says where its number is from."""

    looks: float = 4.0
    """Of a place: four seasons."""
    size_px: float = 264.0
    """Side of a place."""
    header_kb: float = 32.0
    """Read of a raster before its first block: one request. Measured: 32 KiB hold all of it."""
    s1_block_mb: float = 0.95
    """A block of float32 gamma naught; speckle hardly compresses: 2.4 GB with the empty rim are 1.8 GB a file."""
    latency_ms: float = 50.0
    """Assumed: of a request to the archive from a machine in its region."""
    concurrency: float = 64.0
    """geossl: requests under way."""
    cpu_ms: float = 45.0
    """A look on one core: 23 ms for twelve bands measured; about 20 ms assumed for warping radar, 2 ms to encode."""
    cores: float = 16.0
    """Assumed machine."""
    gigabits: float = 10.0
    """Assumed: its network, per second."""
    s2_ratio: float = 1.41
    """Codec `blosc` on real pixels: `python benchmarks/codecs.py`."""
    s1_ratio: float = 1.39
    """The same."""
    vm_euros_an_hour: float = 0.70
    """Assumed: 16 cores, 10 Gb/s, on demand."""
    storage_euros_a_gb_month: float = 0.02
    """Assumed: object store, standard tier."""
    egress_euros_a_gb: float = 0.08
    """Assumed: taking the shards out of the cloud once. Reading the archive is free."""
    gpu_euros_an_hour: float = 2.50
    """Assumed: one H100 on demand."""
    gpu_looks_a_second: float = 2_500.0
    """Assumed: ResNet-50 with two views a look, half of 5,000 images a second."""
    epochs: float = 100.0
    """Of training."""

    def changed(self, settings: Sequence[str]) -> "Rates":
        """The same with some numbers replaced, each given as `name=number`; ValueError for what is none of them."""
        known = {entry.name for entry in fields(self)}
        values: dict[str, float] = {}
        for setting in settings:
            name, _, text = setting.partition("=")
            if name not in known:
                raise ValueError(f"{name}: not one of {', '.join(sorted(known))}")
            values[name] = float(text)
        return replace(self, **values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What so many places cost."""

    places: int
    looks: float
    looks_a_scene: float
    """Looks that a scene gives: 1 where places are far apart, more where they share tiles."""
    requests: float
    read_gb: float
    looks_a_second: float
    limit: str
    """What bounds it: requests, network or processor."""
    stored_gb: float
    shard_hours: float
    gpu_hours: float
    vm_euros: float
    storage_euros: float
    egress_euros: float
    gpu_euros: float


LOOKS_A_SCENE = {1_000: 1.0, 10_000: 1.0, 100_000: 1.3, 1_000_000: 12.8}
"""Of places on all land. Measured for a million in the rehearsal (7,672 looks out of 601 scenes of the same density);
a tenth of that where there are a tenth of the places, and never less than one."""


def blocks(size_px: float, metres: int, *, across: bool = False) -> float:
    """Stored blocks of 512 pixels that a window meets, wherever it lies; across: rows of them, one request each."""
    share = 1 + size_px * 10 / metres / 512
    return share if across else share**2


def cost_of(places: int, rates: Rates, looks_a_scene: float | None = None) -> Cost:
    """The cost of so many places on all land, with Sentinel-2's twelve bands and classes and two of Sentinel-1."""
    per_scene = LOOKS_A_SCENE[places] if looks_a_scene is None else looks_a_scene
    bands = {10: 4, 20: 7, 60: 2}
    looks = places * rates.looks
    headers = 15 / per_scene
    requests = sum(count * blocks(rates.size_px, metres, across=True) for metres, count in bands.items())
    requests += 2 * blocks(rates.size_px, 10, across=True) + headers
    read_mb = S2_BLOCK_MB * sum(count * blocks(rates.size_px, metres) for metres, count in bands.items())
    read_mb += 2 * rates.s1_block_mb * blocks(rates.size_px, 10) + headers * rates.header_kb * 1024 / 1e6
    bounds = {
        "requests": rates.concurrency / (rates.latency_ms / 1000) / requests,
        "network": rates.gigabits * 125 / read_mb,
        "processor": rates.cores / (rates.cpu_ms / 1000),
    }
    limit = min(bounds, key=lambda name: bounds[name])
    rate = bounds[limit]
    optical_mb = 2 * sum(n * (rates.size_px * 10 / m) ** 2 for m, n in {10: 4, 20: 6, 60: 2}.items()) / 1e6
    radar_mb = 2 * 2 * rates.size_px**2 / 1e6
    stored_gb = looks * (optical_mb / rates.s2_ratio + radar_mb / rates.s1_ratio) / 1000
    shard_hours = looks / rate / 3600
    gpu_hours = looks * rates.epochs / rates.gpu_looks_a_second / 3600
    return Cost(
        places=places,
        looks=looks,
        looks_a_scene=per_scene,
        requests=looks * requests,
        read_gb=looks * read_mb / 1000,
        looks_a_second=rate,
        limit=limit,
        stored_gb=stored_gb,
        shard_hours=shard_hours,
        gpu_hours=gpu_hours,
        vm_euros=shard_hours * rates.vm_euros_an_hour,
        storage_euros=stored_gb * rates.storage_euros_a_gb_month,
        egress_euros=stored_gb * rates.egress_euros_a_gb,
        gpu_euros=gpu_hours * rates.gpu_euros_an_hour,
    )


def table(rates: Rates | None = None) -> str:
    """The costs as Markdown, a column for each number of places."""
    costs = [cost_of(places, rates or Rates()) for places in PLACES]
    rows: Mapping[str, list[str]] = {
        "looks, four seasons": [f"{cost.looks:,.0f}" for cost in costs],
        "looks that share a scene": [f"{cost.looks_a_scene:g}" for cost in costs],
        "requests of rasters": [_short(cost.requests) for cost in costs],
        "read from the archive": [_bytes(cost.read_gb) for cost in costs],
        "looks a second, and what bounds them": [f"{cost.looks_a_second:.0f}, {cost.limit}" for cost in costs],
        "time of `geossl shard`": [_hours(cost.shard_hours) for cost in costs],
        "shards": [_bytes(cost.stored_gb) for cost in costs],
        "machine": [_euros(cost.vm_euros) for cost in costs],
        "keeping the shards, a month": [_euros(cost.storage_euros) for cost in costs],
        "taking them elsewhere, once": [_euros(cost.egress_euros) for cost in costs],
        "pretraining, 100 epochs on one GPU": [f"{_hours(cost.gpu_hours)}, {_euros(cost.gpu_euros)}" for cost in costs],
    }
    head = ["", *(f"{places:,} places" for places in PLACES)]
    lines = [head, ["---", *(["---:"] * len(PLACES))], *([name, *row] for name, row in rows.items())]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _short(count: float) -> str:
    return f"{count / 1e6:,.1f} million" if count >= 1e6 else f"{count:,.0f}"


def _bytes(gb: float) -> str:
    return f"{gb / 1000:,.1f} TB" if gb >= 1000 else f"{gb:,.0f} GB"


def _hours(hours: float) -> str:
    return f"{hours:,.1f} h" if hours >= 1 else f"{60 * hours:,.0f} min"


def _euros(euros: float) -> str:
    return f"€ {euros:,.0f}" if euros >= 1 else f"€ {euros:.2f}"
