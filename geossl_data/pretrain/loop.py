"""The training loop, read once from top to bottom: build, resume, step, log, save, export.

Order, views and schedules are functions of (seed, epoch, step), so a run that was stopped goes on from its last
checkpoint to the numbers it would have reached without the stop: bit for bit on a CPU, and up to the order of sums
inside a GPU's kernels. Started by torchrun, several processes share every batch; `batch_size` counts all of them, so
that the numbers do not depend on how many there are.
"""

import logging
import math
import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from geossl_data.errors import ShardError, TrainingError
from geossl_data.files import remove_folder, remove_temporaries
from geossl_data.pretrain import batches
from geossl_data.pretrain.batches import Batch, Loader
from geossl_data.pretrain.build import Built, build
from geossl_data.pretrain.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from geossl_data.pretrain.distributed import Ranks, process_group, ranks_of_environment, synchronised, wait_for_all
from geossl_data.pretrain.export import EncoderInfo, export_encoder
from geossl_data.pretrain.metrics import Metrics, collapse, mean
from geossl_data.pretrain.numbers import Numbers
from geossl_data.pretrain.optimizers import build_optimizer, learning_rate_at, weight_decay_at
from geossl_data.pretrain.options import RUN_ONLY, TrainingOptions
from geossl_data.pretrain.published import Published
from geossl_data.pretrain.stopping import asked_to_stop, raise_again
from geossl_data.pretrain.views import Draws, generator
from geossl_data.progress import Progress, silent
from geossl_data.shards.reading.shards import Shards

_LOG = logging.getLogger(__name__)

