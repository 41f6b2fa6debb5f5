"""A soak: the whole chain again and again, with faults of all kinds in it, and not a byte lost.

    python benchmarks/soak.py --minutes 30 --seed 0

The tiny sandbox lies behind a STAC API, a token service and a blob host on this machine, all of which misbehave as they
are told (`tests/faults`). A first run is left alone. Then, until the time is over, rounds begin: `fetch`, `sample`,
`shard` and in some rounds `pretrain`, each in a process of its own, as a user types them. What may happen, by chance:

- the catalog says 429, 503 or 403, sends a web page, half an answer, an empty or an overlapping page, or nothing;
- the blob host says 429, 500 or 503, sends half a range, a web page, or half a range and then nothing; tokens end;
- a process is killed, gets SIGTERM or Ctrl-C, or finds that no file may grow any more, and is started again;
- between two tries finished shards and their journal are cut or get a flipped bit, caches are overwritten, and files of
  a process that did not end lie about.

After each round: the shards, the manifest and the encoders are those of the first run, byte for byte; `verify --deep`
finds nothing; nothing temporary and no secret is left in any file; whoever failed said so in one line. The process that
watches reads every dataset it checks, and must not grow. What is wrong ends the soak with what it was.
"""

import argparse
import faulthandler
import gc
import json
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from faults import blobs, catalogs  # noqa: E402 - found by the line above

import geossl_data as gd  # noqa: E402
from geossl_data import pipeline  # noqa: E402
from geossl_data.files import sha256  # noqa: E402
from geossl_data.sandbox import build_sandbox  # noqa: E402
from geossl_data.scenes import providers  # noqa: E402
from geossl_data.scenes.items import Item, read_items  # noqa: E402
from geossl_data.scenes.providers import Provider, TokenService  # noqa: E402

NAME = "soak"
"""Of the catalog."""
RADAR, OPTICAL = ("radar", "s1"), ("optical", "s2")
SECRETS = (blobs.CANARY, catalogs.CANARY)
TRIES = 6
"""A stage is disturbed so often at most; then it is left to end."""
LONGEST_S = 300.0
"""A stage that takes longer hangs."""
SILENCE_S = 3.0
"""How long a stage waits for the next byte, here; a minute in earnest."""
WARM = 2
"""Rounds before the memory of the watching process is looked at."""
MAY_GROW_MB = 64
PLACES = ("--size", "60", "--count", "12", "--looks", "seasons", "--block-km", "1", "--test", "0.3", "--val", "0.1")
TRAINING = ("--encoder", "resnet10", "--epochs", "2", "--batch-size", "8", "--crop", "36", "--device", "cpu")


# ------------------------------------------------------------------------------------------------ the world


class Sometimes:
    """Holds each number with a probability; what `Catalog.spoil` takes for the requests to be spoilt."""

    def __init__(self, chance: random.Random, probability: float) -> None:
        self._chance, self._probability = chance, probability

    def __contains__(self, number: object) -> bool:
        return self._chance.random() < self._probability


@dataclass
class Weather:
    """What the blob host and the token service do while a stage runs."""

    cloud: blobs.Cloud
    chance: random.Random
    probability: float = 0.0
    told: Counter[str] = field(default_factory=Counter)
    _spared: set[tuple[str, str]] = field(default_factory=set)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: bool = False

    def begin(self, probability: float) -> None:
        with self._lock:
            self.probability, self._ended = probability, False
            self._spared.clear()
        for seen in (self.cloud.blobs, self.cloud.tokens, self.cloud.others):
            seen.clear()

    def on_blob(self, seen: blobs.Seen, _number: int) -> blobs.Reply | None:
        """A fault, at most one for each range of a file: what passes is what is survived."""
        with self._lock:
            asked = (seen.path, seen.headers.get("range", ""))
            if asked in self._spared or self.chance.random() >= self.probability:
                return None
            self._spared.add(asked)
            how = self.chance.choice(("429", "500", "503", "cut", "page", "silence", "token"))
            if how == "token":
                # One end of all tokens in a stage: a container that refuses fresh ones again and again is given up.
                if self._ended:
                    return None
                self._ended, self.cloud.generation = True, self.cloud.generation + 1
            self.told[f"blob {how}"] += 1
        if how.isdigit():
            return blobs.Reply(int(how), {"Retry-After": "0"})
        if how == "page":
            return blobs.Reply(200, {"Content-Type": "text/html"}, b"<html>maintenance</html>")
        if how == "token":
            return None
        whole = self.cloud.file(seen)
        half = len(whole.content) // 2
        return blobs.Reply(whole.status, whole.headers, whole.content, cut=half, stall=how == "silence")

    def on_token(self, _seen: blobs.Seen, _number: int) -> blobs.Reply | None:
        with self._lock:
            if self.chance.random() >= self.probability:
                return None
            self.told["token 503"] += 1
        return blobs.Reply(503, {"Retry-After": "0"})


