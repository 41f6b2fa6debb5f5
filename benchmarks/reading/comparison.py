"""All methods on the same windows, side by side; and geossl alone over many windows."""

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from geossl_data.bands import BANDS, S2_BANDS
from reading import tables
from reading.runs import LIMITS, METHODS, OURS, Cost, Method, Run, RunError, cost, run_once
from reading.scenes import Item
from reading.server import Server
from reading.windows import Touched, Windows, agreeing, furthest_move_km, oracle, random_windows, snapped, touched
from reading.workers.work import Job

SIZE_PX = 264
IN_FLIGHT = 64
"""Requests under way when transfer alone is measured."""
TRIES = 2
"""Runs of a method before it is given up; compiled peers crash now and then."""
CHECKED = 200
"""Windows of the memory run whose pixels are compared."""

Key = tuple[str, str]
"""Where from (network or disk) and which windows (random or snapped)."""
RANDOM: Key = ("network", "random")
SNAPPED: Key = ("network", "snapped")
KEYS: tuple[Key, ...] = (RANDOM, SNAPPED, ("disk", "random"))


def job_of(items: Sequence[Item], windows: Windows, root: str) -> Job:
    """Windows of scenes below an address or a folder."""
    bands = [(band, BANDS[band].resolution_m) for band in S2_BANDS]
    placed = []
    for item in items:
        assets = {name: item["assets"][name] for name, _ in bands}
        rooted = {
            name: {**asset, "href": f"{root}/{asset['href'].removeprefix('./')}"} for name, asset in assets.items()
        }
        placed.append({**item, "assets": rooted})
    return Job(items=placed, bands=bands, windows=windows, size_px=SIZE_PX, root=root, result="", extra={})


def others_cpu_s(server: Server) -> float:
    """Processor time of the machine so far that was neither ours, nor our ended children's, nor the server's."""
    fields = Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:]
    user, nice, system, _, _, interrupts, soft, steal = map(int, fields[:8])
    machine = (user + nice + system + interrupts + soft + steal) / os.sysconf("SC_CLK_TCK")
    own = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return machine - sum(usage.ru_utime + usage.ru_stime for usage in own) - server.cpu_s()


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is compared."""

    items: Sequence[Item]
    folder: Path
    """In which the items' files lie."""
    server: Server
    """Which serves that folder."""
    delay_s: float
    peers: Path | None
    """Virtual environment of the peers."""
    seed: int
    say: Callable[[str], None]

    def python(self, method: Method) -> str | None:
        """The interpreter of a method; None where it is the peers' and there is none."""
        if method.python == "own":
            return sys.executable
        return None if self.peers is None else str(self.peers / "bin" / "python")

    def job(self, windows: Windows, place: str) -> Job:
        """Windows to be read from the network or from disk."""
        return job_of(self.items, windows, self.server.url if place == "network" else str(self.folder.resolve()))

    def draw(self, count: int) -> Windows:
        """Random windows, the same for the same count and seed."""
        return random_windows(count, len(self.items), size_px=SIZE_PX, seed=self.seed)