EXPORTED_NAME = "exported"
OWN_GENERATOR = 1
"""Key of what torch's own generators are set to before a step, beside that of the views."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingResult:
    """What a run came to. The numbers of the last epoch are means over its steps."""

    run_dir: Path
    trained: bool
    """False where the run was finished before and nothing was done."""
    epochs: int
    steps: int
    items: int
    """Looks, or places with some of their looks, in an epoch; its last incomplete batch is left out."""
    batch_size: int
    """Of all processes, as used; lower than asked for where there are fewer items."""
    world: int
    crop: int
    device: str
    terms: Mapping[str, float]
    """Name → mean over the last epoch."""
    exported: tuple[Path, ...]

    @property
    def loss(self) -> float:
        return self.terms.get("loss", math.nan)

    def facts(self) -> dict[str, Any]:
        """Name → number or short text, to show."""
        names = {"loss": "loss", "spread": "embedding spread", "top1": "retrieval top-1"}
        return {
            "device": self.device if self.world == 1 else f"{self.world} × {self.device}",
            "items": self.items,
            "batch size": self.batch_size,
            "crop": self.crop,
            "epochs": self.epochs,
            "steps": self.steps,
            **{shown: round(self.terms[name], 4) for name, shown in names.items() if name in self.terms},
            "looks per second": round(self.terms.get("images_per_s", math.nan), 1),
            "loader wait": f"{self.terms.get('loader_wait_share', math.nan):.1%}",
            "encoders": ", ".join(path.name for path in self.exported),
        }


def train(
    shards: Shards,
    run_dir: Path,
    options: TrainingOptions | None = None,
    *,
    resume: bool = True,
    samples: int | None = None,
    progress: Progress = silent,
) -> TrainingResult:
    """Train on the train split of `shards` and export the encoders.

    samples: train on the first so many of the split alone.

    Writes metrics.jsonl (a line a step), checkpoints/last.pt (every `checkpoint_every` epochs, and when SIGTERM or
    Ctrl-C ends the run) and exported/<branch>.safetensors below `run_dir`. A run that was interrupted goes on from its
    checkpoint, one that is finished is only read; `resume=False` starts over. Other options than those of the
    checkpoint (but for `RUN_ONLY`) or other shards raise TrainingError, as do a loss that is not finite, a crop that
    does not fit and shards without what the objective needs.
    """
    options = options or TrainingOptions()
    ranks = ranks_of_environment()
    device = batches.chosen_device(options.device, ranks)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    with process_group(ranks, device), _own_generators(device):
        return _train(shards, run_dir, options, ranks, device, resume=resume, samples=samples, progress=progress)


def _train(
    shards: Shards,
    run_dir: Path,
    options: TrainingOptions,
    ranks: Ranks,
    device: torch.device,
    *,
    resume: bool,
    samples: int | None,
    progress: Progress,
) -> TrainingResult:
    # Build
    built = build(shards, options)
    module = synchronised(built.module.to(device), device)
    model, setup, method = built.objective, built.setup, built.method
    loader, batch_size = loader_of(shards, built, options, ranks, device, samples)
    steps_per_epoch = len(loader) // options.accumulate
    steps = options.epochs * steps_per_epoch
    optimizer = build_optimizer(
        method.optimizer,
        module,
        learning_rate=method.peak(batch_size),
        weight_decay=method.weight_decay,
        momentum=method.sgd_momentum,
        betas=method.betas,
    )
    stored = {name: value for name, value in asdict(options).items() if name not in RUN_ONLY} | {
        "shards": str(shards.notes.get("fingerprint", ""))
    }

    # Resume
    if ranks.first:
        if not resume:
            remove_folder(run_dir)
        for folder in (run_dir, run_dir / "checkpoints", run_dir / EXPORTED_NAME):
            remove_temporaries(folder)
    wait_for_all()
    start = _resume(run_dir / CHECKPOINT_NAME, module, optimizer, loader, stored, steps, device)

    # Step, log, save
    if options.compile:
        for encoder in model.encoders.values():
            # A transformer by its blocks: masked modelling calls these and never the whole.
            for part in getattr(encoder, "blocks", [encoder]):
                part.compile()
    parallel: nn.Module = module
    if ranks.world > 1:
        parallel = DistributedDataParallel(module, broadcast_buffers=False, gradient_as_bucket_view=True)

    def learn(batch: Batch, random: torch.Generator, *, together: bool) -> dict[str, Tensor]:
        """Forward and backward pass over one part of a step; its terms. together: bring the gradients together."""
        views = model.views(batch, Draws(random, len(batch) * ranks.world, ranks.rows(len(batch))))
        with nullcontext() if together or ranks.world == 1 else cast(Any, parallel).no_sync():
            with torch.autocast(device.type, torch.bfloat16, enabled=uses_bf16(options.precision, device)):
                outcome = parallel(views, batch)
            (outcome.terms["loss"] / options.accumulate).backward()
        return {name: value.detach() for name, value in outcome.terms.items()}

    with (
        _log_of(run_dir, start, steps_per_epoch, options, ranks) as metrics,
        progress("pretraining", total=steps) as task,
        asked_to_stop() as asked,
    ):

        def save() -> None:
            if metrics is not None:
                metrics.sync()
                state = module.state_dict(), optimizer.state_dict()
                last = Checkpoint(
                    options=stored, step=step, loader=loader.state_dict(), model=state[0], optimizer=state[1]
                )
                save_checkpoint(run_dir / CHECKPOINT_NAME, last)
            wait_for_all()

        task.advance(start)
        module.train()
        numbers, step, stop = Numbers(metrics, task, module), start, False
        for epoch in range(start // steps_per_epoch, options.epochs):
            waiting = _timed(loader)
            for _ in range(steps_per_epoch - step % steps_per_epoch):
                schedule(optimizer, method, step, steps, batch_size)
                _seed_own(options.seed, step, ranks)
                _hook(model, "begin_step", step / steps)
                optimizer.zero_grad(set_to_none=True)
                terms, waited_s = [], 0.0
                for part in range(options.accumulate):
                    batch, seconds = next(waiting)
                    waited_s += seconds
                    random = generator(options.seed, epoch, step, part)
                    terms.append(learn(batch, random, together=part + 1 == options.accumulate))
                _hook(model, "adjust_gradients", epoch)
                norm = clipped(module, method.clip)
                stop = numbers.take(
                    terms,
                    norm,
                    batch,
                    stop=asked.is_set(),
                    n_images=batch_size * loader.n_looks,
                    waited_s=waited_s,
                    line={"step": step, "epoch": epoch, "lr": optimizer.param_groups[0]["lr"]},
                )
                optimizer.step()
                _hook(model, "end_step", step / steps)
                step += 1
                if stop and step % steps_per_epoch:
                    numbers.flush()
                    save()
                    raise_again(asked)
            waiting.close()
            loader.set_epoch(epoch + 1)
            stop = numbers.flush(**_hook(model, "end_epoch")) or stop
            if metrics is not None and (warning := collapse(step - 1, metrics.recent[-1])):
                _LOG.warning("%s", warning)
            if stop or (epoch + 1) % options.checkpoint_every == 0 or epoch + 1 == options.epochs:
                save()
            if stop:
                raise_again(asked)
        means = {} if metrics is None else {name: mean(metrics.recent, name) for name in metrics.recent[-1]}

    # Export
    exported = export(run_dir, built, options, shards) if ranks.first else ()
    wait_for_all()
    return TrainingResult(
        run_dir=run_dir,
        trained=start < steps,
        epochs=options.epochs,
        steps=steps,
        items=loader.source.n_items,
        batch_size=batch_size,
        world=ranks.world,
        crop=setup.views.crop,
        device=device.type,
        terms=means,
        exported=exported,
    )


def loader_of(
    shards: Shards,
    built: Built,
    options: TrainingOptions,
    ranks: Ranks,
    device: torch.device,
    samples: int | None = None,
) -> tuple[Loader, int]:
    """The batches of this process, and how many items those of all processes in a step have.

    The batch is lowered where there are fewer items, which is logged. samples: train on the first so many alone.
    Raises TrainingError where a batch does not split into as many parts as asked for, or less than 2 items are there.
    """
    parts = ranks.world * options.accumulate
    if options.batch_size % parts:
        raise TrainingError(
            f"batch size {options.batch_size} does not split over {ranks.world} processes × {options.accumulate} "
            f"accumulated parts; take a multiple of {parts}"
        )

    items = batches.items_of(shards, built.normalisations, built.objective.looks, samples=samples)
    batch_size = min(options.batch_size, len(items) // parts * parts)
    if batch_size < max(2, parts):
        raise TrainingError(
            f"{len(items)} {'looks' if built.objective.looks.kind == 'each' else 'places'} to train on, at least "
            f"{max(2, parts)} are needed; sample more places"
        )
    if batch_size < options.batch_size:
        _LOG.warning(
            "batch size lowered from %d to %d, as there are %d items", options.batch_size, batch_size, len(items)
        )
    loader = Loader(
        shards,
        built.normalisations,
        items,
        batch_size // parts,
        seed=options.seed,
        ranks=ranks,
        device=device,
        spread_over=batch_size if options.far_negatives else 0,
    )
    return loader, batch_size


def schedule(optimizer: torch.optim.Optimizer, method: Published, step: int, steps: int, batch_size: int) -> None:
    """Set the learning rate and the weight decay of a step."""
    rate = learning_rate_at(
        step,
        steps,
        peak=method.peak(batch_size),
        warmup_steps=round(method.warmup * steps),
        schedule=method.schedule,
    )
    for group in optimizer.param_groups:
        group["lr"] = rate
        if method.weight_decay_end is not None and group["is_weight"]:
            group["weight_decay"] = weight_decay_at(step / steps, method.weight_decay, method.weight_decay_end)


def clipped(module: nn.Module, largest: float) -> Tensor:
    """The norm of the whole gradient, which is scaled down to `largest` where that is above 0 and below the norm."""
    parameters = [parameter for parameter in module.parameters() if parameter.grad is not None]
    if largest > 0:
        return nn.utils.clip_grad_norm_(parameters, largest)
    return nn.utils.get_total_norm([cast(Tensor, parameter.grad) for parameter in parameters])


def uses_bf16(precision: str, device: torch.device) -> bool:
    """Whether encoders and heads compute in bfloat16: where asked for, and on a GPU unless asked not to."""
    return precision == "bf16" or (precision == "auto" and device.type == "cuda")


def export(run_dir: Path, built: Built, options: TrainingOptions, shards: Shards) -> tuple[Path, ...]:
    """Write every encoder with what it needs to be used; their paths."""
    by_sensor = {entry.sensor: entry for entry in built.normalisations}
    paths = []
    for branch, encoder in built.objective.encoders.items():
        info = EncoderInfo(
            encoder=options.encoder,
            patch=built.setup.patch,
            embed=built.setup.embed,
            normalisations=tuple(by_sensor[sensor] for sensor in branch.split("+")),
            objective=options.objective,
            epochs=options.epochs,
            samples=int((shards.facts.split == "train").sum()),
            crop=built.setup.views.crop,
            pixel_m=shards.notes.get("pixel_m"),
            years=tuple(shards.notes.get("years", ())),
        )
        paths.append(run_dir / EXPORTED_NAME / f"{branch}.safetensors")
        export_encoder(paths[-1], encoder, info)
    return tuple(paths)


def _log_of(
    run_dir: Path, start: int, steps_per_epoch: int, options: TrainingOptions, ranks: Ranks
) -> AbstractContextManager[Metrics | None]:
    """The log of the run, in the first process only."""
    if not ranks.first:
        return nullcontext()
    return Metrics(run_dir, start, tensorboard=options.tensorboard, keep=steps_per_epoch)


def _resume(
    path: Path,
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loader: Loader,
    options: Mapping[str, Any],
    steps: int,
    device: torch.device,
) -> int:
    """Steps done, after loading the last checkpoint into module, optimizer and loader where there is one."""
    if not path.is_file():
        return 0
    checkpoint = load_checkpoint(path, device)
    run_dir = path.parents[1]
    changed = [name for name, value in options.items() if checkpoint.options.get(name) != value]
    if changed:
        differences = ", ".join(f"{name} {checkpoint.options.get(name)!r}, now {options[name]!r}" for name in changed)
        raise TrainingError(f"{run_dir} was trained with {differences}; use --fresh or another --run")
    try:
        module.load_state_dict(checkpoint.model)
        optimizer.load_state_dict(checkpoint.optimizer)
        loader.load_state_dict(checkpoint.loader)
        fits = 0 <= checkpoint.step <= steps
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, ShardError):
        fits = False
    if not fits:
        raise TrainingError(f"{path}: does not fit this model or these shards; use --fresh or another --run")
    if checkpoint.step < steps:
        _LOG.info("resuming %s after step %d of %d", run_dir, checkpoint.step, steps)
    return checkpoint.step


def _hook(model: object, name: str, *arguments: float) -> dict[str, float]:
    """What a method of the objective answers with that not every objective has."""
    method = getattr(model, name, None)
    return (method(*arguments) if method is not None else None) or {}


def _timed(source: Loader) -> Generator[tuple[Batch, float], None, None]:
    """Each batch with the seconds waited for it."""
    iterator = iter(source)
    while True:
        began_s = time.perf_counter()
        batch = next(iterator, None)
        if batch is None:
            return
        yield batch, time.perf_counter() - began_s


@contextmanager
def _own_generators(device: torch.device) -> Iterator[None]:
    """torch's own generators are as before afterwards."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        yield


def _seed_own(seed: int, step: int, ranks: Ranks) -> None:
    """Set torch's own generators, which a user's objective may draw from, for a step."""
    torch.manual_seed(generator(seed, step, ranks.rank, OWN_GENERATOR).initial_seed())
