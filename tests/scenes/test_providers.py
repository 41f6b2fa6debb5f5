"""Catalogs are found by name, URL and file, and nothing else is taken for one."""

from pathlib import Path

import pytest

from geossl_data.errors import CatalogError
from geossl_data.scenes.providers import PROVIDERS, provider_for

PC, ES = PROVIDERS["planetary-computer"], PROVIDERS["earth-search"]


def test_catalogs_by_name_url_and_file(tmp_path: Path) -> None:
    assert provider_for("planetary-computer") is PC
    assert provider_for("https://earth-search.aws.element84.com/v1/") is ES
    assert provider_for("http://127.0.0.1:8080/stac").url == "http://127.0.0.1:8080/stac"
    assert provider_for(str(tmp_path / "any.parquet")).url is None
    assert ES.collections == ("sentinel-2-l2a", "sentinel-1-grd")


@pytest.mark.parametrize(
    ("catalog", "message"),
    [
        ("planetary", "unknown catalog 'planetary'; known: planetary-computer, earth-search, or give a STAC API URL"),
        ("ftp://example.org", "not the URL of a STAC API"),
        ("https://user:CANARY@example.org/stac", "without password, query and fragment"),
        ("https://example.org/stac?token=CANARY", "without password, query and fragment"),
    ],
)
def test_other_catalogs_are_refused(catalog: str, message: str) -> None:
    with pytest.raises(CatalogError, match=message) as caught:
        provider_for(catalog)
    assert "CANARY" not in str(caught.value)
