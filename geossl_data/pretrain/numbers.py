"""The numbers of each step, brought from the device without making it wait, checked, logged and shown."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from geossl_data.errors import TrainingError
from geossl_data.pretrain.batches import Batch
from geossl_data.pretrain.distributed import mean_over_ranks
from geossl_data.pretrain.metrics import Metrics, diagnose, not_finite
from geossl_data.progress import Task

STOP = "stop"
"""Name of the number that says in how many processes somebody asked the run to stop."""
MOST_SHOWN = 4
"""Terms beside the bar; all are in the log."""
CLOCKS = ("images_per_s", "loader_wait_share", "step_s")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Taken:
    """Numbers on their way from the device."""

    names: tuple[str, ...]
    values: Tensor
    """On the CPU once `arrived`."""
    arrived: "torch.cuda.Event | None"
    line: Mapping[str, float]
    clock: Mapping[str, float]
    batch: Batch


class Numbers:
    """What the steps say. On a GPU a step is looked at when the next one is under way, elsewhere at once."""

    def __init__(self, metrics: Metrics | None, task: Task, module: nn.Module) -> None:
        """metrics: None in all processes but the first, which check and agree but do not write."""
        self._metrics, self._task, self._module = metrics, task, module
        self._taken: _Taken | None = None
        self._checked: tuple[_Taken, dict[str, float]] | None = None
        self._before_s = time.perf_counter()

    def take(
        self,
        terms: Sequence[Mapping[str, Tensor]],
        gradient_norm: Tensor,
        batch: Batch,
        *,
        stop: bool,
        n_images: int,
        waited_s: float,
        line: Mapping[str, float],
    ) -> bool:
        """Take the numbers of a step, before the optimiser's; whether a step looked at now was asked to stop after.

        terms: of each part of the step; the mean over parts and processes is logged. Raises TrainingError, in all
        processes alike, where a number is not finite.
        """
        names = (*terms[0], "grad_norm", STOP)
        parts = [torch.stack([part[name].double() for name in terms[0]]) for part in terms]
        more = torch.stack([gradient_norm.double(), torch.full_like(gradient_norm, float(stop), dtype=torch.float64)])
        values = mean_over_ranks(torch.cat([torch.stack(parts).mean(dim=0), more]))
        arrived = None
        if values.is_cuda:
            values = values.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
            arrived.record()
        now_s = time.perf_counter()
        took_s, self._before_s = now_s - self._before_s, now_s
        taken = _Taken(
            names=names,
            values=values,
            arrived=arrived,
            line=line,
            clock=dict(zip(CLOCKS, (n_images / took_s, min(1.0, waited_s / took_s), took_s), strict=True)),
            batch=batch,
        )
        if arrived is None:
            return self._check(taken)
        before, self._taken = self._taken, taken
        return self._check(before) if before is not None else False

    def flush(self, **more: float) -> bool:
        """Look at what is still on its way. more: numbers that belong to the last step, such as an epoch's."""
        stop = False
        if self._taken is not None:
            stop, self._taken = self._check(self._taken), None
        self._write(more)
        return stop

    def _check(self, taken: _Taken) -> bool:
        if taken.arrived is not None:
            taken.arrived.synchronize()
        values = dict(zip(taken.names, taken.values.tolist(), strict=True))
        stop: bool = values.pop(STOP) > 0
        self._write({})
        # On a GPU the optimiser has carried a broken gradient into all weights by now, which then tell nothing.
        module = self._module if taken.arrived is None else None
        problem = not_finite(int(taken.line["step"]), values, cause=lambda: diagnose(module, taken.batch))
        if problem is not None:
            raise TrainingError(problem)
        self._checked = (taken, values)
        return stop

    def _write(self, more: Mapping[str, float]) -> None:
        """Write the line of the step that was checked before."""
        if self._checked is None:
            return
        (taken, values), self._checked = self._checked, None
        line = {name: value for name, value in taken.line.items() if name != "step"}
        if self._metrics is not None:
            self._metrics.step({**line, **values, **more}, **taken.clock)
        terms = [name for name in values if name != "grad_norm"][:MOST_SHOWN]
        note = ", ".join(f"{name} {values[name]:.3f}" for name in terms)
        wait = taken.clock["loader_wait_share"]
        self._task.advance(1, note=f"{note}, {taken.clock['images_per_s']:.0f} images/s, loader wait {wait:.0%}")