def hosted(item: Item, cloud: blobs.Cloud) -> Item:
    """An item whose assets lie behind tokens."""
    container = RADAR if item["collection"] == "sentinel-1-rtc" else OPTICAL
    assets = {
        name: asset | {"href": cloud.href(asset["href"].removeprefix("./"), *container)}
        for name, asset in item["assets"].items()
    }
    return item | {"assets": assets}


def spoil(catalog: catalogs.Catalog, chance: random.Random, told: Counter[str]) -> None:
    """Let the catalog misbehave in one way, now and then."""
    faults: dict[str, catalogs.Fault] = {
        "429": catalogs.status(429, Retry_After="1"),
        "503": catalogs.status(503),
        "403": catalogs.status(403),
        "page": catalogs.html(),
        "half": catalogs.truncated_body(),
        "empty page": catalogs.empty_page_before(catalog),
        "overlap": catalogs.overlap(catalog, 3),
        "silence": catalogs.stall(),
    }
    name = chance.choice(list(faults))
    told[f"catalog {name}"] += 1
    catalog.spoil(faults[name], at=Sometimes(chance, 0.3))


@dataclass(frozen=True)
class World:
    """Where everything is."""

    folder: Path
    catalog: catalogs.Catalog
    weather: Weather
    environment: dict[str, str]


@contextmanager
def world(folder: Path, chance: random.Random) -> Iterator[World]:
    """The planet, served."""
    planet = build_sandbox(folder / "planet", size="tiny", seed=0)
    with blobs.serve_cloud(planet.parent) as cloud:
        items = [hosted(item, cloud) for item in read_items(planet) if not item["collection"].endswith("labels")]
        weather = Weather(cloud, chance)
        cloud.on_blob, cloud.on_token = weather.on_blob, weather.on_token
        with catalogs.serve(items) as catalog:
            service = cloud.service(RADAR, OPTICAL)
            told = {"url": catalog.url, "tokens": service.url, "containers": {**service.containers}}
            environment = {**os.environ, "GEOSSL_SOAK": json.dumps(told), "OMP_NUM_THREADS": "1"}
            yield World(folder, catalog, weather, environment)


def enter_catalog(told: dict[str, Any]) -> None:
    """Give the served catalog an entry among the known ones."""
    containers = {prefix: (account, container) for prefix, (account, container) in told["containers"].items()}
    providers.PROVIDERS[NAME] = Provider(
        name=NAME,
        url=told["url"],
        collections={"sentinel-2-l2a": "L2A", "sentinel-1-rtc": "RTC"},
        tokens=TokenService(url=told["tokens"], containers=containers),
        page_size=20,
        per_second=1000.0,
    )


# ------------------------------------------------------------------------------------------------ a stage


def quicken() -> None:
    """Waits a tenth of what they are in earnest, and before this process is taken for hanging it says where it is."""
    from geossl_data.scenes import http
    from geossl_data.scenes.opening import access, tokens, transport

    faulthandler.dump_traceback_later(LONGEST_S - 20)
    http.READ_S = transport.READ_S = SILENCE_S
    access.TRY_S, access.LONGEST_PAUSE_S, tokens.PAUSE_S = 2 * SILENCE_S, 0.2, 1.0
    wait = http.Http.pause
    http.Http.pause = lambda self, seconds: wait(self, min(seconds, 0.05))  # type: ignore[method-assign]


def stage(arguments: Sequence[str]) -> int:
    """What runs in the process of a stage: the command line."""
    from geossl_cli.app import app
    from geossl_cli.console import guard_output, run_app

    quicken()
    enter_catalog(json.loads(os.environ["GEOSSL_SOAK"]))
    guard_output()
    try:
        print("ready", flush=True)
        return run_app(app, arguments)
    except KeyboardInterrupt:  # between the two lines above
        return 1


@dataclass(frozen=True)
class End:
    """How a stage ended."""

    code: int
    said: str


