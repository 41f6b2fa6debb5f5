"""A rehearsal at planet scale without pixels: an archive of millions of items, and a million places in it.

    python benchmarks/planet.py --places 10000 --out build/benchmarks/planet
    python benchmarks/planet.py --places 10000 100000 1000000 --out build/benchmarks/planet

The archive is made up, as stac-geoparquet with the fields that the Planetary Computer's items have: both Sentinel-2 and
both Sentinel-1 satellites of 2020 and 2021 on their real orbits, over the real tile grid, cloud by latitude; about
4 million items for the whole Earth. Then geossl's own stages: places drawn on land without a catalog, `fetch` around
them out of the archive's files, and `sample` with four seasonal looks a place and with looks of the same seasons in two
years. Each stage is a process of its own; seconds, seconds of processor and peak memory are its.

A million places are on all land. Fewer are on a strip from Greenwich eastwards that is as densely filled, with the
archive of that strip: so everything that a stage has to do grows with the places, and its cost should as well. The
folder of each run holds the archive, the dataset and `planet.json`; stages that are in it are not done again.
`--docs` keeps what was measured in `planet/measured.json`, so that sizes can be run on different days.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs" / "scale.md"
MEASURED = ROOT / "benchmarks" / "planet" / "measured.json"
"""The runs that docs/scale.md tells of, by places."""
STAGES = ("archive", "places", "plan", "fetch", "seasons", "long")
BEGAN = time.monotonic()


def main() -> None:
    """Run what is not done, print the table, write it as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--places", type=int, nargs="+", default=[10_000], help="how many, for one run each")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "benchmarks" / "planet")
    parser.add_argument(
        "--months", type=int, default=24, choices=range(12, 25), help="of the archive, from January 2020"
    )
    parser.add_argument("--again", nargs="*", default=[], choices=STAGES, help="stages to do again")
    parser.add_argument("--docs", action="store_true", help="put the table into docs/scale.md, and that of the costs")
    parser.add_argument("--costs", nargs="*", metavar="NAME=NUMBER", help="only print what a dataset costs")
    parser.add_argument("--stage", choices=STAGES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.costs is not None:
        from planet.costs import Rates
        from planet.costs import table as table_of_costs

        print(table_of_costs(Rates().changed(options.costs)))
        return
    if options.stage is not None:
        from planet.stages import run

        run(options.stage, options.out, options.places[0], options.months)
        return
    runs = [_run(count, options.out.resolve(), options.months, options.again) for count in options.places]
    print(table(runs))
    if options.docs:
        _write_docs(runs)


def _write_docs(runs: list[dict[str, Any]]) -> None:
    """Put what was measured, now and earlier, into the docs."""
    from planet.costs import table as table_of_costs

    earlier = json.loads(MEASURED.read_text(encoding="utf-8")) if MEASURED.is_file() else []
    known = {run["places"]: run for run in [*earlier, *runs]}
    told = [known[places] for places in sorted(known)]
    MEASURED.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    text = _between(DOCS.read_text(encoding="utf-8"), "rehearsal", table(told))
    DOCS.write_text(_between(text, "costs", table_of_costs()), encoding="utf-8")


def _between(text: str, name: str, content: str) -> str:
    """The text with the lines between two comments replaced."""
    start = text.index("\n", text.index(f"<!-- {name}")) + 1
    return text[:start] + content + "\n" + text[text.index(f"<!-- end of {name} -->") :]


def _run(count: int, out: Path, months: int, again: list[str]) -> dict[str, Any]:
    """What the stages of one run took, those done earlier out of its file."""
    folder = out / f"{count}"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "planet.json"
    done: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    if done.get("months", months) != months:
        raise SystemExit(f"{path}: is of {done['months']} months; give --months {done['months']} or another --out")
    done = {"places": count, "months": months, "stages": done.get("stages", {})}
    for stage in STAGES:
        if stage in done["stages"] and stage not in again:
            continue
        _say(f"{count:,} places: {stage}")
        command = [sys.executable, __file__, "--stage", stage, "--out", str(folder)]
        command += ["--places", str(count), "--months", str(months)]
        answer = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
        if answer.returncode:
            raise SystemExit(f"{count:,} places: {stage} ended with {answer.returncode}")
        done["stages"][stage] = {"commit": _commit(), **json.loads(answer.stdout.splitlines()[-1])}
        path.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
    return done


def _commit() -> str:
    """The commit that the code is at, with a mark where it has changes on top."""
    asked = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--exclude", "*"]
    return subprocess.run(asked, capture_output=True, text=True, check=False).stdout.strip()


def table(runs: list[dict[str, Any]]) -> str:
    """Seconds, seconds of processor and peak memory of each stage, and what each came to, as Markdown."""
    rows = [["stage", *(f"{run['places']:,} places" for run in runs)], ["---"] * (len(runs) + 1)]
    for stage in STAGES:
        found = [run["stages"].get(stage) for run in runs]
        rows.append([stage, *("" if one is None else _cost(one) for one in found)])
    rows.append(["commits", *(", ".join(_commits(run)) for run in runs)])
    for stage in STAGES:
        names = dict.fromkeys(name for run in runs for name in run["stages"].get(stage, {}).get("facts", {}))
        for name in names:
            facts = [run["stages"].get(stage, {}).get("facts", {}).get(name) for run in runs]
            rows.append([f"{stage}: {name}", *map(_shown, facts)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _commits(run: dict[str, Any]) -> list[str]:
    """The commits that the stages of a run were done at, in their order."""
    return list(dict.fromkeys(stage["commit"] for stage in run["stages"].values() if "commit" in stage))


def _cost(stage: dict[str, Any]) -> str:
    return f"{stage['seconds']:.0f} s, {stage['cpu_seconds']:.0f} s of processor, {stage['peak_gb']:.2f} GB"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count:,}" for name, count in value.items())
    return (
        ""
        if value is None
        else f"{value:,.2f}"
        if isinstance(value, float)
        else f"{value:,}"
        if isinstance(value, int)
        else str(value)
    )


def _say(text: str) -> None:
    print(f"… {time.monotonic() - BEGAN:5.0f} s  {text}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
