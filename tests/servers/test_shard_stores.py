"""Shards written to, resumed in and read from an object store: the real S3 server of moto, on loopback."""

import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from servers import moto as moto_server
from servers.moto import Moto, serve_moto
from shards.conftest import hashes_of, make_factory, make_plans, make_tile

import geossl_data as gd
from geossl_data import pipeline
from geossl_data.errors import DatasetError, ShardError
from geossl_data.recipe import ShardOptions
from geossl_data.records import Sample
from geossl_data.shards.store import Store
from geossl_data.shards.writing.journal import JOURNAL_FOLDER
from geossl_data.shards.writing.writer import write_shards
from geossl_data.tiles.build import Tile

PLANS = make_plans()
SECRET = "canary-secret"
Geossl = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def moto() -> Iterator[Moto]:
    if not moto_server.is_installed():
        pytest.skip(f"no moto: {moto_server.ABSENT}")
    with serve_moto() as served:
        yield served


@pytest.fixture
def url(moto: Moto, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """A folder of a bucket of the test's own, and the environment that opens it."""
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT", "AWS_SESSION_TOKEN", "AWS_SKIP_SIGNATURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", moto.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    bucket = "b" + hashlib.sha256(request.node.name.encode()).hexdigest()[:20]
    moto.create(bucket)
    return f"s3://{bucket}/a%20folder"


def tars_in(store: Store) -> dict[str, str | None]:
    """Name → hash of the shards of a store."""
    return {name: store.sha256(name) for name in store.sizes() if name.endswith(".tar")}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Name → hash of the shards of an uninterrupted run into a folder."""
    folder = tmp_path_factory.mktemp("whole")
    write_shards(PLANS, folder, make_factory(make_tile), fingerprint="f")
    return {name: digest for name, digest in hashes_of(folder).items() if name.endswith(".tar")}


def refused(_: Sample) -> Tile:
    raise AssertionError("it was built once more")


@pytest.mark.parametrize("workers", [1, 2])
def test_a_store_gets_the_bytes_that_a_folder_gets(
    tmp_path: Path, url: str, whole: dict[str, str], workers: int
) -> None:
    store = Store(url)
    reports = write_shards(
        PLANS, tmp_path / "one", make_factory(make_tile), workers=workers, fingerprint="f", store=store
    )
    assert tars_in(store) == whole
    assert all(name.startswith(JOURNAL_FOLDER) for name in hashes_of(tmp_path / "one")), "only the journal stays here"
    # Nothing is to be done again, neither here nor on a machine that has nothing but the address.
    for folder in ("one", "another"):
        again = write_shards(PLANS, tmp_path / folder, make_factory(refused), fingerprint="f", store=store)
        assert again == reports
    assert hashes_of(tmp_path / "one") == hashes_of(tmp_path / "another")


def test_a_run_that_was_cut_off_goes_on(tmp_path: Path, url: str, whole: dict[str, str]) -> None:
    store, built = Store(url), []

    def failing(sample: Sample) -> Tile:
        built.append(sample.key)
        if sample.key == PLANS[1].samples[2].key:
            raise KeyboardInterrupt
        return make_tile(sample)

    with pytest.raises(KeyboardInterrupt):
        write_shards(PLANS, tmp_path, make_factory(failing), fingerprint="f", store=store)
    assert tars_in(store) == {name: whole[name] for name in [f"{PLANS[0].name}.tar"]}
    # Cut off between the shard and its entry: it is there already, with the same bytes.
    store.delete(f"{JOURNAL_FOLDER}/{PLANS[0].name}.json")
    (tmp_path / JOURNAL_FOLDER / f"{PLANS[0].name}.json").unlink()
    write_shards(PLANS, tmp_path, make_factory(make_tile), fingerprint="f", store=store)
    assert tars_in(store) == whole
    assert {f"{JOURNAL_FOLDER}/{plan.name}.json" for plan in PLANS} <= set(store.sizes())
    assert list(tmp_path.rglob(".*.tmp")) == []


def test_the_shards_of_others_are_never_written_over(tmp_path: Path, url: str) -> None:
    store, name = Store(url), f"{PLANS[0].name}.tar"
    assert store.put_if_absent(name, b"theirs")
    assert not store.put_if_absent(name, b"ours")
    with pytest.raises(ShardError, match=f"a%20folder/{name}: another run's shard is there"):
        write_shards(PLANS, tmp_path, make_factory(make_tile), fingerprint="f", store=store)
    assert store.read_all(name) == b"theirs"
    assert list(tmp_path.rglob(".*.tmp")) == []


def test_a_store_as_a_folder(url: str, tmp_path: Path) -> None:
    store = pickle.loads(pickle.dumps(Store(f"{url}/")))
    large = bytes(range(256)) * 40_000
    (tmp_path / "file").write_bytes(large)
    store.put("x/large", tmp_path / "file")
    store.put("x/large", tmp_path / "file")
    assert store.sizes() == {"x/large": len(large)}
    assert store.below("x").sizes() == {"large": len(large)}
    assert store.sha256("x/large") == hashlib.sha256(large).hexdigest()
    assert (store.sha256("none"), store.nbytes("none")) == (None, None)
    store.delete("x/large")
    store.delete("x/large")
    assert store.sizes() == {}


@pytest.mark.parametrize("act", [lambda s: s.put("a", b"b"), lambda s: s.put_if_absent("a", b"b"), lambda s: s.sizes()])
def test_a_store_that_refuses_says_so_in_one_line_without_a_secret(moto: Moto, url: str, act: Callable) -> None:
    with pytest.raises(ShardError, match=r"no-such-bucket/x/a?: .*bucket") as caught:
        act(Store("s3://no-such-bucket/x"))
    assert SECRET not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_dataset_whose_shards_lie_in_a_store(dataset: Path, built: Path, url: str, geossl: Geossl) -> None:
    options = ShardOptions(shard_mb=1, output=url)
    with pytest.raises(DatasetError, match="--fresh"):
        pipeline.shard(dataset, options)
    assert pipeline.shard(dataset, options, fresh=True).fresh
    assert not pipeline.shard(dataset).fresh
    assert list((dataset / "shards").glob("*.tar")) == []
    store = Store(url)
    expected = {f"shards/{path.name}": path.stat().st_size for path in (built / "shards").glob("*.tar")}
    sizes = store.sizes()
    assert {name: size for name, size in sizes.items() if name.endswith(".tar")} == expected
    for name in ("manifest.parquet", "collection.json", "croissant.json", "LICENSE.txt"):
        assert store.read_all(name) == (dataset / name).read_bytes()
    with gd.open_shards(url) as there, gd.open_shards(dataset) as by_folder, gd.open_shards(built) as here:
        assert there.notes["location"] == url
        for index, look in here.looks[:6]:
            for name, array in here.read(index, look).items():
                assert (there.read(index, look, [name])[name] == array).all()
                assert (by_folder.read(index, look, [name])[name] == array).all()
        assert there.meta(0) == here.meta(0)

    # What got lost in the store is cut again; what is only half published is published.
    lost = next(iter(expected))
    store.delete(lost)
    assert pipeline.shard(dataset).fresh
    assert store.sizes()[lost] == expected[lost]
    store.delete("manifest.parquet")
    assert pipeline.shard(dataset).fresh
    assert store.sizes() == sizes
    for path in [dataset / "recipe.yaml", *dataset.glob("*.json"), *(dataset / "shards" / JOURNAL_FOLDER).iterdir()]:
        assert SECRET not in path.read_text()

    # Another dataset stays out.
    other = Path(shutil.copytree(built, dataset.parent / "other"))
    code, _, err = geossl("shard", other, "--output", url, "--fresh", "--min-valid", "0.5")
    assert (code, err.count("\n")) == (1, 1)
    assert "of other options, are there, and they stay" in err

    # Starting over deletes what is ours and nothing else.
    store.put("shards/train-000099.tar", b"theirs")
    store.put("notes.txt", b"theirs")
    assert pipeline.shard(dataset, ShardOptions(shard_mb=1), fresh=True).fresh
    assert set(store.sizes()) == {"shards/train-000099.tar", "notes.txt"}
    assert pipeline.digest(dataset) == pipeline.digest(built)


def test_journal_entries_hold_no_secret_and_name_the_place(tmp_path: Path, url: str) -> None:
    write_shards(PLANS[:1], tmp_path, make_factory(make_tile), fingerprint="f", store=Store(url))
    entry = (tmp_path / JOURNAL_FOLDER / f"{PLANS[0].name}.json").read_text()
    assert json.loads(entry)["location"] == url
    assert SECRET not in entry


@pytest.mark.parametrize(
    "given", ["s3://key:word@bucket/x", "s3://bucket/x?token=word", "https://host/x", "/tmp/x", "s3://", "s3:///x"]
)
def test_an_address_with_a_secret_or_of_something_else_is_refused_unseen(
    given: str, tmp_path: Path, geossl: Geossl
) -> None:
    code, _, err = geossl("shard", tmp_path, "--output", given)
    assert (code, err.count("\n")) == (1, 1)
    assert "not the URL of an object store" in err
    assert "word" not in err