def run_stage(world: World, words: Sequence[object], *, strike: Callable[[subprocess.Popen[str]], None] | None,
              most_nbytes: int | None = None) -> End:  # fmt: skip
    """Run a command in a process of its own, and strike it when it has begun."""

    def begin() -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        if most_nbytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_nbytes, most_nbytes))

    command = [sys.executable, __file__, "--stage", *map(str, words)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=world.environment,
        preexec_fn=begin,
    ) as process:
        assert process.stdout is not None
        try:
            process.stdout.readline()
            if strike is not None:
                threading.Thread(target=strike, args=(process,), daemon=True).start()
            out, err = process.communicate(timeout=LONGEST_S)
        except subprocess.TimeoutExpired as error:
            state = "ended, but not all that it started" if process.poll() is not None else "runs"
            said = (error.stderr or b"").decode(errors="replace")
            raise AssertionError(f"{' '.join(map(str, words))}: hangs ({state}): {said}") from None
        finally:
            process.kill()
    return End(process.returncode, out + err)


def check_end(end: End, words: Sequence[object]) -> None:
    """AssertionError unless a stage that did not end well said so in one line, without a secret."""
    where = " ".join(map(str, words[:1]))
    assert not any(secret in end.said for secret in SECRETS), f"{where}: shows a secret: {end.said[-800:]}"
    # By a signal: before the command line listens to it, or when it has said its last word.
    if end.code in (0, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT):
        return
    assert "Traceback" not in end.said, f"{where}: {end.said[-3000:]}"
    last = end.said.strip().splitlines()[-1] if end.said.strip() else ""
    assert end.code in (1, 143), f"{where}: ended with {end.code}: {last}"
    assert last.startswith("geossl: "), f"{where}: ended with {end.code} and no line of its own: {last}"


def spoil_files(folder: Path, chance: random.Random, told: Counter[str]) -> None:
    """What befalls a dataset between two tries of `shard`: it has no manifest yet."""
    tars = sorted((folder / "shards").glob("*.tar"))
    entries = sorted((folder / "shards" / ".journal").glob("*.json"))
    how = chance.choice(("cut tar", "flipped tar", "cut journal", "cache", "left over", "nothing"))
    if how == "left over":
        (folder / "shards").mkdir(exist_ok=True)
        (folder / "shards" / ".train-000000.tar.99-dead.tmp").write_bytes(b"half a shard")
    elif how == "cache" and (folder / "headers.sqlite").is_file():
        (folder / "headers.sqlite").write_bytes(bytes(chance.randrange(256) for _ in range(5000)))
    elif how.endswith("tar") and tars:
        path = chance.choice(tars)
        data = bytearray(path.read_bytes())
        at = chance.randrange(len(data))
        if how == "cut tar":
            del data[at:]
        else:
            data[at] ^= 1 << chance.randrange(8)
        path.write_bytes(data)
    elif how == "cut journal" and entries:
        path = chance.choice(entries)
        path.write_bytes(path.read_bytes()[: chance.randrange(200)])
    else:
        return
    told[f"file: {how}"] += 1


SIGNALS = {"kill": signal.SIGKILL, "term": signal.SIGTERM, "interrupt": signal.SIGINT}


def strike(how: str, delay_s: float, told: Counter[str], process: subprocess.Popen[str]) -> None:
    """Send a signal to a process after a while, if it is still there."""
    time.sleep(delay_s)
    if process.poll() is None:
        told[how] += 1
        process.send_signal(SIGNALS[how])


def disturbed(world: World, words: Sequence[object], typical_s: float, chance: random.Random) -> tuple[int, float]:
    """Run a stage to its end, whatever befalls it on the way; how often it was begun, and seconds."""
    start, told = time.monotonic(), world.weather.told
    for number in range(1, TRIES + 1):
        world.catalog.forget_faults()
        world.catalog.requests.clear()
        is_last = number == TRIES
        how = "nothing" if is_last else chance.choice(("kill", "kill", "term", "interrupt", "disk", "nothing"))
        if words[0] == "fetch" and not is_last:
            spoil(world.catalog, chance, told)
        world.weather.begin(0.0 if is_last else chance.choice((0.0, 0.05, 0.15)))
        delay = chance.uniform(0.0, 1.2 * typical_s)
        end = run_stage(
            world,
            words,
            strike=partial(strike, how, delay, told) if how in SIGNALS else None,
            most_nbytes=chance.choice((2_000, 50_000, 400_000)) if how == "disk" else None,
        )
        if how == "disk" and end.code:
            told["no room on the disk"] += 1
        check_end(end, words)
        if end.code == 0:
            return number, time.monotonic() - start
        if words[0] == "shard" and not (Path(str(words[1])) / "manifest.parquet").exists():
            spoil_files(Path(str(words[1])), chance, told)
    raise AssertionError(f"{words[0]}: does not end although nothing is wrong any more: {end.said[-1500:]}")


# ------------------------------------------------------------------------------------------------ a round


