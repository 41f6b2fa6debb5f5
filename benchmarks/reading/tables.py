"""What is printed."""

from collections.abc import Mapping

from reading.runs import OURS, Cost, Method
from reading.windows import Touched

WANTED = {"rasterio": 3.0, "async-geotiff": 4.0, "stackstac": 6.0, "odc-stac": 10.0}
"""How many times as fast geossl is to be, by the first word of a method's name."""
WANTED_REQUESTS = 0.6
WANTED_SNAPPED = 1.3


def table(
    title: str, costs: Mapping[Method, Cost], touched: Mapping[int, Touched], same: Mapping[Method, float]
) -> None:
    """One line for each method; requests and bytes only where a server counted them."""
    ours = costs.get(OURS)
    counted = any(cost.requests for cost in costs.values())
    print(f"\n{title}")
    wide = f"{'requests':>10}{'MB':>7}{'/ each':>8}{'/ shared':>9}" if counted else ""
    last = f"{'nginx ms':>10}" if counted else ""
    print(f"{'':36}{'windows':>8}{'per s':>8}{'geossl ×':>10}{wide}{'CPU ms':>8}{last}{'peak MB':>9}{'exact':>8}")
    for method, cost in costs.items():
        ratio = f"{ours.per_second / cost.per_second:>10.2f}" if ours else f"{'':>10}"
        line = f"{method.name:36}{cost.windows:8}{cost.per_second:8.1f}{ratio}"
        if counted:
            of = touched[cost.windows]
            total = cost.mb * cost.windows
            line += f"{cost.requests:10.2f}{cost.mb:7.2f}{total / of.each_mb:8.2f}{total / of.shared_mb:9.2f}"
        line += f"{cost.cpu_ms:8.1f}"
        if counted:
            line += f"{cost.server_ms:10.1f}"
        print(f"{line}{cost.peak_mb:9.0f}{same[method]:8.1%}")


def verdicts(costs: Mapping[Method, Cost], snapped: Mapping[Method, Cost], touched: Mapping[int, Touched]) -> None:
    """What was reached beside what was wanted, on random windows over the network."""
    mine = costs[OURS]
    print()
    for word, wanted in WANTED.items():
        theirs = [cost for method, cost in costs.items() if method.name.startswith(word)]
        if theirs:
            best = max(theirs, key=lambda cost: cost.per_second)
            print(_verdict(f"windows a second, times those of {word}", mine.per_second / best.per_second, wanted))
    theirs = [cost for method, cost in costs.items() if method.name.startswith("rasterio")]
    if theirs:
        least = min(cost.requests for cost in theirs)
        print(_verdict("requests, share of rasterio's fewest", mine.requests / least, WANTED_REQUESTS, most=True))
    shared_mb = touched[mine.windows].shared_mb / mine.windows
    blocks = (mine.mb - mine.headers_mb) / shared_mb
    print(_verdict("bytes, share of the touched blocks, each once", blocks, 1.0, most=True))
    print(f"{'  and headers':56}{mine.headers_mb / shared_mb:8.3f}")
    if OURS in snapped:
        gain = snapped[OURS].per_second / mine.per_second
        print(_verdict("windows a second with snap block, times those without", gain, WANTED_SNAPPED))


def _verdict(what: str, found: float, wanted: float, *, most: bool = False) -> str:
    # Rounded, because merged ranges hold the few bytes that lie between neighbouring blocks.
    good = round(found, 3) <= wanted if most else found >= wanted
    return f"{what:56}{found:8.3f}   wanted {'≤' if most else '≥'} {wanted:<5g}{'' if good else '  NOT REACHED'}"


def profile(mine: Cost, limits: Mapping[str, Cost], used: Mapping[str, float], *, cores: int, delay_s: float) -> None:
    """What geossl's time goes into, on random windows over the network, beside decoding and transfer alone."""
    transfer, decode, whole = limits["transfer"], limits["decode"], limits["decode whole"]
    rest = mine.cpu_ms - transfer.cpu_ms - decode.cpu_ms
    together = cores * 1e3 / (mine.cpu_ms + mine.server_ms)
    print(f"\ngeossl's processor time, ms a window (random windows, {cores} cores, shared with nginx)")
    print(f"  all {mine.cpu_ms:.1f} = decode {decode.cpu_ms:.1f} + transfer {transfer.cpu_ms:.1f} + rest {rest:.1f}")
    print(f"  decoding whole blocks instead of as far as needed: {whole.cpu_ms:.1f}; nginx: {mine.server_ms:.1f}")
    print("  windows a second beside the limits")
    rows = [
        ("geossl", mine.per_second),
        (f"pure decode on {cores} cores, from memory", decode.per_second),
        ("pure transfer of the same ranges, thrown away", transfer.per_second),
        ("its own and nginx's processor time on all cores", together),
        ("latency alone, 64 requests in flight", 64 / delay_s / mine.requests if delay_s else float("inf")),
    ]
    for name, rate in rows:
        print(f"    {name:50}{rate:8.1f}   geossl at {mine.per_second / rate:6.1%}")
    total = sum(used.values())
    print(f"  by function, sampled ({total:.2f} s seen in Python's threads)")
    for name, seconds in sorted(used.items(), key=lambda item: -item[1])[:16]:
        print(f"    {seconds / total:6.1%}  {name}")
