"""The pictures of the pages about concepts, made of the sandbox's planet and of geossl's own functions.

    python docs/pictures/make.py             # builds the small planet in a temporary folder first
    python docs/pictures/make.py PLANET      # takes one that is there, as `geossl sandbox PLANET` writes it

About a minute on two cores. Charts are SVG with words as words; images are JPEG. All together stay below 300 kB.
"""

import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import rasterio
from matplotlib.axes import Axes
from matplotlib.figure import Figure

import geossl_data as gd
from geossl_data import tables
from geossl_data.records import Pair, Sample
from geossl_data.sampling.splits import SplitRule
from geossl_data.sampling.strategies import POWERS, allocate

HERE = Path(__file__).resolve().parent
BLUE, YELLOW, RED, GREY, INK = "#004488", "#DDAA33", "#BB5566", "#9AA3AA", "#1B1F23"
SPLITS = {"train": BLUE, "val": YELLOW, "test": RED}

STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "geossl",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
}


def save(figure: Figure, name: str) -> None:
    """Write a chart as SVG without the time at which it was made, or images as JPEG."""
    path = HERE / name
    if path.suffix == ".svg":
        figure.savefig(path, metadata={"Date": None, "Creator": None}, bbox_inches="tight", pad_inches=0.12)
    else:
        figure.savefig(path, dpi=100, bbox_inches="tight", pad_inches=0.12, pil_kwargs={"quality": 82})
    print(f"{name}  {path.stat().st_size / 1000:.0f} kB")


def chart(width: float, height: float, **grid: Any) -> tuple[Figure, Any]:
    """A figure without any window, and its axes."""
    figure = Figure(figsize=(width, height), facecolor="white")
    return figure, figure.subplots(**grid)


# ------------------------------------------------------------------------------------------------ pairs


def draw_timeline(data: Path) -> None:
    """One tile's acquisitions along a year, and what was paired with what."""
    pairs = tables.read_table(data / "pairs.parquet", Pair)
    tiles = [pair.s2_id.split("_")[4] for pair in pairs]
    tile = max(sorted(set(tiles)), key=tiles.count)
    shown = [pair for pair, own in zip(pairs, tiles, strict=True) if own == tile]
    year = min(pair.s2_acquired.year for pair in shown)
    shown = [pair for pair in shown if pair.s2_acquired.year == year]
    first = datetime(year, 1, 1, tzinfo=UTC)

    def day(when: datetime) -> float:
        return (when - first).total_seconds() / 86_400

    figure, axes = chart(7.6, 2.5)
    for pair in shown:
        best = pair.rank == 0
        axes.plot(
            [day(pair.s2_acquired), day(pair.s1_acquired)], [1, 0],
            color=RED if best else GREY, linewidth=1.8 if best else 1.0, linestyle="-" if best else ":", zorder=1,
        )  # fmt: skip
        if best:
            middle = (day(pair.s2_acquired) + day(pair.s1_acquired)) / 2
            axes.annotate(
                f"{pair.gap_hours:+.0f} h", (middle, 0.5), xytext=(7, 0), textcoords="offset points",
                fontsize=9, color=RED, va="center",
            )  # fmt: skip
    axes.scatter([day(pair.s2_acquired) for pair in shown], [1] * len(shown), s=64, color=BLUE, zorder=2)
    axes.scatter([day(pair.s1_acquired) for pair in shown], [0] * len(shown), s=64, marker="D", color=INK, zorder=2)
    axes.set_yticks([0, 1], ["Sentinel-1", "Sentinel-2"])
    axes.set_ylim(-0.4, 1.4)
    axes.set_xlim(0, 366)
    axes.set_xticks([0, 90, 181, 273, 365], ["January", "April", "July", "October", ""])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    save(figure, "pairs.svg")


def stretched(look: Any, names: Sequence[str], low: float, high: float) -> np.ndarray:
    """An RGB image of three bands between two values, grey where nothing is measured."""
    image = np.stack([look[name].values for name in names], axis=-1)
    scaled = np.clip((image - low) / (high - low), 0, 1) ** 0.8
    return np.where(np.isfinite(scaled), scaled, 0.5)


def is_clear(look: Any) -> bool:
    """Whether hardly any of a look is cloud, shadow or missing."""
    return float(np.isin(look["SCL"].values, (4, 5, 6, 7)).mean()) > 0.97


