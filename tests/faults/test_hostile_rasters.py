"""Rasters on hosts that break off, stall, refuse, redirect and lie: right pixels or a reason, and never a secret."""

import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from faults.blobs import CANARY, Cloud, Reply, Seen, serve_cloud

from geossl_data.errors import TokenError
from geossl_data.grid import Grid
from geossl_data.scenes import http as http_module
from geossl_data.scenes.http import Http
from geossl_data.scenes.opening import access as access_module
from geossl_data.scenes.opening import transport as transport_module
from geossl_data.scenes.opening.access import Access
from geossl_data.scenes.opening.signing import Signer
from geossl_data.tiles.rasters import Rasters, SkipError

WEST, NORTH, SIDE, WINDOW = 600_000.0, 5_000_040.0, 512, 60

ARRAY = np.random.default_rng(0).integers(1, 60_000, (SIDE, SIDE)).astype(np.uint16)


def write_raster(path: Path, **profile: object) -> None:
    import rasterio
    from rasterio.transform import Affine

    options = {"driver": "GTiff", "count": 1, "height": SIDE, "width": SIDE, "dtype": "uint16", "crs": "EPSG:32632"}
    options |= {"transform": Affine(10, 0, WEST, 0, -10, NORTH), "tiled": True, "blockxsize": 64, "blockysize": 64}
    with rasterio.open(path, "w", **(options | profile)) as dataset:
        dataset.write(ARRAY, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("blobs")
    write_raster(made / "a.tif")
    for name in "bcdefgh":
        (made / f"{name}.tif").hardlink_to(made / "a.tif")
    write_raster(made / "packbits.tif", compress="packbits")
    (made / "half.tif").write_bytes((made / "a.tif").read_bytes()[:5000])
    target = made / "secret.tif"
    write_raster(target)
    (made / "vrt.tif").write_text(
        f'<VRTDataset rasterXSize="{SIDE}" rasterYSize="{SIDE}"><VRTRasterBand dataType="UInt16" band="1">'
        f"<SimpleSource><SourceFilename>{target}</SourceFilename><SourceBand>1</SourceBand></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    (made / "html.tif").write_text(f"<html><body>{CANARY}</body></html>")
    return made


@pytest.fixture
def cloud(folder: Path) -> Iterator[Cloud]:
    with serve_cloud(folder) as served:
        yield served


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between tries, and little patience."""

    async def sleep(seconds: float) -> None:
        return None

    monkeypatch.setattr(Http, "pause", lambda self, seconds: None)
    monkeypatch.setattr(http_module, "READ_S", 1.0)
    monkeypatch.setattr(access_module, "sleep", sleep)
    monkeypatch.setattr(transport_module, "READ_S", 1.0)


def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hardly any patience, where nothing is to be had anyway."""
    monkeypatch.setattr(http_module, "READ_S", 0.1)
    monkeypatch.setattr(transport_module, "READ_S", 0.1)
    monkeypatch.setattr(access_module, "TRY_S", 0.2)


@pytest.fixture
def rasters(cloud: Cloud) -> Iterator[Rasters]:
    with Rasters(access=Access(Signer(cloud.service()))) as opened:
        yield opened


def grid(at: int) -> Grid:
    return Grid(32632, WEST + 10 * at, NORTH - 10 * at, 10.0, WINDOW, WINDOW)


def assert_pixels(rasters: Rasters, href: str, at: int) -> None:
    window = rasters.read_exact(href, grid(at), "uint16")
    np.testing.assert_array_equal(window, ARRAY[at : at + WINDOW, at : at + WINDOW])


def outcome(rasters: Rasters, href: str, at: int) -> str:
    """The reason for which a window was skipped, or that its pixels are right."""
    try:
        assert_pixels(rasters, href, at)
    except SkipError as error:
        return "a secret" if CANARY in str(error) else error.reason
    return "right"


def skipped(rasters: Rasters, href: str, at: int = 0) -> SkipError:
    with pytest.raises(SkipError) as caught:
        rasters.read_exact(href, grid(at), "uint16")
    assert "\n" not in str(caught.value)
    return caught.value


# ---------------------------------------------------------------------------------------------------- signatures


def test_1_01_a_signature_that_ends_in_the_middle_of_a_run(cloud: Cloud, rasters: Rasters) -> None:
    hrefs = [cloud.href(f"{name}.tif") for name in "abcdefgh"]
    for href in hrefs:
        assert_pixels(rasters, href, 0)
    assert len(cloud.tokens) == 1
    cloud.generation = 2
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: assert_pixels(rasters, hrefs[number % 8], 7 * number), range(64)))
    assert len(cloud.tokens) == 2
    before = len(cloud.blobs)
    assert_pixels(rasters, hrefs[0], 0)
    assert len(cloud.blobs) - before <= 1


