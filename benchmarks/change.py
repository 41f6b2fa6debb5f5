"""The change score on planted changes: how well it tells changed places from others, and what it costs to read.

    python benchmarks/change.py                        seeds 0 and 1, places of 96 and of 60 px
    python benchmarks/change.py --keep /tmp/planets    planets are built there once, and found there the next time

Each planet is a `small` sandbox, fetched with the default options (scenes up to 30 % cloud). Every candidate place is
measured, and its score compared with the `change` rasters of the labels, 2023 against 2021. Changed is a place of which
at least so many percent of the pixels changed, unchanged one of which none did; those between count as neither. ROC-AUC
is the chance that a changed place scores higher than an unchanged one, ties counted half.

The bytes are those that a server on loopback sends, for the places of one tile: all that measuring reads, and all that
reading the full windows of the same looks reads, in the bands that a shard holds. The sandbox's tiles are 7.8 km wide,
so that windows of neighbours share their storage blocks, and their overviews end at 40 m; a whole tile of the archive
has some 1700 places of 264 px and overviews to 160 m.
"""

import argparse
import re
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import rasterio
from numpy.typing import NDArray

from geossl_data import pipeline, tables
from geossl_data.bands import BANDS, S1_BANDS, S2_BANDS
from geossl_data.pipeline._measure import measure
from geossl_data.recipe import FetchOptions
from geossl_data.records import Pair, Scene
from geossl_data.sampling.candidates import Candidate, find_candidates
from geossl_data.sampling.looks import choose_all
from geossl_data.sampling.measures import Measures
from geossl_data.sandbox import build_sandbox
from geossl_data.scenes.store import read_scenes
from geossl_data.tiles.coarse import coarse_resolution
from geossl_data.tiles.rasters import Rasters, SkipError, place_grid

SHARES = (0.10, 0.05, 0.02)