def draw_look(data: Path, samples: Sequence[Sample]) -> None:
    """One look as its two sensors see it: of those without a cloud the most varied."""
    varied = sorted(samples, key=lambda one: -(one.spectral_entropy or 0))
    look = next(found for one in varied if is_clear(found := gd.open_look(data, one.key, 0)))
    ratio = np.clip((look["VV"].values - look["VH"].values - 2) / 12, 0, 1)
    radar = np.stack(
        [np.clip((look["VV"].values + 22) / 20, 0, 1), np.clip((look["VH"].values + 29) / 20, 0, 1), ratio], axis=-1
    )
    panels = {
        "true colour": stretched(look, ("B04", "B03", "B02"), 0.0, 0.28),
        "near infrared, red, green": stretched(look, ("B08", "B04", "B03"), 0.0, 0.5),
        "radar: VV, VH, their ratio": np.where(np.isfinite(radar), radar, 0.5),
    }
    figure, axes = chart(7.2, 2.7, ncols=3)
    for axis, (title, image) in zip(axes, panels.items(), strict=True):
        _image(axis, image, title)
    save(figure, "look.jpg")


def _image(axis: Axes, image: np.ndarray, title: str) -> None:
    axis.imshow(image, interpolation="nearest")
    axis.set_title(title, fontsize=9, color=INK)
    axis.set_axis_off()


# ------------------------------------------------------------------------------------------------ strata


def draw_allocation(folder: Path) -> None:
    """What 1000 places are spread over, by climate, under each rule."""
    gd.pipeline.draw_places(folder, _climates())
    land: Mapping[str, float] = tables.read_metadata(folder / "places.parquet")["land_km2"]
    names = sorted((name for name in land if name != "(none)"), key=lambda name: -land[name])
    sizes = np.array([round(land[name]) for name in names], dtype=np.int64)
    figure, axes = chart(7.4, 2.9)
    height = 0.26
    for number, (rule, colour) in enumerate((("proportional", GREY), ("sqrt", BLUE), ("equal", YELLOW))):
        seats = allocate(sizes, 1000, power=POWERS[rule])
        at = np.arange(len(names)) + (number - 1) * height
        axes.barh(at, seats, height=height, color=colour, label=rule)
        for y, seat in zip(at, seats.tolist(), strict=True):
            axes.annotate(str(seat), (seat, y), xytext=(3, 0), textcoords="offset points", fontsize=8, va="center")
    labels = [f"{name} ({land[name] / 1e6:.0f} million km²)" for name in names]
    axes.set_yticks(np.arange(len(names)), labels)
    axes.invert_yaxis()
    axes.set_xlabel("places of 1000")
    axes.legend(loc="lower right", fontsize=9)
    save(figure, "strata.svg")


def _climates() -> Any:
    from geossl_data.recipe import PlacesOptions

    return PlacesOptions(strategy="geography", strata="climate", count=300, size=264)


# ------------------------------------------------------------------------------------------------ change


