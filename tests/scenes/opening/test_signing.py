"""Signatures go below the containers that are known, anew each time they end or are refused, and show up nowhere."""

import json
import logging
import pickle
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from faults.blobs import CANARY, Cloud, Reply, serve_cloud

from geossl_data.errors import TokenAlreadyExpired, TokenError
from geossl_data.scenes import http as http_module
from geossl_data.scenes.http import Http
from geossl_data.scenes.opening import tokens as tokens_module
from geossl_data.scenes.opening.signing import Signer
from geossl_data.scenes.providers import PLANETARY_COMPUTER_TOKENS, TokenService


@pytest.fixture
def cloud(tmp_path: Path) -> Iterator[Cloud]:
    with serve_cloud(tmp_path) as served:
        yield served


@pytest.fixture(autouse=True)
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses that were made, without making them."""
    made: list[float] = []
    monkeypatch.setattr(Http, "pause", lambda self, seconds: made.append(seconds))
    return made


def test_1_04_one_request_serves_32_threads(cloud: Cloud) -> None:
    start = threading.Barrier(32)

    def sign(number: int) -> str:
        start.wait()
        return Signer(cloud.service())(cloud.href(f"{number}.tif"))

    with ThreadPoolExecutor(32) as pool:
        signed = list(pool.map(sign, range(32)))
    assert signed == [f"{cloud.href(f'{number}.tif')}?{signed[0].partition('?')[2]}" for number in range(32)]
    assert [seen.path.removeprefix(cloud.root) for seen in cloud.tokens] == ["/sas/optical/s2"]


def test_1_02_an_old_signature_is_replaced_and_a_fragment_dropped(cloud: Cloud) -> None:
    sign, bare = Signer(cloud.service()), cloud.href("B02.tif")
    fresh = sign(bare)
    assert f"sig={CANARY}1" in fresh
    assert sign(f"{bare}?st=2020-01-01&se=2020-01-02T00:00:00Z&sp=rl&sig=OLD") == fresh
    assert sign(f"{bare}?version=3#page") == fresh
    assert sign(fresh) == fresh


OUTSIDE = [
    "{host}/optical/s2/B02.tif",
    "{url}/optical/s2-evil/B02.tif",
    "{url}/optical/s2",
    "{url}/optical/s1/B02.tif",
    "{url}/optical2/s2/B02.tif",
    "{url}/optical/S2/B02.tif",
    "{url}/optical/s2/../s3/B02.tif",
    "{url}/optical/s2/%2e%2e/s3/B02.tif",
    "{url}/optical/s2/.%2E%2fs3/B02.tif",
    "{url}/optical/s2/a\\..\\..\\B02.tif",
    "{url}/optical%2Fs2/B02.tif",
    "{url}//optical/s2/B02.tif",
    "/data/optical/s2/B02.tif",
    "s3://optical/s2/B02.tif",
    "https://127.0.0.1/optical/s2/B02.tif",
    "http://[::1/optical/s2/B02.tif",
]


@pytest.mark.parametrize("pattern", OUTSIDE)
def test_1_06_nobody_else_gets_a_token(cloud: Cloud, pattern: str) -> None:
    href = pattern.format(url=cloud.url, host=cloud.host)
    sign = Signer(cloud.service())
    assert sign(href) == href
    assert sign.renewed(href) == href
    user = href.replace("http://", "http://user@")
    assert sign(user) == user
    assert cloud.tokens == []


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net/other/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2-evil/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net.evil.org/sentinel2-l2/B02.tif",
        "https://evil.org/https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B02.tif",
        "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net:8443/sentinel2-l2/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net@evil.org/sentinel2-l2/B02.tif",
    ],
)
def test_1_06_nobody_posing_as_the_planetary_computer_gets_a_token(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, href: str
) -> None:
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{cloud.url}/sas")
    sign = Signer(PLANETARY_COMPUTER_TOKENS)
    assert sign(href) == href
    assert cloud.tokens == []
    known = "https://Sentinel2l2a01.blob.core.windows.net:443/sentinel2-l2/35/X/QA/B02.tif"
    assert sign(known).startswith(f"{known}?se=")


def test_a_catalog_without_tokens_signs_nothing() -> None:
    sign = Signer(None)
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B02.tif?sig=x"
    assert sign(href) == sign.renewed(href) == pickle.loads(pickle.dumps(sign))(href) == href


# ---------------------------------------------------------------------------------------------------- expiry


def token_reply(expiry_s: float | None, se_s: float | None) -> Reply:
    now = datetime.now(UTC)
    se = "" if se_s is None else f"se={(now + timedelta(seconds=se_s)).strftime('%Y-%m-%dT%H%%3A%M%%3A%SZ')}&"
    content = {"token": f"{se}sig={CANARY}"}
    if expiry_s is not None:
        content["msft:expiry"] = (now + timedelta(seconds=expiry_s)).isoformat()
    return Reply(content=json.dumps(content).encode())


@pytest.mark.parametrize(
    ("expiry_s", "se_s", "lifetime_s"), [(3600, 600, 600), (600, 3600, 600), (None, 900, 900), (900, None, 900)]
)
def test_the_earlier_end_of_a_token_counts(
    cloud: Cloud, expiry_s: float | None, se_s: float | None, lifetime_s: float
) -> None:
    cloud.on_token = lambda seen, number: token_reply(expiry_s, se_s)
    token = tokens_module.ask_service(cloud.service(), ("optical", "s2"))
    assert abs(token.valid_until - time.monotonic() - lifetime_s) < 5


@pytest.mark.parametrize("ahead_s", [-86_400.0, 7_200.0, 3e8])
def test_1_05_a_wrong_clock_of_ours_costs_one_request(cloud: Cloud, ahead_s: float) -> None:
    cloud.clock_ahead_s = ahead_s
    sign = Signer(cloud.service())
    for number in range(10):
        sign(cloud.href(f"{number}.tif"))
    assert len(cloud.tokens) == 1


@pytest.mark.parametrize(
    ("ahead_s", "tells_time", "advice"),
    [
        (0.0, True, r"by its own clock: try again later$"),
        (7200.0, True, r"try again later \(this machine's clock is -7\d\d\d s ahead of it\)$"),
        (-7200.0, True, r"try again later \(this machine's clock is 7\d\d\d s ahead of it\)$"),
        (0.0, False, r"check this machine's clock$"),
    ],
)
def test_1_05_a_token_born_expired_makes_no_storm(cloud: Cloud, ahead_s: float, tells_time: bool, advice: str) -> None:
    cloud.valid_s, cloud.clock_ahead_s, cloud.tells_time = -3600.0, ahead_s, tells_time
    sign = Signer(cloud.service())
    for _ in range(10):
        with pytest.raises(TokenAlreadyExpired, match=f"hands out expired tokens for optical/s2; .*{advice}") as caught:
            sign(cloud.href("B02.tif"))
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert len(cloud.tokens) == 3


# ---------------------------------------------------------------------------------------------------- refusals


def test_1_01_a_refused_token_is_renewed_once_for_32_threads(cloud: Cloud) -> None:
    sign = Signer(cloud.service())
    old = sign(cloud.href("B02.tif"))
    cloud.generation = 2
    with ThreadPoolExecutor(32) as pool:
        renewed = set(pool.map(sign.renewed, [old] * 32))
    assert [url.rpartition("=")[2] for url in renewed] == [f"{CANARY}2"]
    assert len(cloud.tokens) == 2
    assert sign.renewed(old) in renewed
    assert len(cloud.tokens) == 2


def test_1_07_a_container_that_refuses_everything_does_not_stop_others(cloud: Cloud) -> None:
    sign, shown = Signer(cloud.service()), set()
    for number in [*range(20)] * 3:
        try:
            sign.renewed(sign(cloud.href(f"{number}.tif")))
        except TokenError as error:
            shown.add(str(error))
    assert shown == {"optical/s2: refuses fresh access tokens; try again later"}
    assert len(cloud.tokens) == 2
    assert CANARY in sign(cloud.href("vv.tif", "radar", "s1"))
    assert len(cloud.tokens) == 3


# ---------------------------------------------------------------------------------------------------- the service


def test_1_03_a_service_that_never_answers(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "READ_S", 0.05)
    cloud.on_token = lambda seen, number: Reply(content=b"x", cut=0, stall=True)
    with pytest.raises(TokenError, match=r"no access token for optical/s2: .*no answer in time"):
        Signer(cloud.service())(cloud.href("B02.tif"))
    assert len(cloud.tokens) == 2


def test_1_03_a_service_that_drips(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens_module, "DEADLINE_S", 0.2)
    cloud.on_token = lambda seen, number: Reply(content=b" " * 100, drip_s=0.05)
    with pytest.raises(TokenError, match=r"no access token for optical/s2: .* try again later"):
        Signer(cloud.service())(cloud.href("B02.tif"))
    assert cloud.n_dripped < 50
    assert len(cloud.tokens) == 1


@pytest.mark.parametrize(
    "content",
    [
        b"<html>maintenance</html>",
        b"[]",
        b"null",
        b'{"token": "sig=CANARYbdf0c2"}',
        b'{"token": "", "msft:expiry": "2999-01-01T00:00:00Z"}',
        b'{"token": 7, "msft:expiry": "2999-01-01T00:00:00Z"}',
        b'{"token": "sig=CANARYbdf0c2", "msft:expiry": 7}',
        b'{"token": "sig=CANARYbdf0c2\\r\\nHost: evil", "msft:expiry": "2999-01-01T00:00:00Z"}',
        b'{"token": "sig=CANARYbdf0c2#", "msft:expiry": "2999-01-01T00:00:00Z"}',
        b"[" * 60_000,
        b" " * 100_000,
    ],
    ids=range(11),
)
def test_a_service_that_answers_nonsense(cloud: Cloud, content: bytes) -> None:
    cloud.on_token = lambda seen, number: Reply(content=content)
    sign = Signer(cloud.service())
    for _ in range(3):
        with pytest.raises(TokenError, match=r"^no access token for optical/s2: ") as caught:
            sign(cloud.href("B02.tif"))
        assert CANARY not in "".join(traceback.format_exception(caught.value))
    assert len(cloud.tokens) == 1


def test_a_service_that_is_busy_is_waited_for(cloud: Cloud, waits: list[float]) -> None:
    cloud.on_token = lambda seen, number: Reply(429, {"Retry-After": "7"}) if number < 3 else None
    assert CANARY in Signer(cloud.service())(cloud.href("B02.tif"))
    assert waits == [7.0, 7.0]


@pytest.mark.parametrize("url", ["ftp://host/sas", "file:///etc/passwd", "https://user:CANARYbdf0c2@host/", "nowhere"])
def test_an_address_that_is_no_service_is_one_clear_line(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("SOME_SAS_URL", url)
    with pytest.raises(TokenError, match="not the address of a token service; expected https://host/path") as caught:
        Signer(cloud.service(url_variable="SOME_SAS_URL"))(cloud.href("B02.tif"))
    assert CANARY not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- the key


def keyed(cloud: Cloud, monkeypatch: pytest.MonkeyPatch, **changes: str) -> Signer:
    monkeypatch.setenv("SOME_KEY", f"{CANARY}KEY")
    return Signer(cloud.service(key_variable="SOME_KEY", **changes))


def test_6_03_the_key_reaches_the_service_and_nothing_else(
    cloud: Cloud, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    sign = keyed(cloud, monkeypatch)
    sign(cloud.href("B02.tif"))
    assert [seen.headers.get("ocp-apim-subscription-key") for seen in cloud.tokens] == [f"{CANARY}KEY"]
    pickled = pickle.dumps(sign)
    assert CANARY.encode() not in pickled
    assert CANARY not in f"{sign!r}{sign}{sign.__dict__}{caplog.text}"
    assert repr(sign) == "Signer(optical/s2, radar/s1)"


def test_6_06_the_key_follows_no_redirect(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serve_cloud(tmp_path) as other:
        cloud.on_token = lambda seen, number: Reply(302, {"Location": f"{other.url}/sas/optical/s2?{CANARY}"})
        with pytest.raises(TokenError, match="sends us to another host") as caught:
            keyed(cloud, monkeypatch)(cloud.href("B02.tif"))
        assert other.tokens + other.others == []
    assert CANARY not in "".join(traceback.format_exception(caught.value))


def test_the_key_is_not_sent_in_clear_beyond_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "x")
    sent: list[dict[str, str]] = []

    def request(self: Http, method: str, url: str, headers: dict[str, str], **_: object) -> http_module.Answer:
        sent.append(headers)
        return http_module.Answer(200, {}, b'{"token": "sig=x", "msft:expiry": "2999-01-01T00:00:00Z"}')

    monkeypatch.setattr(Http, "request", request)
    for scheme in ("http", "https"):
        service = TokenService(url=f"{scheme}://mirror.example/sas", containers={}, key_variable="SOME_KEY")
        tokens_module.ask_service(service, ("optical", "s2"))
    assert sent == [{}, {"Ocp-Apim-Subscription-Key": "x"}]


def test_6_13_netrc_stays_at_home(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login user password {CANARY}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    Signer(cloud.service())(cloud.href("B02.tif"))
    assert [seen.headers.get("authorization") for seen in cloud.tokens] == [None]


def test_signers_of_one_process_share_its_tokens(cloud: Cloud) -> None:
    first = Signer(cloud.service())
    second: Callable[[str], str] = pickle.loads(pickle.dumps(first))
    assert first(cloud.href("a.tif"))[-8:] == second(cloud.href("a.tif"))[-8:]
    assert len(cloud.tokens) == 1
