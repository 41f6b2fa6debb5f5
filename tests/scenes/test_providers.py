"""Catalogs are found by name, URL and file, and nothing else is taken for one."""

from pathlib import Path

import pytest

from geossl_data.bands import S2_BANDS
from geossl_data.errors import CatalogError
from geossl_data.scenes.providers import PROVIDERS, provider_for

PC, ES = PROVIDERS["planetary-computer"], PROVIDERS["earth-search"]


def test_catalogs_by_name_url_and_file(tmp_path: Path) -> None:
    assert provider_for("planetary-computer") is PC
    assert provider_for("https://earth-search.aws.element84.com/v1/") is ES
    assert provider_for("http://127.0.0.1:8080/stac").url == "http://127.0.0.1:8080/stac"
    for snapshot in (
        str(tmp_path / "any.parquet"),
        str(tmp_path),
        "https://example.org/a.parquet",
        "s3://bucket/items",
    ):
        assert provider_for(snapshot).url is None


def test_what_is_searched_for_a_product() -> None:
    assert PC.collection("L2A") == "sentinel-2-l2a"
    assert [ES.collection(product) for product in ("L2A", "L1C", "GRD")] == [
        *("sentinel-2-l2a", "sentinel-2-l1c", "sentinel-1-grd")
    ]
    with pytest.raises(CatalogError, match="earth-search: has no RTC products; it has L2A, L1C, GRD: choose with --s2"):
        ES.collection("RTC")


def test_no_two_providers_share_an_address() -> None:
    urls = [provider.url for provider in PROVIDERS.values()]
    assert len(set(urls)) == len(urls)
    assert all(set(provider.aliases.values()) >= set(S2_BANDS) for provider in PROVIDERS.values())


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ("planetary", "unknown catalog 'planetary'; known: planetary-computer, earth-search, cdse, or give a STAC API"),
        ("ftp://example.org", "not the URL of a STAC API"),
        ("https://user:CANARY@example.org/stac", "without user and password"),
        ("s3://user:CANARY@bucket/x.parquet", "without user and password"),
        ("https://example.org/stac?token=CANARY", "without query and fragment"),
    ],
)
def test_other_catalogs_are_refused(catalog: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        provider_for(catalog)
    assert "CANARY" not in str(caught.value)