@dataclass(slots=True, kw_only=True)
class Comparison:
    """The runs of every method over the same windows, and the methods that failed."""

    setting: Setting
    windows: dict[str, Windows]
    """random and snapped."""
    keys: Sequence[Key]
    methods: Sequence[Method]
    runs: dict[Key, dict[Method, list[Run]]] = field(default_factory=dict)
    limits: dict[str, list[Run]] = field(default_factory=dict)
    sampled: Run | None = None
    failed: dict[str, str] = field(default_factory=dict)
    crashes: list[str] = field(default_factory=list)
    others: list[float] = field(default_factory=list)
    """Cores that other programs kept busy, by repetition."""

    def repeat(self) -> None:
        """Every method once over all windows, then the limits of what geossl has just asked for."""
        began, before = time.monotonic(), others_cpu_s(self.setting.server)
        for key in self.keys:
            whole = self.setting.job(self.windows[key[1]], key[0])
            for method in self.methods:
                part = replace(whole, windows=whole.windows[: max(1, len(whole.windows) // method.one_in)])
                run = self._run(method, part, counting=key[0] == "network")
                if run:
                    self.runs.setdefault(key, {}).setdefault(method, []).append(run)
        if RANDOM in self.keys and OURS in self.runs.get(RANDOM, {}):
            self._find_limits(self.runs[RANDOM][OURS][-1])
        self.others.append((others_cpu_s(self.setting.server) - before) / (time.monotonic() - began))

    def sample(self) -> None:
        """Once more geossl over the random windows, watched where its processor time goes."""
        if RANDOM in self.keys and OURS in self.runs.get(RANDOM, {}):
            job = self.setting.job(self.windows["random"], "network")
            self.sampled = self._run(OURS, replace(job, extra={"sample": True}), counting=True)

    def _find_limits(self, ours: Run) -> None:
        asked = [(answered.path, answered.range) for answered in ours.asked if answered.method == "GET"]
        for limit in LIMITS:
            fetches = limit.extra["what"] == "transfer"
            extra = {"requests": asked, "concurrency": IN_FLIGHT} if fetches else {}
            job = self.setting.job(self.windows["random"], "network" if fetches else "disk")
            run = self._run(limit, replace(job, extra=extra), counting=fetches)
            if run:
                self.limits.setdefault(limit.name, []).append(run)

    def _run(self, method: Method, job: Job, *, counting: bool) -> Run | None:
        """One run; None where it fails TRIES times, and the method is left out from then on."""
        python = self.setting.python(method)
        if python is None or method.name in self.failed:
            return None
        failure = ""
        for _ in range(TRIES):
            try:
                run = run_once(method, job, python, self.setting.server if counting else None)
            except RunError as error:
                failure = str(error)
                self.crashes.append(f"{method.name}: {failure}")
            else:
                self.setting.say(f"{method.name}: {run.windows / run.seconds:.1f} windows/s")
                return run
        self.failed[method.name] = failure
        self.setting.say(f"{method.name} fails and is left out: {failure}")
        return None

    def show(self) -> None:
        """Print a table for each kind of windows, what was reached, and the profile."""
        local = {name: self.setting.job(windows, "disk") for name, windows in self.windows.items()}
        costs: dict[Key, dict[Method, Cost]] = {}
        needs: dict[str, dict[int, Touched]] = {}
        for key, runs in self.runs.items():
            place, kind = key
            truth = oracle(local[kind])
            n = len(self.windows[kind])
            counts = {these[0].windows for these in runs.values()} | {n}
            needs[kind] = {count: touched(replace(local[kind], windows=self.windows[kind][:count])) for count in counts}
            costs[key] = {method: cost(these) for method, these in runs.items()}
            exact = {method: min(agreeing(run.sums, truth) for run in these) for method, these in runs.items()}
            late = f"every answer {self.setting.delay_s * 1e3:g} ms late" if place == "network" else "from local disk"
            tables.table(f"{n} {kind} windows of {SIZE_PX} px, {late}", costs[key], needs[kind], exact)
        if SNAPPED in costs:
            moved = furthest_move_km(self.windows["random"], self.windows["snapped"])
            print(f"snapped windows lie up to {moved:.2f} km from the random ones")
        if OURS in costs.get(RANDOM, {}):
            tables.verdicts(costs[RANDOM], costs.get(SNAPPED, {}), needs["random"])
            if self.sampled and len(self.limits) == len(LIMITS):
                limits = {name: cost(runs) for name, runs in self.limits.items()}
                cores = len(os.sched_getaffinity(0))
                mine = costs[RANDOM][OURS]
                tables.profile(mine, limits, self.sampled.used, cores=cores, delay_s=self.setting.delay_s)
        self._show_versions()

    def _show_versions(self) -> None:
        every = [run for runs in self.runs.values() for these in runs.values() for run in these]
        versions = {name: text for run in every for name, text in run.versions.items()}
        print("\n" + ", ".join(f"{name} {text}" for name, text in sorted(versions.items())))
        busy = ", ".join(f"{cores:.1f}" for cores in self.others)
        print(f"other programs kept {busy} of {os.cpu_count()} cores busy: rates are good where that is near 0")
        for crash in self.crashes:
            print(f"a run that did not come to its end: {crash}")
        for name in self.failed:
            print(f"left out: {name}")


def compare(
    setting: Setting, *, windows: int, repeats: int, places: Sequence[str], kinds: Sequence[str], methods: Sequence[str]
) -> None:
    """Run everything `repeats` times and print the tables.

    places: network, disk. kinds: random, snapped. methods: how the names of the methods to run begin.
    """
    drawn = setting.draw(windows)
    wanted = [method for method in METHODS if method.name.startswith(tuple(methods))]
    comparison = Comparison(
        setting=setting,
        windows={"random": drawn, "snapped": snapped(drawn, size_px=SIZE_PX)},
        keys=[key for key in KEYS if key[0] in places and key[1] in kinds],
        methods=[method for method in wanted if setting.python(method)],
    )
    if len(comparison.methods) < len(wanted):
        setting.say("without --peers only what runs in this Python is measured")
    for number in range(repeats):
        setting.say(f"repetition {number + 1} of {repeats}")
        comparison.repeat()
    comparison.sample()
    comparison.show()
    print(f"medians of {repeats}, interleaved")


def remember(setting: Setting, *, windows: int) -> None:
    """Print geossl's memory along many windows, and check the pixels of the first ones."""
    drawn = setting.draw(windows)
    run = run_once(OURS, setting.job(drawn, "network"), sys.executable, setting.server)
    truth = oracle(setting.job(drawn[:CHECKED], "disk"))
    print(f"geossl over {windows} random windows: {windows / run.seconds:.1f} a second")
    print(f"{'windows':>10}{'MB':>8}")
    for done, resident_mb in [(0, run.start_mb), *run.memory]:
        print(f"{done:>10}{resident_mb:>8.0f}")
    later = [(done, resident_mb) for done, resident_mb in run.memory if done > windows / 4]
    slope = statistics.linear_regression(*zip(*later, strict=True)).slope
    print(f"peak {run.peak_mb:.0f} MB; after the first quarter {slope * 1e3:+.2f} MB for 1,000 windows more")
    print(f"{agreeing(run.sums[:CHECKED], truth):.1%} of the bands of the first {len(truth)} windows are exact")
