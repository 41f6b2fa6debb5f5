"""SimCLR as a person would write it with torch alone: a Dataset of files, a DataLoader, NT-Xent, one loop."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

Loss = Callable[[Tensor, Tensor], Tensor]


class Files(Dataset[tuple[Tensor, Tensor]]):
    """Two augmented views of each image of a folder, made on the CPU."""

    def __init__(self, folder: Path, length: int, crop: int) -> None:
        self.paths = sorted(folder.glob("*.npy"))
        self.length = length
        self.crop = crop

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        stored = np.load(self.paths[index % len(self.paths)])
        image = (torch.from_numpy(stored.astype(np.float32)) - 2500) / 800
        return self.view(image), self.view(image)

    def view(self, image: Tensor) -> Tensor:
        """A random resized crop, flipped and turned."""
        size = image.shape[-1]
        side = int(size * float(torch.empty(1).uniform_(0.2, 1.0).sqrt()))
        top, left = (int(value) for value in torch.randint(0, size - side + 1, (2,)))
        crop = image[:, top : top + side, left : left + side]
        crop = functional.interpolate(crop[None], size=(self.crop, self.crop), mode="bilinear", align_corners=False)[0]
        if torch.rand(()) < 0.5:
            crop = crop.flip(2)
        return torch.rot90(crop, int(torch.randint(4, ())), (1, 2))


def nt_xent(a: Tensor, b: Tensor, temperature: float = 0.1) -> Tensor:
    """NT-Xent of two views, (n, d) each."""
    z = functional.normalize(torch.cat([a, b]).float(), dim=1)
    logits = z @ z.T / temperature
    logits.fill_diagonal_(float("-inf"))
    n = len(a)
    target = torch.cat([torch.arange(n, 2 * n), torch.arange(n)]).to(a.device)
    return functional.cross_entropy(logits, target)


def lightly_loss() -> Loss | None:
    """lightly's NT-Xent where it imports."""
    try:
        from lightly.loss import NTXentLoss
    except (ImportError, RuntimeError):  # a torchvision that is not of this torch raises the latter
        return None
    loss: Loss = NTXentLoss(temperature=0.1)
    return loss


def views_on_device(images: Tensor, crop: int) -> Tensor:
    """A random resized crop of each image (B, C, H, W), flipped."""
    n = len(images)
    scale = torch.empty(n, device=images.device).uniform_(0.2, 1.0).sqrt()
    shift = (torch.rand(n, 2, device=images.device) * 2 - 1) * (1 - scale)[:, None]
    theta = torch.zeros(n, 2, 3, device=images.device)
    theta[:, 0, 0] = scale * (torch.randint(0, 2, (n,), device=images.device) * 2 - 1)
    theta[:, 1, 1] = scale
    theta[:, :, 2] = shift
    grid = functional.affine_grid(theta, [n, images.shape[1], crop, crop], align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def held(images: Tensor, steps: int, crop: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Two views of the same images on the device, step after step."""
    for _ in range(steps):
        yield views_on_device(images, crop), views_on_device(images, crop)


class Training:
    """The model and its loop. widths: of the encoder's embedding, inside the head, and of what the loss compares."""

    def __init__(self, encoder: nn.Module, widths: tuple[int, int, int], device: torch.device, loss: Loss) -> None:
        width, hidden, out = widths
        head = nn.Sequential(nn.Linear(width, hidden), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, out))
        self.model = nn.Sequential(encoder, head).to(device).train()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, weight_decay=0.05)
        self.device, self.loss = device, loss

    def run(self, batches: Iterator[tuple[Tensor, Tensor]]) -> tuple[int, float, float]:
        """Train on the batches: images, seconds, and the seconds of these spent waiting for batches."""
        _wait(self.device)
        began_s, waited_s, n_images = time.perf_counter(), 0.0, 0
        while True:
            asked_s = time.perf_counter()
            batch = next(batches, None)
            waited_s += time.perf_counter() - asked_s
            if batch is None:
                break
            a, b = (view.to(self.device, non_blocking=True) for view in batch)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda"):
                embeddings = self.model(torch.cat([a, b]))
            loss = self.loss(*embeddings.chunk(2))
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item()  # to show it
            n_images += len(a)
        _wait(self.device)
        return n_images, time.perf_counter() - began_s, waited_s


def loader(folder: Path, length: int, batch_size: int, crop: int, workers: int) -> DataLoader[tuple[Tensor, Tensor]]:
    """Batches of the views of files, workers staying from epoch to epoch."""
    return DataLoader(
        Files(folder, length, crop),
        batch_size,
        shuffle=True,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        drop_last=True,
        persistent_workers=workers > 0,
    )


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
