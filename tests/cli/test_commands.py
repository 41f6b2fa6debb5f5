"""The command line as a person meets it: help, hints, and one clear line for every bad input."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from geossl_data.recipe import SECTIONS, PlacesOptions, PretrainOptions, Recipe, read_recipe, write_recipe

Command = Callable[..., tuple[int, str, str]]
COMMANDS = (
    "fetch", "sample", "shard", "pretrain", "evaluate", "info", "verify", "report", "export", "run", "sweep", "config",
    "sandbox", "demo",
)  # fmt: skip


def refused(answer: tuple[int, str, str]) -> str:
    """The one line of an error: exit code 1, nothing on standard output, no traceback."""
    code, out, err = answer
    assert code == 1
    assert out == ""
    *_, last = err.splitlines()
    assert last.startswith("geossl: ")
    assert "Traceback" not in err
    return last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(geossl: Command, command: str) -> None:
    code, out, _ = geossl(command, "--help")
    assert code == 0
    assert f"Example: geossl {command}" in " ".join(out.split())


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.name)
def test_every_option_of_the_recipe_is_an_option_of_its_command(geossl: Command, section: type) -> None:
    command = "sample" if section is PlacesOptions else section.name
    out = " ".join(geossl(command, "--help")[1].split())
    for name, info in section.model_fields.items():
        assert f"--{(info.alias or name).replace('_', '-')}" in out
        assert " ".join(info.description.split()[:3]) in out


def test_help_imports_nothing_heavy() -> None:
    heavy = {"torch", "rasterio", "geopandas", "shapely", "pystac_client", "dask", "pyarrow", "numpy", "rich"}
    code = (
        "import sys; from geossl_cli.app import app\nfrom geossl_cli.console import run_app\n"
        f"run_app(app, ['--help']); print(sorted({heavy!r} & set(sys.modules)))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "[]"


def test_no_arguments_show_the_commands(geossl: Command) -> None:
    _, out, err = geossl()
    assert all(command in out + err for command in COMMANDS)


def test_config_prints_a_recipe_that_can_be_read(geossl: Command, tmp_path: Path) -> None:
    code, out, _ = geossl("config", tmp_path)
    assert code == 0
    assert Recipe.model_validate(yaml.safe_load(out)) == Recipe.complete()


def test_inside_a_dataset_folder_no_other_word_is_needed(
    geossl: Command, dataset: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(dataset)
    for command in (["sample", "--strategy", "geography"], ["shard"], ["verify"], ["config"]):
        assert geossl(*command)[0] == 0
    code, out, _ = geossl("sample")
    assert code == 0
    assert out.rstrip().endswith("geossl shard")


def test_options_typed_stay_in_the_recipe(geossl: Command, dataset: Path) -> None:
    assert geossl("sample", dataset, "--count", 12, "--strategy", "uniform")[0] == 0
    code, out, _ = geossl("sample", dataset, "--json")
    assert (code, json.loads(out)["facts"]["places drawn"]) == (0, 12)
    assert "strategy: uniform" in geossl("config", dataset)[1]


def test_hints_name_the_folder(geossl: Command, dataset: Path) -> None:
    assert f"geossl sample {dataset} --strategy geography" in geossl("fetch", dataset)[1]


def test_an_unknown_catalog(geossl: Command, tmp_path: Path) -> None:
    err = refused(geossl("fetch", tmp_path / "d", "--catalog", "planetary-computr"))
    assert "planetary-computr" in err
    assert "earth-search" in err
    assert not (tmp_path / "d").exists()


def test_a_value_that_is_none_of_the_choices(geossl: Command, tmp_path: Path) -> None:
    err = refused(geossl("sample", tmp_path, "--looks", "all"))
    assert err == (
        "geossl: Invalid value for '--looks': 'all' is not one of 'single', 'seasons', 'long', 'series'; see --help"
    )


def test_a_catalog_that_is_no_catalog(geossl: Command, tmp_path: Path) -> None:
    (tmp_path / "c.parquet").write_text("not parquet")
    refused(geossl("fetch", tmp_path / "d", "--catalog", tmp_path / "c.parquet"))
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--bbox", -150, -40, -140, -30],
        ["--from", "1999-01-01", "--to", "1999-12-31"],
    ],
)
def test_an_empty_result(geossl: Command, tmp_path: Path, planet: Path, options: list[object]) -> None:
    refused(geossl("fetch", tmp_path / "d", "--catalog", planet, *options))
    assert not (tmp_path / "d").exists()


def test_no_pairs_within_the_gap(geossl: Command, tmp_path: Path, planet: Path) -> None:
    err = refused(geossl("fetch", tmp_path / "d", "--catalog", planet, "--max-gap", "0.01h"))
    assert "no pairs within 0.01h" in err
    assert not (tmp_path / "d").exists()


def test_an_api_needs_dates_and_ground(geossl: Command, tmp_path: Path) -> None:
    err = refused(geossl("fetch", tmp_path / "d"))
    assert "--bbox" in err or "--from" in err


def test_a_count_larger_than_the_candidates(geossl: Command, dataset: Path) -> None:
    before = (dataset / "samples.parquet").read_bytes()
    assert "asked for 100000 places" in refused(geossl("sample", dataset, "--count", 100000))
    assert (dataset / "samples.parquet").read_bytes() == before


def test_a_size_larger_than_the_scenes(geossl: Command, dataset: Path) -> None:
    assert "the largest side that fits" in refused(geossl("sample", dataset, "--size", 2046))


@pytest.mark.parametrize("command", ["sample", "shard", "pretrain", "evaluate", "info", "verify", "export"])
def test_a_folder_that_is_not_a_dataset(geossl: Command, tmp_path: Path, command: str) -> None:
    assert "not a geossl dataset" in refused(geossl(command, tmp_path))
    assert "no such folder" in refused(geossl(command, tmp_path / "absent"))
    assert list(tmp_path.iterdir()) == []


def test_a_stage_too_early_says_which_comes_first(geossl: Command, tmp_path: Path, planet: Path) -> None:
    assert geossl("fetch", tmp_path, "--catalog", planet)[0] == 0
    assert "run `geossl sample` first" in refused(geossl("shard", tmp_path))
    assert "run `geossl shard` first" in refused(geossl("pretrain", tmp_path))


def test_a_recipe_with_an_unknown_key(geossl: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("sample:\n  sise: 96\n")
    assert "unknown key 'sample.sise'" in refused(geossl("run", tmp_path / "recipe.yaml", "--out", tmp_path / "d"))
    assert "unknown key 'sample.sise'" in refused(geossl("sample", tmp_path))


def test_an_empty_recipe(geossl: Command, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("geossl: 0.1.0\n")
    assert "no section to run" in refused(geossl("run", tmp_path / "recipe.yaml", "--out", tmp_path / "d"))


def test_values_out_of_bounds(geossl: Command, dataset: Path) -> None:
    assert "size 100 is not a multiple of 6; try 96" in refused(geossl("sample", dataset, "--size", 100))
    assert "is not a duration" in refused(geossl("fetch", dataset, "--max-gap", "soon"))
    assert "fetch: from: Input should be a valid date" in refused(geossl("fetch", dataset, "--from", "2022-13-01"))
    assert "'--strategy'" in refused(geossl("sample", dataset, "--strategy", "city"))
    assert "No such option" in refused(geossl("sample", dataset, "--colour"))


def test_an_unknown_run(geossl: Command, dataset: Path) -> None:
    assert "no run named 'other'" in refused(geossl("evaluate", dataset, "--run", "other"))


def test_an_evaluation_of_what_is_not_there(geossl: Command, dataset: Path, tmp_path: Path) -> None:
    assert "neither an exported encoder nor a folder" in refused(geossl("evaluate", dataset, "--encoder", tmp_path))
    assert "evaluate: task: 'classify' is not all, or some of" in refused(
        geossl("evaluate", dataset, "--task", "classify")
    )
    assert "percents above 0" in refused(geossl("evaluate", dataset, "--fractions", "0,10"))
    (tmp_path / "run.safetensors").write_bytes(b"no encoder")
    assert "run.safetensors" in refused(geossl("evaluate", dataset, "--encoder", tmp_path / "run.safetensors"))


def test_statistics_of_a_file_are_checked(geossl: Command, dataset: Path, tmp_path: Path) -> None:
    (dataset / "runs" / "default").mkdir(parents=True, exist_ok=True)
    (dataset / "runs" / "default" / "exported").mkdir(exist_ok=True)
    (dataset / "runs" / "default" / "exported" / "s2.safetensors").touch()
    path = tmp_path / "statistics.json"
    for text, message in (
        ("[1, 2]", "expected JSON like"),
        ('{"B04": [1, 0]}', "band B04 has no finite mean and deviation above 0"),
        ("{}", "no band in it"),
    ):
        path.write_text(text)
        assert message in refused(geossl("evaluate", dataset, "--statistics", path))
    assert "statistics are auto, own, encoder or a JSON file" in refused(
        geossl("evaluate", dataset, "--statistics", tmp_path / "none.json")
    )


def test_a_sweep_that_cannot_be(geossl: Command, tmp_path: Path) -> None:
    assert "no such sweep" in refused(geossl("sweep", tmp_path / "none.yaml", "--out", tmp_path / "study"))
    (tmp_path / "spec.yaml").write_text("pool: here\ngrid: {pretrain.objectiv: [moco]}\n")
    assert "did you mean pretrain.objective?" in refused(
        geossl("sweep", tmp_path / "spec.yaml", "--out", tmp_path / "study")
    )


def test_a_run_with_other_options_is_not_overwritten(geossl: Command, dataset: Path) -> None:
    fast = ["--encoder", "resnet10", "--batch-size", 8, "--crop", 48]
    assert geossl("pretrain", dataset, *fast, "--epochs", 1)[0] == 0
    assert "--fresh" in refused(geossl("pretrain", dataset, *fast, "--epochs", 1, "--temperature", 0.2))
    assert geossl("pretrain", dataset, *fast, "--epochs", 1, "--temperature", 0.2, "--fresh")[0] == 0


def test_no_gpu(geossl: Command, dataset: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert "cuda" in refused(geossl("pretrain", dataset, "--device", "cuda")).lower()


def test_verify_tells_errors_from_warnings(geossl: Command, dataset: Path) -> None:
    code, out, _ = geossl("verify", dataset, "--deep", "--json")
    assert (code, json.loads(out)) == (0, {"stage": "verify", "errors": 0, "warnings": 0, "findings": []})
    (dataset / ".half.77.tmp").write_text("")
    code, out, _ = geossl("verify", dataset)
    assert code == 0
    assert "warning .half.77.tmp left by a process that did not end" in " ".join(out.split())
    assert "verify\n  no errors, 1 warnings" in out
    (dataset / "notes.txt").write_text("https://x/y?sig=CANARY")
    code, out, err = geossl("verify", dataset)
    assert code == 1
    assert "holds a signed address, a password or a key" in out
    assert err == f"geossl: {dataset}: 2 findings, 1 of them errors; `geossl shard --fresh` writes the shards anew\n"
    code, out, err = geossl("verify", dataset, "--json")
    told = json.loads(out)
    assert (code, told["errors"], told["warnings"]) == (1, 1, 1)
    assert [finding["severity"] for finding in told["findings"]] == ["warning", "error"]
    assert "CANARY" not in out + err


def test_verify_holds_gaps_against_the_recipe(geossl: Command, dataset: Path) -> None:
    recipe = dataset / "recipe.yaml"
    text = recipe.read_text()
    recipe.write_text(text.replace("max_gap: 3d", "max_gap: 0.01h"))
    code, out, _ = geossl("verify", dataset)
    assert code == 1
    assert "h apart, the recipe allows 0.01 h" in out
    recipe.write_text(text.replace("max_gap: 3d", "max_gap: wide"))
    code, out, _ = geossl("verify", dataset)
    assert code == 1
    assert "'wide' is not a duration" in out


def test_export_writes_a_place_and_refuses_to_replace_it(geossl: Command, dataset: Path, tmp_path: Path) -> None:
    code, out, _ = geossl("export", dataset, "--position", 3, "--json")
    assert code == 0
    place = Path(json.loads(out)["facts"]["folder"])
    assert place.parent == dataset / "exported" / "geotiff"
    assert sorted(path.suffix for path in place.iterdir())[0] == ".json"
    assert "there already" in refused(geossl("export", dataset, "--key", place.name))
    assert geossl("export", dataset, "--key", place.name, "--fresh")[0] == 0
    assert geossl("export", dataset, "--to", "npy", "--split", "val", "--out", tmp_path / "npy")[0] == 0
    assert geossl("verify", tmp_path / "npy", "--deep")[0] == 0
    code, out, _ = geossl("export", dataset, "--to", "npy", "--split", "val", "--out", tmp_path / "npy")
    assert (code, "nothing to do" in out) == (0, True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--key", "a", "--position", 1], "--key and --position exclude each other"),
        (["--key", "a", "--all"], "exclude each other"),
        (["--key", "nowhere"], "no sample 'nowhere' among"),
        (["--position", 4000], "no sample '4000' among"),
        (["--to", "zarr"], "geotiff"),
    ],
)
def test_export_of_what_is_not_there(geossl: Command, dataset: Path, options: list[object], message: str) -> None:
    assert message in refused(geossl("export", dataset, *options))


def test_what_belongs_to_a_method_does_not_carry_over_to_another(dataset: Path) -> None:
    from geossl_cli.options import merged

    options = PretrainOptions(learning_rate=5e-4, views="season", encoder="resnet10", epochs=7)
    write_recipe(dataset / "recipe.yaml", read_recipe(dataset / "recipe.yaml").with_section(options))
    same = merged(dataset, PretrainOptions, {"epochs": 9, "objective": None})
    assert isinstance(same, PretrainOptions)
    assert (same.learning_rate, same.views, same.encoder, same.epochs) == (5e-4, "season", "resnet10", 9)
    other = merged(dataset, PretrainOptions, {"objective": "byol", "clip": 3.0})
    assert isinstance(other, PretrainOptions)
    assert (other.learning_rate, other.views, other.encoder, other.epochs) == (None, "auto", "resnet10", 7)
    assert (other.objective, other.clip) == ("byol", 3.0)


def test_a_rehearsal_trains_nothing(geossl: Command, dataset: Path) -> None:
    fast = ("--encoder", "resnet10", "--crop", 24, "--batch-size", 16)
    code, out, err = geossl("pretrain", dataset, *fast, "--objective", "moco", "--queue", 64, "--dry-run")
    assert (code, err) == (0, "")
    assert "moco" in out
    assert "sgd, learning rate 0.001875" in out
    assert not (dataset / "runs").exists()
    assert "no checkpoint to go on from" in refused(geossl("pretrain", dataset, *fast, "--resume"))
    assert "exclude each other" in refused(geossl("pretrain", dataset, *fast, "--resume", "--dry-run"))


def test_one_of_several_processes_speaks(monkeypatch: pytest.MonkeyPatch) -> None:
    from geossl_cli import console

    assert console.speaks()
    monkeypatch.setenv("RANK", "1")
    assert not console.speaks()
