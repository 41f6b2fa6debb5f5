"""Training: images a second and share of the GPU's arithmetic, from the device and from shards, beside a plain loop.

    python benchmarks/pretrain.py            # on a machine with a GPU
    python benchmarks/pretrain.py --small    # anywhere: whether it runs; its numbers say nothing about a GPU

SimCLR with ResNet-50 and ViT-S at 224 px, of twelve Sentinel-2 and two Sentinel-1 bands, in bfloat16. "geossl" is
`pretrain.loop.train` itself, metrics and all: (a) its loader gives the same batches again and again, which stay on the
device, views made of them in each step; (b) it reads shards, written beforehand by geossl's own writer, out of the page
cache, and standardises them on the device. "plain" is the same encoder in the loop that a person would write with torch
alone: (a) two views made on the device of one batch that stays there, (b) a Dataset of .npy files with views made in
the workers of a DataLoader, one for each core. "lightly" is the plain loop with lightly's loss, where lightly is
installed (`pip install lightly 'torch>=2.11,<2.14'`); elsewhere the output says so.

A window is an epoch; the first one of each run warms up and is left out. Rounds take turns between the cases; numbers
are medians over windows. An image is a look, of which two views go through the encoder. Arithmetic is counted by
`pretrain.cost`, forwards and backwards, for all cases alike. "wait" is the share of the time spent waiting for the next
batch. The profile is of (a) and of (b), its kernels told apart by their names; lines at which the program waits for the
GPU are those of which torch warns.

Runs from a bare checkout. Beside torch, numpy and pyarrow it needs pydantic, pyyaml, requests, safetensors, imagecodecs
and isal, and shapely to write the shards' manifest; no rasterio, geopandas, pyproj, pystac, dask or obstore.
"""

import argparse
import copy
import json
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT)]

import torch  # noqa: E402
from pretrain import ours, plain  # noqa: E402
from pretrain.places import Pixels, write_files, write_shards  # noqa: E402
from pretrain.profile import host_waits, profiled, show  # noqa: E402

from geossl_data.pretrain.build import Built, build  # noqa: E402
from geossl_data.pretrain.cost import peak_flops, work_of  # noqa: E402
from geossl_data.pretrain.encoders import Encoder  # noqa: E402
from geossl_data.pretrain.options import TrainingOptions  # noqa: E402
from geossl_data.shards.manifest import MANIFEST_NAME  # noqa: E402
from geossl_data.shards.reading.shards import Shards, open_shards  # noqa: E402

DATA = ROOT / "build" / "benchmarks" / "pretrain"
BEGAN = time.monotonic()
Window = tuple[int, float, float]
"""Images, seconds, seconds of waiting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is measured, and how long."""

    device: torch.device
    encoders: tuple[str, ...]
    sensors: tuple[str, ...]
    size_px: int
    crop: int
    batch: int
    samples: int
    files: int
    """Of the plain Dataset, which reads them again and again."""
    windows: int
    rounds: int
    workers: int

    @property
    def steps(self) -> int:
        """Of a window."""
        return self.samples // self.batch


@dataclass(slots=True)
class Case:
    """One way of training, and what was measured of it."""

    name: str
    run: Callable[[], list[Window]]
    windows: list[Window] = field(default_factory=list)
    memory_nbytes: int = 0

    @property
    def rate(self) -> float:
        """Images a second."""
        return statistics.median(images / seconds for images, seconds, _ in self.windows)

    @property
    def wait(self) -> float:
        """Share of the time."""
        return statistics.median(waited / seconds for _, seconds, waited in self.windows)