def draw_change(data: Path) -> None:
    """The place that changed most and one that did not: first look, last look, and where it changed."""
    samples = tables.read_table(data / "samples.parquet", Sample)
    known = sorted((one for one in samples if one.change_score is not None), key=lambda one: -(one.change_score or 0))
    chosen = [next(one for one in part if _seen(data, one)) for part in (known, known[len(known) // 2 :])]
    figure, axes = chart(7.2, 5.0, nrows=2, ncols=3)
    for row, one in zip(axes, chosen, strict=True):
        place = gd.open_sample(data, one.key)
        times = place.time.values
        for axis, at in zip(row, (0, -1), strict=False):
            _image(axis, stretched(place.isel(time=at), ("B04", "B03", "B02"), 0.0, 0.28), f"{times[at]:.10}")
        _image(row[2], np.ones((1, 1, 3)), f"change score {one.change_score:.2f}")
        row[2].imshow(_change_map(data, one), cmap="magma", vmin=0, vmax=4, interpolation="nearest")
    save(figure, "change.jpg")


def _seen(data: Path, one: Sample) -> bool:
    place = gd.open_sample(data, one.key)
    return is_clear(place.isel(time=0)) and is_clear(place.isel(time=-1))


def _change_map(data: Path, one: Sample) -> np.ndarray:
    """The map of change below `change/` where it covers a place."""
    west, south, east, north = one.place.bounds
    for path in sorted((data / "change").rglob("*.tif")):
        with rasterio.open(path) as file:
            bounds = file.bounds
            inside = bounds.left <= west and bounds.right >= east and bounds.bottom <= south and bounds.top >= north
            if file.crs.to_epsg() == one.place.epsg and inside:
                window = rasterio.windows.from_bounds(west, south, east, north, file.transform)
                return np.nan_to_num(file.read(1, window=window))
    raise SystemExit(f"{data}/change: no map covers {one.key}")


# ------------------------------------------------------------------------------------------------ splits


def draw_splits() -> None:
    """Blocks of ground with their splits, places, and those that are left out for the buffer."""
    rule, buffer_km = SplitRule(block_km=20, val=0.15, test=0.25, seed=3), 3.0
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(9.0, 11.6, 260), rng.uniform(47.0, 48.3, 260)
    blocks = [rule.block(x, y) for x, y in zip(lon, lat, strict=True)]
    splits = np.array(rule.splits(blocks))
    near = np.array([rule.near_other_split(x, y, buffer_km) for x, y in zip(lon, lat, strict=True)])
    figure, axes = chart(7.2, 4.6)
    grid_lon, grid_lat = np.linspace(9.0, 11.6, 520), np.linspace(48.3, 47.0, 260)
    numbers = {"train": 0, "val": 1, "test": 2}
    cells = [[rule.block(x, y) for x in grid_lon[::4]] for y in grid_lat[::4]]
    image = np.array([[numbers[rule.split(cell)] for cell in row] for row in cells])
    colours = mpl.colors.ListedColormap([SPLITS[name] for name in numbers])
    axes.imshow(
        image, extent=(9.0, 11.6, 47.0, 48.3), cmap=colours, vmin=0, vmax=2, alpha=0.22, interpolation="nearest",
        aspect=1.5,
    )  # fmt: skip
    for name, colour in SPLITS.items():
        kept = (splits == name) & ~near
        axes.scatter(lon[kept], lat[kept], s=16, color=colour, label=f"{name}: {kept.sum()}")
    axes.scatter(lon[near], lat[near], s=16, marker="x", color=GREY, linewidths=1, label=f"left out: {near.sum()}")
    axes.set_xlabel("degrees east")
    axes.set_ylabel("degrees north")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=4, fontsize=9)
    save(figure, "splits.svg")


# ------------------------------------------------------------------------------------------------ offsets


def draw_offsets(data: Path, planet: Path) -> None:
    """Red of one place in two years: as the files have it, and as the shards have it."""
    samples = tables.read_table(data / "samples.parquet", Sample)
    one = next(own for own in samples if own.looks[0].acquired.year < 2022 <= own.looks[-1].acquired.year)
    place = gd.open_sample(data, one.key)
    figure, axes = chart(7.4, 2.7, ncols=2, sharey=True)
    edges = np.arange(0, 4001, 80)
    for look, at, colour in ((one.looks[0], 0, BLUE), (one.looks[-1], -1, RED)):
        path = planet / "sentinel-2-l2a" / look.s2_id / "B04.tif"
        with rasterio.open(path) as file:
            window = rasterio.windows.from_bounds(*_bounds(one), file.transform)
            stored = file.read(1, window=window)
        right = place.isel(time=at)["B04"].values * 10_000
        label = f"{look.acquired:%Y-%m-%d}"
        for axis, numbers in zip(axes, (stored, right), strict=True):
            axis.hist(numbers[np.isfinite(numbers)].ravel(), edges, histtype="step", color=colour, label=label)
    for axis, title in zip(axes, ("as the files have it", "offset undone"), strict=True):
        axis.set_title(title, fontsize=10)
        axis.set_xlabel("digital numbers of B04")
    axes[0].set_ylabel("pixels")
    axes[1].legend(fontsize=9)
    save(figure, "offsets.svg")


def _bounds(one: Sample) -> tuple[float, float, float, float]:
    return one.place.bounds


def main(planet: Path | None) -> None:
    """Make all of them."""
    with tempfile.TemporaryDirectory() as scratch, mpl.rc_context(STYLE):
        catalog = gd.build_sandbox(Path(scratch) / "planet") if planet is None else planet / "catalog.parquet"
        data = Path(scratch) / "data"
        gd.pipeline.fetch(data, gd.FetchOptions(catalog=str(catalog), max_cloud=60))
        gd.pipeline.sample(data, gd.SampleOptions(size=96, looks="long", block_km=3, measure="both"))
        samples = tables.read_table(data / "samples.parquet", Sample)
        draw_timeline(data)
        draw_look(data, samples)
        draw_allocation(Path(scratch) / "world")
        draw_change(data)
        draw_splits()
        draw_offsets(data, catalog.parent)
    total = sum(path.stat().st_size for path in HERE.glob("*.*") if path.suffix in (".svg", ".jpg", ".png"))
    print(f"{total / 1000:.0f} kB in all")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else None)
