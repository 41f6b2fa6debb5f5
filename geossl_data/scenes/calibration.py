"""When a Sentinel-1 platform's products became fit for use."""

from datetime import UTC, datetime

CALIBRATED_SINCE = {"sentinel-1c": datetime(2025, 5, 20, tzinfo=UTC)}
"""Platform → first acquisition with calibrated radiometry; earlier ones were made during commissioning.

Source: nasa/opera-sds#143, which drops Sentinel-1C before 2025-05-20.
"""


def uncalibrated(platform: str | None, acquired: datetime) -> str | None:
    """Why an acquisition's radiometry is not to be used, in words; None where nothing is known against it."""
    since = CALIBRATED_SINCE.get(platform or "")
    if since is None or acquired >= since:
        return None
    return f"{platform} is calibrated only since {since.date()}"