def auc(changed: NDArray[np.float64], others: NDArray[np.float64]) -> float:
    """ROC-AUC by the rank sum; NaN where there is nothing to compare."""
    if not len(changed) or not len(others):
        return float("nan")
    _, inverse, counts = np.unique(np.concatenate([changed, others]), return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[inverse]
    n = len(changed)
    return float((ranks[:n].sum() - n * (n + 1) / 2) / (n * len(others)))


def changed_share(candidates: Sequence[Candidate], scenes: Sequence[Scene]) -> NDArray[np.float64]:
    """Share of each candidate's 10 m pixels that changed from 2021 to 2023, by the label rasters."""
    by_id = {scene.id: scene for scene in scenes}
    maps = {}
    for scene in scenes:
        if scene.sensor == "label" and scene.acquired.year == 2023:
            with rasterio.open(scene.hrefs["class"].replace("class.tif", "change.tif")) as dataset:
                maps[scene.grids["class"]] = dataset.read(1)
    shares = []
    for candidate in candidates:
        tile, place = by_id[candidate.pairs[0].s2_id].grids["B02"], candidate.place
        row, column = round((tile.y - place.y) / 10), round((place.x - tile.x) / 10)
        window = maps[tile][row : row + place.size_px, column : column + place.size_px]
        shares.append(float(np.isin(window, (0, 255), invert=True).mean()))
    return np.array(shares)


def report(measures: Measures, shares: NDArray[np.float64]) -> None:
    print(f"  {'':6}{'ROC-AUC, changed =':>40}{'unchanged':>24}{'changed, 5 % up':>24}")
    heads = "".join(f"{share:>12.0%} up" for share in SHARES)
    print(f"  {'':6}{heads[-45:]}{'median    95 %':>20}{'median     5 %':>22}{'unknown':>10}")
    for name, scores in (("S2", measures.change_s2), ("S1", measures.change_s1), ("both", measures.change)):
        known = np.isfinite(scores)
        others, changed = scores[known & (shares == 0)], scores[known & (shares >= 0.05)]
        areas = "".join(f"{auc(scores[known & (shares >= share)], others):>15.4f}" for share in SHARES)
        unchanged = "{:>12.2f}{:>8.2f}".format(*np.quantile(others, [0.5, 0.95]))
        planted = "{:>14.2f}{:>8.2f}".format(*np.quantile(changed, [0.5, 0.05]))
        print(f"  {name:6}{areas}{unchanged}{planted}{np.count_nonzero(~known):>10}")


@contextmanager
def counting_server(folder: Path) -> Iterator[tuple[str, list[int]]]:
    """The address at which a folder is served in ranges, and the bytes of each answer so far."""
    sent: list[int] = []

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self.send_response(404)
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            size = path.stat().st_size
            wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            first, last = (int(wanted[1]), min(int(wanted[2]), size - 1)) if wanted else (0, size - 1)
            with path.open("rb") as file:
                file.seek(first)
                content = file.read(last - first + 1)
            self.send_response(206 if wanted else 200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            if wanted:
                self.send_header("Content-Range", f"bytes {first}-{last}/{size}")
            self.end_headers()
            if self.command == "GET":
                sent.append(len(content))
                self.wfile.write(content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            return None

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}", sent
        finally:
            server.shutdown()


def cost(folder: Path, planet: Path, candidates: Sequence[Candidate], scenes: Sequence[Scene], size: int) -> None:
    """Print the bytes read per place of the tile with most candidates that have looks."""
    cloud = {scene.id: scene.cloud_percent for scene in scenes if scene.sensor == "s2"}
    chosen = choose_all("long", [candidate.pairs for candidate in candidates], cloud, same_orbit=False)
    tiles: dict[int, list[int]] = defaultdict(list)
    for row, candidate in enumerate(candidates):
        if chosen[row]:
            tiles[candidate.place.epsg].append(row)
    rows = max(tiles.values(), key=len)
    with counting_server(planet) as (url, sent), tempfile.TemporaryDirectory() as scratch:
        root = str(planet.resolve())
        served = [
            replace(scene, hrefs={band: href.replace(root, url) for band, href in scene.hrefs.items()})
            for scene in scenes
        ]
        data = Path(scratch) / "data"
        data.mkdir()
        for name in ("scenes.parquet", "pairs.parquet"):
            (data / name).write_bytes((folder / name).read_bytes())
        measured, skipped = measure(data, [candidates[row] for row in rows], served, sensors="both", size=size)
        assert not skipped
        coarse, n_coarse = sum(sent), len(sent)
        sent.clear()
        by_id = {scene.id: scene for scene in served}
        with Rasters() as rasters:
            for row in rows:
                place = candidates[row].place
                for look in chosen[row]:
                    for band in S2_BANDS:
                        grid = place_grid(place, BANDS[band].resolution_m)
                        rasters.read_exact(by_id[look.s2_id].hrefs[band], grid, "uint16")
                    for band in S1_BANDS:
                        try:
                            rasters.read_power(by_id[look.s1_id].hrefs[band], place_grid(place, 10))
                        except SkipError as error:
                            print(f"  {error}")
        full, n_full = sum(sent), len(sent)
    n, scored = len(rows), int(np.isfinite(measured.change).sum())
    looks = sum(len(chosen[row]) for row in rows) / n
    pixels = sum(size * size * 2 * 10 / BANDS[band].resolution_m * 10 / BANDS[band].resolution_m for band in S2_BANDS)
    pixels += size * size * 4 * len(S1_BANDS)
    print(f"  read for {n} places of one tile ({scored} scored, {looks:.1f} looks each), kB per place")
    print(f"    overviews at {coarse_resolution(size)} m  {coarse / n / 1e3:10.1f}   {n_coarse / n:8.1f} requests")
    print(f"    full windows         {full / n / 1e3:10.1f}   {n_full / n:8.1f} requests   {full / coarse:6.1f} ×")
    print(f"    their pixels, uncompressed {pixels * looks / 1e3:4.1f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="The change score on planted changes.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--sizes", type=int, nargs="+", default=[96, 60])
    parser.add_argument("--keep", type=Path, help="folder of planets; a temporary one otherwise")
    parser.add_argument("--cloud", type=float, default=30.0, help="largest cloud cover of a scene, percent")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        for seed in options.seeds:
            home = (options.keep or Path(scratch)) / f"small-{seed}"
            catalog = build_sandbox(home / "planet", size="small", seed=seed)
            folder = home / f"data-{options.cloud:g}"
            pipeline.fetch(folder, FetchOptions(catalog=str(catalog.resolve()), max_cloud=options.cloud))
            scenes = read_scenes(folder / "scenes.parquet")
            pairs = tables.read_table(folder / "pairs.parquet", Pair)
            for size in options.sizes:
                candidates, _, _ = find_candidates(scenes, pairs, size)
                started = time.perf_counter()
                measures, skipped = measure(folder, candidates, scenes, sensors="both", size=size, fresh=True)
                seconds = time.perf_counter() - started
                shares = changed_share(candidates, scenes)
                print(
                    f"seed {seed}, {len(candidates)} places of {size} px, {np.count_nonzero(shares >= 0.05)} changed, "
                    f"{np.count_nonzero(shares == 0)} unchanged; {len(skipped)} scenes skipped; {seconds:.1f} s"
                )
                report(measures, shares)
                cost(folder, home / "planet", candidates, scenes, size)


if __name__ == "__main__":
    main()
