"""Batches out of a dataset folder: with geossl's own reader, and with webdataset.

python examples/read_shards.py FOLDER
"""

import sys
from pathlib import Path

import geossl_data as gd


def own_reader(folder: Path) -> None:
    """Random access by byte range, decoded in threads straight into the batch; an exact epoch after the other."""
    with gd.open_shards(folder, "train") as shards:
        print(len(shards), "places of", shards.size_px, "pixels:", ", ".join(shards.members))

        # Every look of every place once an epoch. Numbers come as they are stored; `physical` says what they mean.
        batches = shards.batches(4, ["s2_10m", "s1"], seed=0)
        batch = next(iter(batches))
        decibels = shards.members["s1"].physical(batch["s1"])
        print("looks:", {name: (array.dtype.name, array.shape) for name, array in batch.items()})
        print(f"mean VV {decibels[:, 0].mean():.1f} dB")

        # It goes on with the next look wherever it was cut, also with another batch size or on more ranks.
        state = batches.state_dict()
        resumed = shards.batches(2, ["s2_10m", "s1"], seed=0, rank=0, world=2)
        resumed.load_state_dict(state)
        print("goes on after", resumed.position, "of", resumed.n_items, "looks, in", len(list(resumed)), "steps")

        # Two dates of each place, drawn afresh each epoch, as change-aware methods want them.
        pairs = next(iter(shards.batches(2, ["s2_10m"], looks=2, seed=0)))
        print("pairs of dates:", pairs["s2_10m"].shape, "looks", pairs["look"].tolist())


def through_webdataset(folder: Path) -> None:
    """The same looks as a webdataset pipeline, to be chained with its own batching and loaders."""
    dataset = gd.web_dataset(folder, "train", ["s2_10m", "s1"], seed=0)
    for item in dataset:
        print("webdataset:", item["__key__"], "look", item["look"], item["s2_10m"].shape, item["s1"].dtype)
        break


if __name__ == "__main__":
    own_reader(Path(sys.argv[1]))
    through_webdataset(Path(sys.argv[1]))
