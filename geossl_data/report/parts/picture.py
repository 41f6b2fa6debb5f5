"""A picture on the page, its bytes in the page itself."""

import base64
from dataclasses import dataclass, field

from geossl_data.errors import DatasetError
from geossl_data.report.words import escaped

_BEGINNINGS = {"png": b"\x89PNG\r\n\x1a\n", "jpeg": b"\xff\xd8\xff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A PNG, JPEG or WebP with what it shows; DatasetError for other bytes."""

    data: bytes = field(repr=False)
    """The file's bytes."""
    caption: str
    """Shown below it; what to see in it."""
    alt: str
    """Said in its place to those who do not see it."""

    def __post_init__(self) -> None:
        address_of(self.data, self.caption)

    def html(self, key: str) -> str:
        """The picture with its caption below."""
        image = f'<img alt="{escaped(self.alt)}" src="{address_of(self.data, self.caption)}">'
        return f'<figure class="picture">{image}<figcaption>{escaped(self.caption)}</figcaption></figure>'


def address_of(data: bytes, what: str) -> str:
    """A picture's bytes as an address of the page's own (data:); what: names the picture if it is refused.

    DatasetError unless the bytes begin as a PNG, a JPEG or a WebP does.
    """
    kind = next((kind for kind, beginning in _BEGINNINGS.items() if data.startswith(beginning)), None)
    if kind is None and data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "webp"
    if kind is None:
        raise DatasetError(f"the picture {what!r} is not a PNG, JPEG or WebP file; draw it again")
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