def main() -> None:
    """Make the data that is not there, run, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the data; build/benchmarks/pretrain")
    parser.add_argument("--small", action="store_true", help="tiny encoders and images, on the CPU too")
    parser.add_argument("--encoders", nargs="+", default=["resnet50", "vit-small"])
    parser.add_argument("--sensors", nargs="+", default=["s2", "s1"], help="twelve and two bands")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--samples", type=int, default=6144)
    parser.add_argument("--windows", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="geossl with --compile as well")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    options = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if device.type == "cpu" and not options.small:
        parser.error("no GPU here; --small runs anywhere and shows that the script works")
    setting = Setting(
        device=device,
        encoders=tuple(options.encoders),
        sensors=tuple(options.sensors),
        size_px=264,
        crop=224,
        batch=options.batch,
        samples=options.samples // options.batch * options.batch,
        files=1024,
        windows=options.windows,
        rounds=options.rounds,
        workers=os.cpu_count() or 1,
    )
    if options.small:
        setting = replace(
            setting,
            encoders=("resnet10", "vit-tiny"),
            size_px=48,
            crop=32,
            batch=8,
            samples=32,
            files=16,
            windows=1,
            rounds=1,
            workers=1,
        )
    folder = options.data.resolve() / f"{setting.samples}-of-{setting.size_px}"
    make(folder, setting)
    about(setting)
    results = []
    with open_shards(folder) as shards:
        for encoder in setting.encoders:
            for sensor in setting.sensors:
                results.append(measured(shards, folder, setting, encoder, sensor, compiled=options.compile))
    if options.json:
        options.json.write_text(json.dumps(results, indent=1))


def make(folder: Path, setting: Setting) -> None:
    """The shards and the files, where they are not whole there."""
    pixels = Pixels(setting.size_px)
    threads = os.cpu_count() or 1
    if not (folder / MANIFEST_NAME).is_file():
        say(f"writing {setting.samples} places of {setting.size_px} px to {folder}")
        shutil.rmtree(folder, ignore_errors=True)
        write_shards(folder, setting.samples, pixels, threads)
    for sensor in setting.sensors:
        if len(list((folder / "files" / sensor).glob("*.npy"))) < setting.files:
            say(f"writing {setting.files} files of {sensor}")
            write_files(folder / "files" / sensor, sensor, setting.files, pixels, threads)


def about(setting: Setting) -> None:
    """What it runs on, and what that can do at most."""
    print(f"torch {torch.__version__}, {os.cpu_count()} cores")
    if setting.device.type != "cuda":
        print("no GPU: this shows that the script runs. NOTHING BELOW IS A FIGURE OF A GPU.")
        return
    name = torch.cuda.get_device_name()
    peak = peak_flops(name)
    print(f"{name}, peak {'not known' if peak is None else f'{peak / 1e12:.0f} TFLOP/s'} (bfloat16, dense)")
    product, copied = ceilings()
    print(f"a product of 8192 × 8192 runs at {product / 1e12:.0f} TFLOP/s, a copy moves {copied / 1e12:.2f} TB/s")


def ceilings() -> tuple[float, float]:
    """What the GPU does at best: operations a second of a matrix product, bytes a second of a copy, both ways."""
    left, right = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    source = torch.randn(2**30, device="cuda")
    target = torch.empty_like(source)
    product_s, copy_s = median_seconds(lambda: left @ right), median_seconds(lambda: target.copy_(source))
    return 2 * 8192**3 / product_s, 2 * source.nbytes / copy_s


def median_seconds(work: Callable[[], Any], n: int = 20) -> float:
    """Of a kernel on the GPU, after a few that warm it up."""
    times = []
    for repetition in range(n + 3):
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        begin.record()
        work()
        end.record()
        end.synchronize()
        if repetition >= 3:
            times.append(begin.elapsed_time(end) / 1e3)
    return statistics.median(times)


def measured(
    shards: Shards, folder: Path, setting: Setting, encoder: str, sensor: str, *, compiled: bool
) -> dict[str, Any]:
    """Measure and print all cases of an encoder and a sensor."""
    options = TrainingOptions(
        objective="simclr",
        encoder=encoder,
        sensors=sensor,
        views="augment",
        epochs=1 + setting.windows,
        batch_size=setting.batch,
        crop=setting.crop,
        optimizer="adamw",
        learning_rate=1e-3,
        checkpoint_every=1_000_000,
        device=setting.device.type,
    )
    built = build(shards, options)
    bands = len(built.setup.bands[sensor])
    shapes = {sensor: (bands, setting.size_px, setting.size_px)}
    bf16 = setting.device.type == "cuda"
    flops = work_of(built.module, shapes, looks=1, batch_size=setting.batch, bf16=bf16).flops
    peak = peak_flops(torch.cuda.get_device_name()) if setting.device.type == "cuda" else None

    def plainly(loss: plain.Loss, *, held: bool) -> list[Window]:
        return plain_windows(folder, setting, sensor, built, loss, held=held)

    cases = [
        Case("geossl (a) device", lambda: ours.windows(shards, options, held=True)),
        Case("plain (a) device", lambda: plainly(plain.nt_xent, held=True)),
        Case("geossl (b) shards", lambda: ours.windows(shards, options, held=False)),
        Case("plain (b) files", lambda: plainly(plain.nt_xent, held=False)),
    ]
    lightly = plain.lightly_loss()
    if lightly is not None:
        cases.append(Case("lightly (a) device", lambda: plainly(lightly, held=True)))
    if compiled:
        faster = replace(options, compile=True)
        cases.append(Case("geossl (a) --compile", lambda: ours.windows(shards, faster, held=True)))
        cases.append(Case("geossl (b) --compile", lambda: ours.windows(shards, faster, held=False)))

    for turn in range(setting.rounds):
        for case in cases:
            say(f"{encoder}, {bands} bands, round {turn + 1}: {case.name}")
            if setting.device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            case.windows += case.run()
            if setting.device.type == "cuda":
                case.memory_nbytes = max(case.memory_nbytes, torch.cuda.max_memory_allocated())

    item_flops = flops / setting.batch
    print(f"\n{encoder}, {bands} bands, {setting.crop} px, batch {setting.batch}, ", end="")
    print(f"{item_flops / 1e9:.1f} GFLOP an image (two views, forwards and backwards)")
    print(f"{'':24}{'images/s':>10}{'views/s':>10}{'TFLOP/s':>10}{'of peak':>10}{'wait':>8}{'GB':>8}")
    for case in cases:
        reached = case.rate * item_flops
        share = f"{reached / peak:10.1%}" if peak else f"{'–':>10}"
        memory = f"{case.memory_nbytes / 1e9:8.1f}" if case.memory_nbytes else f"{'–':>8}"
        print(
            f"{case.name:24}{case.rate:10.1f}{2 * case.rate:10.1f}{reached / 1e12:10.2f}{share}{case.wait:8.1%}{memory}"
        )
    if lightly is None:
        print("lightly does not import here, or the torchvision that it needs: pip install lightly 'torch>=2.11,<2.14'")
    verdicts({case.name: case for case in cases}, on_gpu=setting.device.type == "cuda")
    short = replace(options, epochs=3)
    for name, held in (("(a)", True), ("(b)", False)):
        run, warm, steps = partial(ours.stepped, shards, short, held=held), setting.steps + 1, min(8, setting.steps - 1)
        found = profiled(run, setting.device, warm=warm, steps=steps)
        print(f"\n  where the time of {name} goes")
        show(found, flops, peak)
        if setting.device.type == "cuda":
            waits = host_waits(run, warm=warm, steps=steps)
            told = ", ".join(f"{line} {number:g} times" for line, number in waits.items())
            print(f"    in a step the program waits for the GPU at: {told or 'no line'}")
    return {
        "encoder": encoder,
        "bands": bands,
        "flop_per_image": item_flops,
        "peak": peak,
        "cases": {case.name: {"windows": case.windows, "memory_nbytes": case.memory_nbytes} for case in cases},
    }


def plain_windows(
    folder: Path, setting: Setting, sensor: str, built: Built, loss: plain.Loss, *, held: bool
) -> list[Window]:
    """Windows of the plain loop, without the first."""
    encoder = copy.deepcopy(cast(Encoder, built.objective.encoders[sensor]))
    width = encoder.embedding_dim
    widths = width, built.method.hidden_dim or width, built.method.projection_dim
    training = plain.Training(encoder, widths, setting.device, loss)
    if held:
        shape = (setting.batch, len(built.setup.bands[sensor]), setting.size_px, setting.size_px)
        images = torch.randn(shape, device=setting.device)
        found = [training.run(plain.held(images, setting.steps, setting.crop)) for _ in range(1 + setting.windows)]
    else:
        # Workers make views slowly: fewer steps tell as much.
        length = setting.batch * max(2, setting.steps // 3)
        batches = plain.loader(folder / "files" / sensor, length, setting.batch, setting.crop, setting.workers)
        found = [training.run(iter(batches)) for _ in range(1 + setting.windows)]
    return found[1:]


def verdicts(cases: dict[str, Case], *, on_gpu: bool) -> None:
    """What was reached beside what was wanted."""
    a, b = cases["geossl (a) device"], cases["geossl (b) shards"]
    for what, found, wanted, least in (
        ("(b) from shards over (a) from the device", b.rate / a.rate, 0.9, True),
        ("loader wait of (b)", b.wait, 0.05, False),
        ("(a) over the plain loop's", a.rate / cases["plain (a) device"].rate, 1.0, True),
        ("(b) over the plain loop's", b.rate / cases["plain (b) files"].rate, 1.0, True),
    ):
        reached = found >= wanted if least else found < wanted
        missed = "" if reached or not on_gpu else "  NOT REACHED"
        print(f"  {what:44}{found:8.3f}   wanted {'≥' if least else '<'} {wanted:<5g}{missed}")


def say(text: str) -> None:
    """Progress, beside the tables."""
    print(f"… {time.monotonic() - BEGAN:4.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
