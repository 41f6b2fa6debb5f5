"""Addresses of assets: which of those that an item names may be opened, and how they are written down.

An address is kept absolute and unsigned; what it carried of signatures, keys and passwords is gone before it reaches a
file, a log or a message.
"""

import ipaddress
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from geossl_data.errors import SceneError

_REMOTE_SCHEMES = ("http", "https", "s3", "abfs", "az", "gs")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_CONTROL = re.compile(r"[\x00-\x1f\x7f<>|\"\ud800-\udfff]")
_NOT_IN_URL = re.compile(r"[\s\\^`{}]")
_PLAIN = re.compile(r"https?://([A-Za-z0-9.-]+)/[A-Za-z0-9._~/+=-]*")
"""An address of a host, without user, port, query or fragment: as most are."""
_LONGEST_HREF = 4096
BLOB_HOST = ".blob.core.windows.net"
_SAS_KEY = re.compile(
    "sig|se|st|sp|sv|sr|spr|sip|si|ss|srt|sdd|ses|tn|rsc[cdelt]|skoid|sktid|skt|ske|sks|skv|saoid|suoid|scid"
)
"""Query entries of a shared access signature of Azure Storage."""
_SECRET_KEY = re.compile(
    "token|access_token|api_?key|key|subscription-key|password|credential|signature|expires|awsaccesskeyid"
    "|googleaccessid|x-amz-.*|x-goog-.*"
)
"""Query entries that sign an address or carry a key, on any host."""


class Hrefs(Mapping[str, str]):
    """Addresses by name, kept small: what all begin with is there once, which is most of a scene's memory.

    No address holds a line break, which `resolve_href` sees to.
    """

    __slots__ = ("_begin", "_names", "_rest")

    def __init__(self, hrefs: Mapping[str, str]) -> None:
        self._begin = _beginning(sorted(hrefs.values()))
        self._names = _same_names(tuple(hrefs))
        self._rest = "\n".join(href[len(self._begin) :] for href in hrefs.values())

    def __getitem__(self, name: str) -> str:
        try:
            return self._begin + self._rest.split("\n")[self._names.index(name)]
        except ValueError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __repr__(self) -> str:
        return repr(dict(self))


def _beginning(texts: Sequence[str]) -> str:
    """What sorted texts have in common at their beginning."""
    if not texts:
        return ""
    first, last = texts[0], texts[-1]
    # Halved instead of compared letter by letter: there are two of a hundred letters for every scene.
    length, most = 0, min(len(first), len(last))
    while length < most:
        middle = (length + most + 1) // 2
        if first[:middle] == last[:middle]:
            length = middle
        else:
            most = middle - 1
    return first[:length]


@lru_cache(maxsize=256)
def _same_names(names: tuple[str, ...]) -> tuple[str, ...]:
    """One tuple for all that are equal."""
    return names


def redact(href: str) -> str:
    """An address fit to show: without user, password, query and fragment, where signatures and tokens stand."""
    parts = split(href)
    if parts is None or "://" not in href:
        return href.split("?")[0].rpartition("@")[2][:200]
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))[:200]


