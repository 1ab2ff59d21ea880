"""What there is to set: names, help texts, defaults and types.

The only place that knows them. The command's flags and its ``--help``, the configuration file and its
generated sample all come from here. Reads nothing and checks one value at a time.
"""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from attrs import frozen
from oslo_config import cfg, types

from txglancecache.sizes import parse_size

GROUP = cfg.OptGroup(
    "glancecache", title="glancecache", help="The settings of one node, as `twistd glancecache` reads them."
)
_YEAR = 366 * 24 * 3600


class Size(types.ConfigType):
    """A number of bytes, as ``4096``, ``512MiB`` or ``10GB``."""

    def __init__(self, minimum: int = 0) -> None:
        super().__init__(type_name="size, such as 512MiB or 10GB")
        self.minimum = minimum

    def __call__(self, value: Any) -> int:
        count = value if isinstance(value, int) else parse_size(value)
        if count < self.minimum:
            raise ValueError(f"should be at least {self.minimum}")
        return count

    def _formatter(self, value: Any) -> str:
        return str(value)


class Seconds(types.ConfigType):
    """A span of time that a timer can wait: finite, not negative, at most a year."""

    def __init__(self, minimum: float = 0) -> None:
        super().__init__(type_name="seconds")
        self.minimum = minimum

    def __call__(self, value: Any) -> float:
        try:
            seconds = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number of seconds") from None
        if not math.isfinite(seconds) or not self.minimum <= seconds <= _YEAR:
            raise ValueError(f"should be between {self.minimum:g} and {_YEAR} seconds")
        return seconds

    def _formatter(self, value: Any) -> str:
        return str(value)


class OriginLocation(types.ConfigType):
    """Scheme, host and port of the origin. A path would break the links in Glance's answers."""

    def __init__(self) -> None:
        super().__init__(type_name="URL")

    def __call__(self, value: Any) -> str:
        text = str(value).removesuffix("/")
        try:
            parts = urlsplit(text)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            raise ValueError(f"{value!r} is not of the form http://HOST[:PORT] or https://HOST[:PORT]")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{value!r} should be scheme, host and port only")
        return text

    def _formatter(self, value: Any) -> str:
        return str(value)


class Network(types.ConfigType):
    """An IP address or network, such as ``10.1.0.0/16``."""

    def __init__(self) -> None:
        super().__init__(type_name="network")

    def __call__(self, value: Any) -> str:
        return str(ipaddress.ip_network(str(value).strip(), strict=False))

    def _formatter(self, value: Any) -> str:
        return str(value)


@frozen
class Section:
    """Options that are explained together."""

    title: str
    options: tuple[cfg.Opt, ...]


SECTIONS = (
    Section(
        "Where it stands",
        (
            cfg.Opt(
                "origin",
                type=OriginLocation(),
                metavar="URL",
                help="The Glance API to stand in front of, such as http://glance:9292. Required.",
            ),
            cfg.StrOpt(
                "listen",
                default="tcp:9393",
                metavar="ENDPOINT",
                help="Where the data site listens: any Twisted server endpoint (tcp:, tcp6:, ssl:, unix:, "
                "systemd:).",
            ),
            cfg.StrOpt(
                "manage",
                default="tcp:9394:interface=127.0.0.1",
                metavar="ENDPOINT",
                help="Where the management site listens. It asks nobody for a password, so this has to be a "
                "loopback address or a unix socket.",
            ),
            cfg.ListOpt(
                "trusted_proxies",
                item_type=Network(),
                default=[],
                metavar="NETWORKS",
                help="Comma-separated addresses and networks of the proxies and balancers in front of this "
                "one, whose X-Forwarded-* and Forwarded fields are kept. From anybody else they are "
                "replaced.",
            ),
        ),
    ),
    Section(
        "What it keeps",
        (
            cfg.StrOpt(
                "cache_dir",
                metavar="DIR",
                help="The directory that holds the cached images; made if absent. One process at a time may "
                "use it. Required.",
            ),
            cfg.Opt(
                "max_size",
                type=Size(minimum=1),
                default="10GiB",
                metavar="SIZE",
                help="The most bytes that cached images, partial ones included, may take.",
            ),
            cfg.Opt(
                "min_free",
                type=Size(),
                default="1GiB",
                metavar="SIZE",
                help="Free space that is always left on the file system of the cache directory.",
            ),
            cfg.IntOpt(
                "max_entries",
                default=100_000,
                min=1,
                metavar="COUNT",
                help="The most images that are kept, whatever their sizes.",
            ),
            cfg.BoolOpt(
                "finish_fills",
                default=True,
                metavar="YES|NO",
                help="Whether the transfer of an image from the origin goes on to its end when every client "
                "has left. If not, what came so far is kept.",
            ),
        ),
    ),
    Section(
        "Whom it believes",
        (
            cfg.Opt(
                "authorization_ttl",
                type=Seconds(),
                default="10",
                metavar="SECONDS",
                help="How long the origin's word that a token may download an image holds; 0 asks for every "
                "request.",
            ),
            cfg.Opt(
                "revalidate_after",
                type=Seconds(),
                default="300",
                metavar="SECONDS",
                help="How long the size and digest of a cached image hold before the origin is asked for "
                "them again.",
            ),
        ),
    ),
    Section(
        "How it talks to the origin",
        (
            cfg.StrOpt(
                "origin_ca_file",
                metavar="FILE",
                help="The certificates (PEM) that vouch for an https origin; the system's if not set.",
            ),
            cfg.IntOpt(
                "origin_connections",
                default=256,
                min=1,
                metavar="COUNT",
                help="The most connections to the origin at once.",
            ),
            cfg.Opt(
                "origin_connect_timeout",
                type=Seconds(minimum=0.001),
                default="10",
                metavar="SECONDS",
                help="How long a connection to the origin may take to come about.",
            ),
            cfg.Opt(
                "origin_timeout",
                type=Seconds(minimum=0.001),
                default="60",
                metavar="SECONDS",
                help="How long the origin may be silent, before and within an answer.",
            ),
            cfg.IntOpt(
                "fill_retries",
                default=5,
                min=0,
                metavar="COUNT",
                help="How often a broken transfer of an image is taken up again before its readers are told.",
            ),
        ),
    ),
    Section(
        "How it stops",
        (
            cfg.Opt(
                "shutdown_grace",
                type=Seconds(),
                default="30",
                metavar="SECONDS",
                help="How long running downloads may go on after a SIGTERM. A second one ends them at once.",
            ),
        ),
    ),
)
OPTIONS: Mapping[str, cfg.Opt] = {opt.dest: opt for section in SECTIONS for opt in section.options}


def list_opts() -> list[tuple[cfg.OptGroup, list[cfg.Opt]]]:
    """What ``oslo-config-generator --namespace txglancecache`` asks for."""
    return [(GROUP, list(OPTIONS.values()))]


def flag(name: str) -> str:
    """The command line's word for an option."""
    return "--" + name.replace("_", "-")
