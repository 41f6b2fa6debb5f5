"""What a training node lacks is not missed: each half in a process in which it cannot be found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from geossl_data.bands import S1_BANDS, S2_BANDS
from geossl_data.pretrain.encoders import build_encoder
from geossl_data.pretrain.export import EncoderInfo, export_encoder
from geossl_data.pretrain.normalisation import Normalisation

TESTS = Path(__file__).resolve().parents[1]

SCRIPT = '''
import json, os, sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

NEEDED_BY_TORCH = {
    "torch", "torchgen", "functorch", "triton", "numpy", "filelock", "typing_extensions", "sympy", "mpmath",
    "networkx", "jinja2", "markupsafe", "fsspec", "setuptools", "_distutils_hack", "pkg_resources", "nvidia", "cuda",
}
ABSENT_IN_TRAINING = {
    "rasterio", "affine", "geopandas", "pyogrio", "shapely", "pyproj", "pystac", "pystac_client", "stac_geoparquet",
    "planetary_computer", "odc", "xarray", "rioxarray", "dask", "distributed", "obstore", "aiohttp", "matplotlib",
    "webdataset", "typer", "rich",
}


class Hiding:
    """A finder of modules that does not find those of hidden packages."""

    def __init__(self, finder):
        self.finder = finder

    def __getattr__(self, name):
        return getattr(self.finder, name)

    def find_spec(self, name, path=None, target=None):
        return None if hidden(name.partition(".")[0]) else self.finder.find_spec(name, path, target)


folder = Path(sys.argv[1])
there = {*sys.builtin_module_names, *sys.stdlib_module_names, *NEEDED_BY_TORCH, "geossl_data", "pretrain"}
hidden = lambda package: package not in there and not package.startswith("_sysconfigdata_")
sys.meta_path[:] = [Hiding(finder) for finder in sys.meta_path]
import torch
torch.set_num_threads(1)
os.chdir(folder)
sys.path.insert(0, sys.argv[2])
from pretrain.tiny import tiny_encoders

code = Path("s2+s1.md").read_text().split("```python\\n")[1].split("```")[0]
names = {}
with tiny_encoders():
    exec(code, names)
found = {
    "sensor": names["info"].sensor,
    "shape": list(names["embedding"].shape),
}

hidden = ABSENT_IN_TRAINING.__contains__
import geossl_data.pretrain
modules = [module.name for module in walk_packages(geossl_data.pretrain.__path__, "geossl_data.pretrain.")]
for name in modules:
    import_module(name)
from geossl_data.evaluation.bench import ProbeOptions
from geossl_data.evaluation.probes import evaluate, exported
from geossl_data.pretrain.loop import train
from geossl_data.pretrain.options import TrainingOptions
from pretrain.toy_shards import ToyShards

shards = ToyShards({"train": 8, "test": 4}, n_looks=1, size=12)
with tiny_encoders():
    train(shards, folder / "run", TrainingOptions(encoder="tiny", epochs=1, batch_size=4, device="cpu"))
    options = ProbeOptions(k=3, seeds=1, supervised=False, device="cpu")
    evaluate(shards, exported(folder / "run"), ["all"], options, out=folder / "run")
found |= {"modules": modules, "geographic": sorted(ABSENT_IN_TRAINING & set(sys.modules))}
print(json.dumps(found))
'''


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """What the process says of itself; one for all tests, since loading torch is most of its time."""
    folder = tmp_path_factory.mktemp("absent")
    s2 = Normalisation(sensor="s2", bands=S2_BANDS, mean=(2000.0,) * 12, std=(800.0,) * 12)
    s1 = Normalisation(sensor="s1", bands=S1_BANDS, mean=(-11.0, -18.0), std=(4.0, 4.0))
    info = EncoderInfo(encoder="tiny", patch=8, normalisations=(s2, s1), objective="simclr", epochs=1, crop=12)
    export_encoder(folder / "s2+s1.safetensors", build_encoder("tiny", info.bands, seed=0), info)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(TESTS)],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "scores.json").is_file()
    return dict(json.loads(done.stdout.splitlines()[-1]))


def test_an_exported_encoder_needs_torch_alone(found: dict[str, object]) -> None:
    assert (found["sensor"], found["shape"]) == ("s2+s1", [1, 16])


def test_training_and_probing_need_no_geographic_package(found: dict[str, object]) -> None:
    assert {"geossl_data.pretrain.loop", "geossl_data.pretrain.objectives.moco"} <= set(found["modules"])  # type: ignore[call-overload]
    assert found["geographic"] == []