def unsigned(href: str) -> str:
    """A URL without the query entries that sign it or carry a key, and without fragment; other entries stay."""
    parts = split(href)
    if parts is None or not (parts.query or parts.fragment):
        return href
    entries = parse_qsl(parts.query, keep_blank_values=True)
    names = {key.lower() for key, _ in entries}
    is_sas = "sig" in names or (parts.hostname or "").endswith(BLOB_HOST)
    kept = [
        (key, value)
        for key, value in entries
        if not (_SECRET_KEY.fullmatch(key.lower()) or (is_sas and _SAS_KEY.fullmatch(key.lower())))
    ]
    query = parts.query if len(kept) == len(entries) else urlencode(kept)
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def resolve_href(href: str, base: str) -> str:
    """The absolute, unsigned address of an asset.

    base: the catalog's own folder or URL. Allowed are http(s), s3, abfs, az and gs, and files below the folder of a
    catalog that is itself a file. A catalog on the network cannot point into this machine or its network, except at
    the very host it is on. Raises SceneError for everything else, with nothing secret in the text.
    """

    def refused(why: str) -> SceneError:
        return SceneError(f"address {redact(href)[:120]!r} {why}")

    base_host = host_of(base)
    if not href or len(href) > _LONGEST_HREF or _CONTROL.search(href):
        raise refused("is not a clean address")
    plain = _PLAIN.fullmatch(href)
    if plain is not None and _host_allowed(plain[1], base_host):
        return href
    if href.lower().startswith("/vsi"):
        raise refused("is a virtual path")
    if _SCHEME.match(href) is None:
        if base_host is None:
            return _local(unsigned(href) if "?" in href else href, base, refused)
        if href.startswith("/") and not href.startswith("//"):
            raise refused("is a local path in a catalog on the network")
        try:
            href = urljoin(base, href)
        except ValueError:
            raise refused("is not a clean address") from None
    parts = split(href)
    if parts is None or parts.scheme not in _REMOTE_SCHEMES or not parts.hostname or _NOT_IN_URL.search(href):
        raise refused(f"is neither a file of this catalog nor one of {', '.join(_REMOTE_SCHEMES)}")
    user = parts.netloc.rpartition("@")[0]
    if user and (parts.scheme != "abfs" or ":" in user):
        raise refused("carries a user name")
    if parts.scheme in ("http", "https") and not _host_allowed(parts.hostname, base_host):
        raise refused("points into a private network")
    return unsigned(href)


def _local(href: str, base: str, refused: Callable[[str], SceneError]) -> str:
    """A path below `base`, symbolic links followed."""
    folder = os.path.realpath(base)
    path = os.path.realpath(Path(folder, href))
    if os.path.commonpath([folder, path]) != folder or path == folder:
        raise refused("is not below the catalog's folder")
    return path


@lru_cache(maxsize=4096)
def split(url: str) -> SplitResult | None:
    """The parts of a URL; None where it cannot be taken apart."""
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return None
    return parts


@lru_cache(maxsize=64)
def host_of(base: str) -> str | None:
    """Host of a catalog on the network; None for a folder."""
    parts = split(base) if "://" in base else None
    return parts.hostname if parts is not None else None


_NUMERIC_HOST = re.compile(r"(?:0x[0-9a-f]*|\d+)(?:\.(?:0x[0-9a-f]*|\d+))*")
_PRIVATE_NAMES = ("localhost", "local", "internal", "localdomain", "lan", "home.arpa")
_METADATA_HOSTS = ("metadata.google.internal", "100.100.100.200", "fd00:ec2::254")


@lru_cache(maxsize=1024)
def _host_allowed(host: str, base_host: str | None) -> bool:
    """May an item point at this host? base_host: host of the catalog, None for a catalog that is a local file.

    Addresses from which machines of a cloud read their own credentials are never allowed. A local catalog is the
    user's own and may name hosts of the user's own network.
    """
    host = host.lower().rstrip(".")
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        if _NUMERIC_HOST.fullmatch(host) or host in _METADATA_HOSTS:
            return False
        private = "." not in host or host.endswith(tuple(f".{name}" for name in _PRIVATE_NAMES))
        return base_host is None or host == base_host or not private
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    if address.is_link_local or address.is_unspecified or address.is_multicast or str(address) in _METADATA_HOSTS:
        return False
    return base_host is None or host == base_host or address.is_global


def leads_inside(host: str, base_host: str | None) -> bool:
    """Does a host that an item points at turn out to be one of this machine's own network, though its name hid it?

    base_host: host of the catalog, None for a catalog that is a local file; both may lead anywhere but to addresses
    from which machines of a cloud read their own credentials. A name that nobody knows leads nowhere.
    """
    trusted = None if base_host is None or host.lower().rstrip(".") == base_host.lower().rstrip(".") else base_host
    if not _host_allowed(host, trusted):
        return True
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return not all(_host_allowed(str(address[0]), trusted) for *_, address in found)
