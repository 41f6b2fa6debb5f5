"""What is printed."""

from collections.abc import Mapping

from loading.runs import DEFAULT, LITDATA, MOSAIC, OURS, WEBDATASET, Case, DataSet, Dates, Pass, cost, times_as_fast

TITLES: dict[Dates, str] = {"all": "whole samples of four dates", "one": "one of four dates"}
WANTED_WHOLE, WANTED_ONE = 10.0, 25.0
"""How many times as fast as webdataset's documented pipeline geossl is to be."""
WANTED_OTHERS = 5.0
"""And as litdata and mosaicml-streaming, on whole samples."""
WANTED_LIMIT = 0.8
"""Share of the page-cache copy that plain npy members are to reach."""


def best(passes: Mapping[Case, list[Pass]], name: str, dates: Dates) -> list[Pass] | None:
    """Passes of the fastest of the cases whose names begin so."""
    found = [these for case, these in passes.items() if case.name.startswith(name) and case.dates == dates]
    return max(found, key=lambda these: cost(these).per_second, default=None)


def table(dates: Dates, passes: Mapping[Case, list[Pass]], exact: Mapping[Case, bool]) -> None:
    """One line for each case: samples and megabytes a second, and how many times webdataset's documented pipeline."""
    costs = {case: cost(these) for case, these in passes.items() if case.dates == dates}
    if not costs:
        return
    found = best(passes, WEBDATASET, dates)
    documented = cost(found) if found else None
    print(f"\n{TITLES[dates]}")
    print(f"{'':46}{'samples/s':>10}{'MB/s':>8}{'MB/sample':>11}{'CPU ms/sample':>15}{'× webdataset':>14}{'exact':>7}")
    for case, one in costs.items():
        times = f"{one.per_second / documented.per_second:14.2f}" if documented else f"{'':14}"
        same = "yes" if exact.get(case) else "NO"
        line = f"{one.per_second:10.0f}{one.mb_per_second:8.0f}{one.mb:11.2f}{one.cpu_ms:15.2f}"
        print(f"{case.name:46}{line}{times}{same:>7}")


def verdicts(passes: Mapping[Case, list[Pass]]) -> None:
    """What was reached beside what was wanted; the median over rounds of the ratios in each."""
    print()
    comparisons: list[tuple[str, str, str, Dates, float]] = [
        (f"{DEFAULT}, whole samples, times webdataset", DEFAULT, WEBDATASET, "all", WANTED_WHOLE),
        (f"{DEFAULT}, one of four dates, times webdataset", DEFAULT, WEBDATASET, "one", WANTED_ONE),
        (f"{DEFAULT}, whole samples, times litdata", DEFAULT, LITDATA, "all", WANTED_OTHERS),
        (f"{DEFAULT}, whole samples, times mosaicml-streaming", DEFAULT, MOSAIC, "all", WANTED_OTHERS),
    ]
    for dates in ("all", "one"):
        for threads in ("1 thread", "2 threads"):
            for how in ("preadv", "mmap"):
                what = f"npy, {TITLES[dates]}, share of {how}, {threads}"
                names = f"{OURS} npy, {threads}", f"limit: {how}, {threads}"
                comparisons.append((what, *names, dates, WANTED_LIMIT))
    for what, ours, theirs, dates, wanted in comparisons:
        found = [best(passes, name, dates) for name in (ours, theirs)]
        if found[0] and found[1]:
            print(_verdict(what, times_as_fast(found[0], found[1]), wanted))


def _verdict(what: str, found: float, wanted: float) -> str:
    return f"{what:68}{found:8.2f}   wanted ≥ {wanted:<5g}{'' if found >= wanted else '  NOT REACHED'}"


def sizes(found: Mapping[DataSet, float]) -> None:
    """Megabytes of a sample in each data set."""
    forms = {
        "native": "bands at their own resolution, Sentinel-1 in steps of 0.01 dB",
        "stack": "all bands at 10 m, Sentinel-1 float32",
    }
    for form, text in forms.items():
        print(f"\nMB a sample on disk: {text}")
        for data, size in sorted(found.items(), key=lambda item: -item[1]):
            if data.form == form:
                print(f"{data.name.removesuffix(f'-{form}'):24}{size:8.3f}")