def test_1_07_an_account_that_refuses_everything_costs_its_own_samples_only(cloud: Cloud, rasters: Rasters) -> None:
    cloud.forbidden = {"optical"}
    reasons = {skipped(rasters, cloud.href(f"{name}.tif")).reason for name in "abcdefgh"}
    assert reasons == {"forbidden"}
    assert_pixels(rasters, cloud.href("a.tif", "radar", "s1"), 100)
    refused = [seen for seen in cloud.blobs if "/optical/" in seen.path]
    assert len(cloud.tokens) == 3
    assert len(refused) <= 6


def test_1_04_32_threads_on_many_files_ask_for_one_token_per_container(cloud: Cloud, rasters: Rasters) -> None:
    hrefs = [cloud.href(f"{name}.tif", *at) for name in "abcd" for at in (("optical", "s2"), ("radar", "s1"))]
    with ThreadPoolExecutor(32) as pool:
        list(pool.map(lambda number: assert_pixels(rasters, hrefs[number % 8], 5 * number), range(64)))
    assert sorted(seen.path.split("/sas/")[1] for seen in cloud.tokens) == ["optical/s2", "radar/s1"]


def test_a_token_service_that_is_down_ends_the_work_instead_of_skipping_it(cloud: Cloud, rasters: Rasters) -> None:
    cloud.on_token = lambda seen, number: Reply(500)
    with pytest.raises(TokenError, match="no access token for optical/s2") as caught:
        rasters.read_exact(cloud.href("a.tif"), grid(0), "uint16")
    assert not isinstance(caught.value, SkipError)
    cloud.on_token = lambda seen, number: None
    assert_pixels(rasters, cloud.href("a.tif", "radar", "s1"), 0)


# ---------------------------------------------------------------------------------------------------- bad answers


def is_look(seen: Seen) -> bool:
    return seen.headers.get("range", "").startswith("bytes=0-")


def sometimes(cloud: Cloud, every: int, reply: Callable[[Reply], Reply]) -> None:
    """Spoil every so manieth answer that is no look; `reply` gets what would have been right."""
    count = iter(range(1, 10_000_000))

    def behave(seen: Seen, number: int) -> Reply | None:
        return None if is_look(seen) or next(count) % every else reply(cloud.file(seen))

    cloud.on_blob = behave