def stages(folder: Path, *, trained: bool, workers: int = 1) -> list[tuple[object, ...]]:
    """The commands of a round."""
    area = ("--bbox", 8.9, 47.6, 9.1, 47.8, "--from", "2021-01-01", "--to", "2023-12-31")
    commands: list[tuple[object, ...]] = [
        ("fetch", folder, "--catalog", NAME, "--max-cloud", 60, *area),
        ("sample", folder, *PLACES),
        ("shard", folder, "--shard-mb", 1, "--workers", workers),
    ]
    return [*commands, ("pretrain", folder, *TRAINING)] if trained else commands


def content_of(folder: Path) -> dict[str, str]:
    """Hashes of what may not depend on what happened on the way."""
    encoders = sorted((folder / "runs").glob("*/exported/*.safetensors")) if (folder / "runs").is_dir() else []
    return {"dataset": pipeline.digest(folder)} | {path.name: sha256(path) for path in encoders}


def check_folder(folder: Path, expected: dict[str, str]) -> None:
    """AssertionError unless a folder holds what it should and nothing else; every pixel is read on the way."""
    found = content_of(folder)
    assert found == {name: expected[name] for name in found}, f"{folder}: other bytes than undisturbed: {found}"
    findings = pipeline.verify(folder, deep=True, threads=1)
    assert findings == [], f"{folder}: {findings[:3]}"
    left = [path for path in folder.rglob("*") if path.name.endswith(".tmp") or path.name == ".search"]
    assert left == [], f"{folder}: left over: {left}"
    for path in folder.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(secret.encode() in content for secret in SECRETS), f"{path}: holds a secret"
    with gd.open_shards(folder) as shards:
        for _ in shards.batches(4, seed=0, drop_last=False, threads=1):
            pass


def resident_mb() -> float:
    """What this process takes."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def check_memory(resident: Sequence[float]) -> None:
    """AssertionError where the process that watches grows from round to round."""
    if len(resident) > 2 * WARM:
        rest = resident[WARM:]
        third = max(1, len(rest) // 3)
        grown = statistics.median(rest[-third:]) - statistics.median(rest[:third])
        assert grown < MAY_GROW_MB, f"{grown:.0f} MB more after {len(resident)} rounds: {resident}"


def soak(folder: Path, minutes: float, seed: int, train_every: int) -> None:
    """Rounds until the time is over; AssertionError for the first thing that is wrong."""
    chance = random.Random(seed)
    with world(folder, chance) as here:
        enter_catalog(json.loads(here.environment["GEOSSL_SOAK"]))
        typical: dict[str, float] = {}
        for words in stages(folder / "first", trained=train_every > 0):
            start = time.monotonic()
            end = run_stage(here, words, strike=None)
            assert end.code == 0, end.said[-3000:]
            typical[str(words[0])] = time.monotonic() - start
        expected = content_of(folder / "first")
        check_folder(folder / "first", expected)
        print("undisturbed: " + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in typical.items()), flush=True)
        print(f"\n{'round':>5}  {'begun (times a stage was started)':<44}  {'seconds':>7}  {'resident MB':>11}")
        until, resident, number = time.monotonic() + 60 * minutes, [], 0
        while time.monotonic() < until:
            number += 1
            trained = train_every > 0 and number % train_every == 0
            place = folder / f"round-{number}"
            begun, seconds = [], 0.0
            for words in stages(place, trained=trained, workers=2 if chance.random() < 0.15 else 1):
                name = str(words[0])
                # A process begins with its imports, in which nothing of interest can befall it.
                count, took = disturbed(here, words, max(0.5, typical[name] - 1.0), chance)
                begun.append(f"{name} {count}")
                seconds += took
            check_folder(place, expected)
            shutil.rmtree(place)
            resident.append(resident_mb())
            print(f"{number:>5}  {', '.join(begun):<44}  {seconds:>7.0f}  {resident[-1]:>11.0f}", flush=True)
        check_memory(resident)
        print("\nwhat happened")
        for what, count in sorted(here.weather.told.items()):
            print(f"  {what:<24} {count:>6}")
        print(
            f"\n{number} rounds, nothing lost; the process that watched took {max(resident, default=0):.0f} MB at most"
        )


def main() -> None:
    """The command line."""
    if sys.argv[1:2] == ["--stage"]:
        sys.exit(stage(sys.argv[2:]))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="where datasets are made; a temporary folder when left out")
    parser.add_argument(
        "--train-every", type=int, default=4, help="rounds from one with a training to the next; 0: none"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="geossl-soak-", dir=options.folder) as folder:
        soak(Path(folder), options.minutes, options.seed, options.train_every)


if __name__ == "__main__":
    main()
elif __name__ == "__mp_main__":  # a worker of a stage
    quicken()
