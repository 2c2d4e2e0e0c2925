"""What a setting may say: text in, value out.

Rules of this file: a parser raises `ValueError` with what would have been right, as in "give …";
where the text came from is its caller's business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeAlias, cast, get_args

from ..core.errors import ConfigError
from ..core.types import ID_BYTES_MAX, Address
from ..net.addresses import SERVICE_PREFIX, is_loopback, is_service_name, service_of
from ..net.tls import check_peer_names

if TYPE_CHECKING:
    from ..logs.loggers import Format, Level

PORT_MAX: Final = 65535
_DURATION: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)(us|ms|s|min|h)")
_SECONDS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0}
_SIZE: Final = re.compile(r"([0-9]+)(B|KiB|MiB|GiB|TiB|kB|MB|GB|TB)?")
_BINARY: Final = {"": 1, "B": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40}
_BYTES: Final[dict[str, int]] = _BINARY | {"kB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_YES_NO: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}

Parser: TypeAlias = Callable[[str], object]


def parse_name(text: str) -> str:
    """A node's or a cluster's name."""
    if not 0 < len(text.encode()) <= ID_BYTES_MAX or text != text.strip() or "=" in text:
        raise ValueError(
            f"give a name of 1 to {ID_BYTES_MAX} bytes without '=' and without spaces around it"
        )
    return text


def parse_address(text: str) -> Address:
    """ "HOST:PORT"; an IPv6 host stands in brackets."""
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("give HOST:PORT, with an IPv6 address in brackets, as [::1]:7000")
    if not colon or not host or host != host.strip() or "/" in host:
        raise ValueError("give HOST:PORT, as 127.0.0.1:7000")
    if not port.isascii() or not port.isdigit() or not 0 < int(port) <= PORT_MAX:
        raise ValueError(f"the port is {port!r}: give one from 1 to {PORT_MAX}")
    return host, int(port)


def parse_local_address(text: str) -> Address:
    """ "HOST:PORT" of this machine; port 0 is a free one."""
    is_free = text.endswith(":0")
    host, port = parse_address(f"{text[:-1]}1" if is_free else text)
    if not is_loopback(host):
        raise ValueError(f"{host!r} is not this machine alone: give 127.0.0.1 or [::1]")
    return host, 0 if is_free else port


def parse_seed(text: str) -> Address:
    """ "HOST:PORT", or "srv+NAME" for the SRV records of a name, which have the ports."""
    if not is_service_name(text):
        return parse_address(text)
    name = service_of(text)
    if not name or ":" in name or name != name.strip():
        raise ValueError(
            f"give {SERVICE_PREFIX}NAME without a port, which SRV records have, as "
            f"{SERVICE_PREFIX}_trioraft._tcp.example.org"
        )
    return text, 0


def parse_peer(text: str) -> tuple[str, Address]:
    """ "ID=HOST:PORT"."""
    name, address = _named(text)
    return name, parse_address(address)


def parse_named_seed(text: str) -> tuple[str, Address]:
    """ "ID=HOST:PORT", or "ID=srv+NAME"."""
    name, address = _named(text)
    return name, parse_seed(address)


def _named(text: str) -> tuple[str, str]:
    name, equals, rest = text.partition("=")
    if not equals:
        raise ValueError("give ID=HOST:PORT, as 1=127.0.0.1:7001")
    return parse_name(name), rest


def parse_path(text: str) -> Path:
    """A file or directory; absolute from here on."""
    if not text or "\0" in text:
        raise ValueError("give a path")
    return Path(text).absolute()


def parse_peer_names(text: str) -> tuple[str, ...]:
    """Patterns of DNS names, with commas between them."""
    patterns = tuple(re.findall(r"[^,\s]+", text))
    try:
        check_peer_names(patterns)
    except ConfigError:
        raise ValueError(
            "give names with commas, a star within one label, as node-*.example"
        ) from None
    return patterns


def parse_bool(text: str) -> bool:
    """ "true" or "false"."""
    value = _YES_NO.get(text.lower())
    if value is None:
        raise ValueError("give true or false")
    return value


def parse_count(text: str) -> int:
    """A whole number from 1."""
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError("give a whole number of at least 1")
    return int(text)


def parse_fraction(text: str) -> float:
    """A number from 0 to below 1."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < 1:
        raise ValueError("give a fraction from 0 to below 1, as 0.01")
    return value


def parse_duration_s(text: str) -> float:
    """A time with its unit, as "150ms", in seconds."""
    match = _DURATION.fullmatch(text)
    if match is None or not float(match[1]):
        raise ValueError("give a time with its unit (us, ms, s, min, h), as 50ms")
    return float(match[1]) * _SECONDS[match[2]]


def parse_duration_range_s(text: str) -> tuple[float, float]:
    """Two times, as "150ms-300ms", in seconds."""
    low, _, high = text.partition("-")
    try:
        return parse_duration_s(low), parse_duration_s(high)
    except ValueError:
        raise ValueError("give two times with their units, as 150ms-300ms") from None


def parse_bytes(text: str) -> int:
    """A size, as "64MiB" or "1000000", in bytes."""
    match = _SIZE.fullmatch(text)
    if match is None or not int(match[1]):
        raise ValueError("give a size in bytes or with its unit (KiB, MiB, GiB), as 64MiB")
    return int(match[1]) * _BYTES[match[2] or ""]


def parse_format(text: str) -> Format:
    """How the log looks."""
    from ..logs.loggers import Format  # only who serves has a log

    return cast("Format", _one_of(text, get_args(Format)))


def parse_level(text: str) -> Level:
    """What the log leaves out."""
    from ..logs.loggers import Level  # likewise

    return cast("Level", _one_of(text, get_args(Level)))


def _one_of(text: str, words: tuple[str, ...]) -> str:
    if text not in words:
        raise ValueError(f"give one of {', '.join(words)}")
    return text
