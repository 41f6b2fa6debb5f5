"""Tokens are asked for once, for known containers only, and show up nowhere."""

import json
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from geossl_data.errors import ReadError
from geossl_data.scenes import signing
from geossl_data.scenes.signing import sign

HREF = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/35/X/QA/B02.tif"


@pytest.fixture
def tokens(loopback: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A token service on loopback; `valid_s` is how long its tokens live."""
    monkeypatch.setenv("PC_SDK_SAS_URL", f"{loopback.url}/token")
    monkeypatch.setattr(signing, "_TOKENS", {})
    monkeypatch.setattr(signing, "_FAILURES", {})
    loopback.valid_s = 3600

    def answer(method: str, path: str, body: Any, number: int) -> tuple[int, dict[str, str], str]:
        expiry = datetime.now(UTC) + timedelta(seconds=loopback.valid_s)
        return 200, {}, json.dumps({"token": f"sig=T{number}", "msft:expiry": expiry.isoformat()})

    loopback.answer = answer
    return loopback


def test_one_token_serves_many_threads(tokens: Any) -> None:
    signed: list[str] = []
    threads = [threading.Thread(target=lambda: signed.append(sign(HREF))) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert signed == [f"{HREF}?sig=T1"] * 16
    assert [path for _, path, _, _ in tokens.requests] == ["/token/sentinel2l2a01/sentinel2-l2"]


def test_an_old_signature_is_replaced(tokens: Any) -> None:
    assert sign(f"{HREF}?st=2020-01-01&se=2020-01-02&sp=rl&sig=OLD") == f"{HREF}?sig=T1"


@pytest.mark.parametrize(
    "href",
    [
        "https://evil.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net/other/B02.tif",
        "https://sentinel2l2a01.blob.core.windows.net.evil.org/sentinel2-l2/B02.tif",
        "http://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B02.tif",
        "https://example.org/B02.tif",
        "/data/B02.tif",
        "s3://bucket/B02.tif",
    ],
)
def test_nobody_else_gets_a_token(tokens: Any, href: str) -> None:
    assert sign(href) == href
    assert tokens.requests == []


def test_expired_tokens_make_no_storm(tokens: Any) -> None:
    tokens.valid_s = -3600
    with pytest.raises(ReadError, match="hands out expired tokens for sentinel2l2a01/sentinel2-l2"):
        sign(HREF)
    with pytest.raises(ReadError, match="expired tokens"):
        sign(HREF)
    assert len(tokens.requests) == 3


def test_a_token_service_that_answers_nonsense(tokens: Any) -> None:
    tokens.answer = lambda *_: (200, {}, json.dumps({"token": "sig=CANARY"}))
    with pytest.raises(ReadError, match="no access token for sentinel2l2a01/sentinel2-l2") as caught:
        sign(HREF)
    assert "CANARY" not in str(caught.value)