SPOILT: dict[str, Callable[[Reply], Reply]] = {
    "2-01 busy": lambda right: Reply(503),
    "2-01 broken": lambda right: Reply(500),
    "2-03 cut": lambda right: Reply(right.status, right.headers, right.content, cut=len(right.content) // 2),
    "2-04 short": lambda right: Reply(right.status, right.headers, right.content[: len(right.content) // 2]),
    "2-05 refused": lambda right: Reply(403),
    "2-05 web page": lambda right: Reply(200, {}, b"<html>maintenance</html>" * 10),
    "2-06 stalled": lambda right: Reply(right.status, right.headers, right.content, cut=10, stall=True),
}


@pytest.mark.parametrize("how", SPOILT)
def test_a_host_that_fails_now_and_then_gives_the_right_pixels_or_a_reason(
    cloud: Cloud, rasters: Rasters, how: str
) -> None:
    sometimes(cloud, 7, SPOILT[how])
    reasons = [outcome(rasters, cloud.href("a.tif"), at) for at in range(0, 440, 110)]
    assert reasons.count("right") >= 3
    assert set(reasons) <= {"right", "read-failed", "forbidden"}


@pytest.mark.parametrize("how", SPOILT)
def test_2_07_a_host_that_failed_is_asked_again(
    cloud: Cloud, rasters: Rasters, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    sometimes(cloud, 1, SPOILT[how])
    with monkeypatch.context() as patch:
        if "stalled" in how:
            impatient(patch)
        assert outcome(rasters, cloud.href("a.tif"), 0) in {"right", "read-failed", "forbidden", "not-geotiff"}
    assert len(cloud.blobs) < 40
    cloud.on_blob = lambda seen, number: None
    assert outcome(rasters, cloud.href("a.tif"), 200) == "right"


@pytest.mark.parametrize("how", SPOILT)
def test_2_02_what_goes_through_rasterio_is_read_as_carefully(cloud: Cloud, rasters: Rasters, how: str) -> None:
    sometimes(cloud, 2, SPOILT[how])
    found = [outcome(rasters, cloud.href("packbits.tif"), at) for at in (0, 200, 440)]
    assert found.count("right") >= 2
    assert set(found) <= {"right", "read-failed", "forbidden"}


def test_1_30_and_1_31_missing_and_wrong_files_cost_one_request(cloud: Cloud, rasters: Rasters) -> None:
    assert skipped(rasters, cloud.href("absent.tif")).reason == "missing-asset"
    assert skipped(rasters, cloud.href("html.tif")).reason == "not-geotiff"
    assert skipped(rasters, cloud.href("vrt.tif")).reason == "not-geotiff"
    assert len(cloud.blobs) == 3


# ---------------------------------------------------------------------------------------------------- hostile hosts


def test_6_04_a_redirect_is_followed_by_nobody(cloud: Cloud, rasters: Rasters, folder: Path) -> None:
    with serve_cloud(folder) as other:
        cloud.on_blob = lambda seen, number: Reply(302, {"Location": f"{other.url}/optical/s2/a.tif"})
        assert skipped(rasters, cloud.href("a.tif")).reason == "refused-address"
        assert other.blobs + other.tokens + other.others == []


def test_6_05_a_vrt_that_follows_a_harmless_look_reads_no_other_file(
    cloud: Cloud, rasters: Rasters, folder: Path
) -> None:
    def behave(seen: Seen, number: int) -> Reply | None:
        return None if is_look(seen) else cloud.file(Seen("/vrt.tif", seen.query, seen.headers))

    cloud.on_blob = behave
    assert skipped(rasters, cloud.href("a.tif")).reason == "read-failed"


def test_1_06_a_foreign_container_is_opened_without_a_token(cloud: Cloud, rasters: Rasters) -> None:
    assert skipped(rasters, cloud.href("a.tif", "evil", "s2")).reason == "forbidden"
    assert cloud.tokens == []
    assert [seen.query for seen in cloud.blobs] == [""]


def test_6_13_netrc_and_key_reach_no_blob_host(
    cloud: Cloud, rasters: Rasters, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
        (tmp_path / name).chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    monkeypatch.setenv("SOME_KEY", f"{CANARY}KEY")
    access = Access(Signer(cloud.service(key_variable="SOME_KEY")))
    with Rasters(access=access) as opened:
        assert_pixels(opened, cloud.href("a.tif"), 0)
    assert len(cloud.blobs) > 1
    assert all(
        {"authorization", "ocp-apim-subscription-key", "cookie"}.isdisjoint(seen.headers) for seen in cloud.blobs
    )


# ---------------------------------------------------------------------------------------------------- the canary


def mode_403(cloud: Cloud) -> None:
    cloud.forbidden = {"optical"}


def mode_404(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(404, content=CANARY.encode())


def mode_truncated(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: cloud.file(Seen("/half.tif", seen.query, seen.headers))


def mode_timeout(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(206, content=b"II*\x00" * 4, cut=1, stall=True)


def mode_gdal_timeout(cloud: Cloud) -> None:
    sometimes(cloud, 1, SPOILT["2-06 stalled"])


def mode_expired(cloud: Cloud) -> None:
    cloud.valid_s = -timedelta(hours=1).total_seconds()


def mode_refused_later(cloud: Cloud) -> None:
    sometimes(cloud, 1, SPOILT["2-05 refused"])


def mode_redirect(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(302, {"Location": f"http://127.0.0.2:1/a.tif?{seen.query}"})


def mode_html(cloud: Cloud) -> None:
    cloud.on_blob = lambda seen, number: Reply(200, content=f"<html>{seen.query}</html>".encode())


def mode_later_html(cloud: Cloud) -> None:
    sometimes(cloud, 1, SPOILT["2-05 web page"])


def mode_service_down(cloud: Cloud) -> None:
    cloud.on_token = lambda seen, number: Reply(503, content=CANARY.encode())


def mode_service_nonsense(cloud: Cloud) -> None:
    cloud.on_token = lambda seen, number: Reply(content=f'{{"token": "{CANARY}"}}'.encode())


MODES = [value for name, value in sorted(globals().items()) if name.startswith("mode_")]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.__name__)
def test_6_01_and_6_02_no_secret_is_shown_however_a_read_fails(
    cloud: Cloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    mode: Callable[[Cloud], None],
) -> None:
    monkeypatch.setenv("SOME_KEY", f"{CANARY}KEY")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.DEBUG)
    for name in [*logging.root.manager.loggerDict]:
        logger = logging.getLogger(name)
        monkeypatch.setattr(logger, "level", logging.DEBUG)
        logger.manager._clear_cache()
    signer = Signer(cloud.service(key_variable="SOME_KEY"))
    access = Access(signer)
    mode(cloud)
    if "timeout" in mode.__name__:
        impatient(monkeypatch)
    with Rasters(access=access) as rasters:
        with pytest.raises((SkipError, TokenError)) as caught:
            rasters.read_exact(cloud.href("a.tif"), grid(0), "uint16")
        shown = [*map(repr, (rasters, access, signer, caught.value)), str(vars(rasters)), str(vars(signer))]
        shown += [str(part) for part in traceback.format_exception(caught.value)]
        pickled = pickle.dumps(rasters) + pickle.dumps(caught.value)
    error: BaseException | None = caught.value
    while error is not None:
        shown.append(repr(error))
        error = error.__context__ or error.__cause__
    out, err = capfd.readouterr()
    assert cloud.tokens, "the mode was not met"
    assert "GET" in caplog.text, "the client's own log was listened to"
    assert CANARY not in caplog.text
    assert CANARY not in "".join(shown)
    assert CANARY not in out + err
    assert CANARY.encode() not in pickled
    for path in tmp_path.rglob("*"):
        assert CANARY not in path.name
        assert not path.is_file() or CANARY.encode() not in path.read_bytes()
