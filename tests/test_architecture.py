"""The layout holds: imports point one way, and each outside world has one door."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = {"geossl_data": ROOT / "geossl_data", "geossl_cli": ROOT / "cli"}

FOUNDATION = (
    "version",
    "errors",
    "memory",
    "progress",
    "files",
    "bands",
    "grid",
    "records",
    "tables",
    "vector_files",
    "recipe",
)
LAYERS: tuple[tuple[str, ...], ...] = (
    *((name,) for name in FOUNDATION),
    ("scenes",),
    ("sampling",),
    ("tiles",),
    ("shards",),
    ("pretrain",),
    ("evaluation",),
    ("sandbox",),
    ("report",),
    ("pipeline",),
    ("sweep",),
    ("demo",),
)

# Outside package → the modules (by dotted prefix) that may import it.
DOORS = {
    "pystac": ("geossl_data.scenes",),
    "pystac_client": ("geossl_data.scenes",),
    "stac_geoparquet": ("geossl_data.scenes",),
    "requests": ("geossl_data.scenes.http",),
    "aiohttp": ("geossl_data.scenes.opening.transport",),
    "obstore": ("geossl_data.scenes.snapshots", "geossl_data.scenes.opening.stores", "geossl_data.shards.store"),
    "dask": ("geossl_data.shards.writing.cluster",),
    "distributed": ("geossl_data.shards.writing.cluster",),
    "rasterio": (
        "geossl_data.tiles.gdal",
        "geossl_data.tiles.rasters",
        "geossl_data.tiles.warping",
        "geossl_data.tiles.coarse",
        "geossl_data.tiles.own",
        "geossl_data.tiles.geotiffs",
    ),
    "isal": ("geossl_data.tiles.cogs.decode", "geossl_data.shards.codec"),
    "imagecodecs": ("geossl_data.tiles.cogs.decode", "geossl_data.shards.codec", "geossl_data.report.thumbnails"),
    "xarray": ("geossl_data.tiles.datasets",),
    "rioxarray": ("geossl_data.tiles.datasets",),
    "tarfile": ("geossl_data.shards",),
    "webdataset": ("geossl_data.shards.reading.adapter",),
    "torch": (
        "geossl_data.pretrain",
        *(
            f"geossl_data.evaluation.{name}"
            for name in ("sight", "features", "classifiers", "decoders", "learning", "bench", "probes")
        ),
    ),
    "safetensors": ("geossl_data.pretrain",),
    "geopandas": ("geossl_data.vector_files",),
    "matplotlib": ("geossl_data.evaluation.pictures",),
    "rich": ("geossl_cli.progress",),
    "typer": ("geossl_cli",),
}

MODULES = {
    ".".join((package, *path.relative_to(folder).with_suffix("").parts)).removesuffix(".__init__"): path
    for package, folder in PACKAGES.items()
    for path in sorted(folder.rglob("*.py"))
}


def imported_names(module: str, path: Path) -> set[str]:
    """Dotted names of everything a module imports, at the top or inside a function; not what only type checks need."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typing_only = {
        id(child)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        for statement in node.body
        for child in ast.walk(statement)
    }
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parent = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parent, base] if base else parent)
            names |= {f"{base}.{alias.name}" for alias in node.names} | {base}
    return names


def layer(module: str) -> int | None:
    """Position of a module in the order of the data; None for the top-level package itself."""
    if module.startswith("geossl_cli"):
        return len(LAYERS)
    parts = module.split(".")
    if len(parts) < 2:
        return None
    for position, names in enumerate(LAYERS):
        if parts[1] in names:
            return position
    return None


@pytest.mark.parametrize("module", sorted(MODULES))
def test_every_module_has_a_place_in_the_order(module: str) -> None:
    assert module in PACKAGES or layer(module) is not None


@pytest.mark.parametrize("module", sorted(set(MODULES) - set(PACKAGES)))
def test_imports_point_one_way(module: str) -> None:
    own = layer(module)
    assert own is not None
    later = [name for name in imported_names(module, MODULES[module]) if (layer(name) or 0) > own]
    assert later == []


@pytest.mark.parametrize("module", sorted(MODULES))
def test_outside_worlds_have_one_door(module: str) -> None:
    imported = imported_names(module, MODULES[module])
    used = [outside for outside in DOORS if any(f"{name}.".startswith(f"{outside}.") for name in imported)]
    assert [outside for outside in used if not module.startswith(DOORS[outside])] == []


def test_the_order_names_only_modules_that_exist() -> None:
    present = {name.split(".")[1] for name in MODULES if name.startswith("geossl_data.")}
    assert present <= {name for names in LAYERS for name in names}
