"""Where the time of a step goes: kernels by kind, the gaps between them, and which limit that is."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile, schedule

KINDS: dict[str, tuple[str, ...]] = {
    "attention": ("flash", "fmha", "attention", "sdpa"),
    "matrix": ("gemm", "cutlass", "xmma", "conv", "cudnn", "wgrad", "dgrad", "implicit", "addmm", "matmul", "mm"),
    "norm": ("batch_norm", "batchnorm", "bn_", "layer_norm", "layernorm", "norm"),
    "views": ("grid_sampl", "upsample", "affine"),
    "optimiser": ("multi_tensor", "foreach", "adam", "lars", "lpnorm"),
    "copies": ("memcpy", "memset", "copy", "cat"),
    "pooling": ("pool",),
}
"""Kind → what is in the names of its kernels, asked in this order; the rest is element by element, and reductions."""
BOUND_BY_MEMORY = ("norm", "views", "optimiser", "copies", "pooling", "elementwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class Profiled:
    """Some steps of a loop, kernel by kernel."""

    device: str
    steps: int
    wall_s: float
    busy_s: float
    """In which at least one kernel ran."""
    kernels: int
    by_kind: dict[str, float]
    """Kind → seconds."""
    longest: list[tuple[str, float, int]]
    """Names, seconds and numbers of the kernels that take most."""


def profiled(run: Callable[[Callable[[], None]], None], device: torch.device, *, warm: int, steps: int) -> Profiled:
    """Profile `steps` steps after `warm` ones; `run` is to call what it is given after each."""
    gpu = device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if gpu else [])]
    plan = schedule(wait=max(0, warm - 1), warmup=1, active=steps, repeat=1)
    with profile(activities=activities, schedule=plan, acc_events=True) as profiler:
        run(profiler.step)
    events = [event for event in profiler.events() or [] if _is_work(event, gpu=gpu)]
    spans = sorted((event.time_range.start, event.time_range.end) for event in events)
    return Profiled(
        device=device.type,
        steps=steps,
        wall_s=(max(end for _, end in spans) - spans[0][0]) / 1e6,
        busy_s=_union(spans) / 1e6,
        kernels=len(events),
        by_kind=_by_kind(events, gpu=gpu),
        longest=_longest(events, gpu=gpu),
    )


def _is_work(event: Any, *, gpu: bool) -> bool:
    wanted = torch.autograd.DeviceType.CUDA if gpu else torch.autograd.DeviceType.CPU
    said = event.name.startswith("ProfilerStep") or getattr(event, "is_user_annotation", False)
    return event.device_type == wanted and not said


def _seconds(event: Any, *, gpu: bool) -> float:
    return float(event.time_range.elapsed_us() if gpu else event.self_cpu_time_total) / 1e6


def _union(spans: Iterable[tuple[float, float]]) -> float:
    total, until = 0.0, float("-inf")
    for start, end in spans:
        total += max(0.0, end - max(start, until))
        until = max(until, end)
    return total


def host_waits(run: Callable[[Callable[[], None]], None], *, warm: int, steps: int) -> dict[str, float]:
    """Line of code → how often in a step the program waits there for the GPU, which then runs dry.

    torch tells of each in a warning; `run` as in `profiled`. Of `steps` steps after `warm` ones.
    """
    done = 0

    def at_step() -> None:
        nonlocal done
        done += 1
        torch.cuda.set_sync_debug_mode("warn" if warm <= done < warm + steps else "default")

    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            run(at_step)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    waits = [one for one in told if "synchroniz" in str(one.message)]
    lines = Counter(f"{'/'.join(Path(one.filename).parts[-2:])}:{one.lineno}" for one in waits)
    return {line: number / steps for line, number in lines.most_common()}


def kind_of(name: str) -> str:
    """To which kind a kernel belongs, by its name."""
    low = name.lower()
    return next((kind for kind, parts in KINDS.items() if any(part in low for part in parts)), "elementwise")


def _by_kind(events: Iterable[Any], *, gpu: bool) -> dict[str, float]:
    seconds: Counter[str] = Counter()
    for event in events:
        seconds[kind_of(event.name)] += _seconds(event, gpu=gpu)
    return dict(seconds.most_common())


def _longest(events: Iterable[Any], *, gpu: bool, n: int = 12) -> list[tuple[str, float, int]]:
    seconds: Counter[str] = Counter()
    numbers: Counter[str] = Counter()
    for event in events:
        seconds[event.name] += _seconds(event, gpu=gpu)
        numbers[event.name] += 1
    return [(name, took, numbers[name]) for name, took in seconds.most_common(n)]


def show(found: Profiled, step_flops: float, peak: float | None) -> None:
    """Print the profile, and say what the limit is."""
    total = sum(found.by_kind.values())
    what = "kernels" if found.device == "cuda" else "operators"
    print(f"    {found.steps} steps: {1e3 * found.wall_s / found.steps:.1f} ms a step, ", end="")
    print(f"{found.kernels / found.steps:.0f} {what} a step, busy {found.busy_s / found.wall_s:.1%}")
    for kind, seconds in found.by_kind.items():
        print(f"    {kind:14}{1e3 * seconds / found.steps:9.2f} ms a step {seconds / total:7.1%}")
    for name, seconds, number in found.longest:
        print(f"      {1e3 * seconds / found.steps:8.2f} ms {number / found.steps:6.0f} ×  {name[:100]}")
    if found.device == "cuda":
        print(f"    limit: {limit(found, step_flops, peak)}")


def limit(found: Profiled, step_flops: float, peak: float | None) -> str:
    """What the loop would have to be relieved of to go faster, with the numbers that say so."""
    gaps = 1 - found.busy_s / found.wall_s
    matrix_s = (found.by_kind.get("matrix", 0.0) + found.by_kind.get("attention", 0.0)) / found.steps
    memory_s = sum(found.by_kind.get(kind, 0.0) for kind in BOUND_BY_MEMORY) / found.steps
    rate = step_flops / matrix_s if matrix_s else 0.0
    share = f" ({rate / peak:.0%} of the peak)" if peak else ""
    parts = f"matrix kernels run at {rate / 1e12:.0f} TFLOP/s{share}"
    if gaps > 0.1:
        return f"launches and the host: no kernel runs in {gaps:.0%} of the time; {parts}"
    if memory_s > matrix_s:
        return f"memory: {memory_s / (memory_s + matrix_s):.0%} of the kernels' time moves numbers; {parts}"
    return f"matrix rate: {matrix_s / (memory_s + matrix_s):.0%} of the kernels' time; {parts}"
