"""From nothing to a probed encoder in a notebook's worth of lines, on the built-in planet.

python examples/quickstart.py FOLDER
"""

import sys
from pathlib import Path

import geossl_data as gd


def main(folder: Path) -> None:
    """Build a tiny planet in `folder`/planet, make a dataset of it in `folder`/data, train and probe."""
    catalog = gd.build_sandbox(folder / "planet", size="tiny", seed=0)
    data = folder / "data"
    print(gd.pipeline.fetch(data, gd.FetchOptions(catalog=str(catalog))).facts)
    places = gd.SampleOptions(strategy="geography", size=60, looks="seasons", block_km=1.0, test=0.3)
    print(gd.pipeline.sample(data, places).facts)
    print(gd.pipeline.shard(data).facts)

    shards = gd.open_shards(data, "train")
    look = shards.read(0, 0, ["s2_10m", "s1"])
    print(shards.entries[0].key, {name: (array.dtype, array.shape) for name, array in look.items()})
    print(shards.meta(0)["looks"][0]["s2"]["id"])

    print(gd.pipeline.pretrain(data, gd.PretrainOptions(encoder="resnet10", epochs=2, batch_size=16)).facts)
    for row in gd.pipeline.evaluate(data, gd.EvaluateOptions(seeds=1, supervised=False)).table:
        print(*row, sep="\t")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
