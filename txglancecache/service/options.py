"""What there is to set: names, help texts, defaults and types.

The only place that knows them. The command's flags and its ``--help``, the configuration file and its
generated sample all come from here. Reads nothing and checks one value at a time.
"""

from __future__ import annotations

import ipaddress
import math
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from attrs import frozen
from cryptography.x509 import Name, ObjectIdentifier, RelativeDistinguishedName
from oslo_config import cfg, types

from txglancecache.sizes import parse_size

GROUP = cfg.OptGroup(
    "glancecache", title="glancecache", help="The settings of one node, as `twistd glancecache` reads them."
)
_YEAR = 366 * 24 * 3600
_VISIBLE = re.compile(r"[!#-\[\]-~]+", re.ASCII)


class _Text(types.ConfigType):
    """A type whose values the generated sample shows as they are written."""

    def _formatter(self, value: Any) -> str:
        return str(value)


class Size(_Text):
    """A number of bytes, as ``4096``, ``512MiB`` or ``10GB``."""

    def __init__(self, minimum: int = 0) -> None:
        super().__init__(type_name="size, such as 512MiB or 10GB")
        self.minimum = minimum

    def __call__(self, value: Any) -> int:
        count = value if isinstance(value, int) else parse_size(value)
        if count < self.minimum:
            raise ValueError(f"should be at least {self.minimum}")
        return count


class Seconds(_Text):
    """A span of time that a timer can wait: finite, not negative, at most a year unless told otherwise."""

    def __init__(self, minimum: float = 0, maximum: float = _YEAR) -> None:
        super().__init__(type_name="seconds")
        self.minimum = minimum
        self.maximum = maximum

    def __call__(self, value: Any) -> float:
        try:
            seconds = float(value)
        except ValueError:
            raise ValueError(f"{value!r} is not a number of seconds") from None
        if not math.isfinite(seconds) or not self.minimum <= seconds <= self.maximum:
            raise ValueError(f"should be between {self.minimum:g} and {self.maximum:.10g} seconds")
        return seconds


def _http_url(text: str) -> SplitResult | None:
    """The parts of an http or https URL with a host; None where it is none, or its port cannot be used."""
    try:
        parts = urlsplit(text)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        return None
    return parts if usable else None


class OriginLocation(_Text):
    """Scheme, host and port of the origin. A path would break the links in Glance's answers."""

    def __init__(self) -> None:
        super().__init__(type_name="URL")

    def __call__(self, value: Any) -> str:
        text = str(value).removesuffix("/")
        parts = _http_url(text)
        if parts is None:
            raise ValueError(f"{value!r} is not of the form http://HOST[:PORT] or https://HOST[:PORT]")
        if parts.path or parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{value!r} should be scheme, host and port only")
        return text


class KeystoneLocation(_Text):
    """Where Keystone is, as ``http://keystone:5000/v3`` or ``https://cloud.example/identity``."""

    def __init__(self) -> None:
        super().__init__(type_name="URL")

    def __call__(self, value: Any) -> str:
        text = str(value).rstrip("/")
        parts = _http_url(text)
        # Callers are shown it in a quoted string of a header.
        if parts is None or not _VISIBLE.fullmatch(text):
            raise ValueError(f"{value!r} is not of the form http://HOST[:PORT][/PATH] or https://…")
        if parts.query or parts.fragment or parts.username is not None:
            raise ValueError(f"{value!r} should be scheme, host, port and path only")
        return text


#: Attributes by the names that openssl prints and RFC 4514 has not.
_ATTRIBUTES = {
    name: ObjectIdentifier(number)
    for name, number in {
        "SN": "2.5.4.4",
        "serialNumber": "2.5.4.5",
        "street": "2.5.4.9",
        "title": "2.5.4.12",
        "description": "2.5.4.13",
        "businessCategory": "2.5.4.15",
        "postalAddress": "2.5.4.16",
        "postalCode": "2.5.4.17",
        "telephoneNumber": "2.5.4.20",
        "name": "2.5.4.41",
        "GN": "2.5.4.42",
        "initials": "2.5.4.43",
        "generationQualifier": "2.5.4.44",
        "dnQualifier": "2.5.4.46",
        "houseIdentifier": "2.5.4.51",
        "pseudonym": "2.5.4.65",
        "role": "2.5.4.72",
        "organizationIdentifier": "2.5.4.97",
        "emailAddress": "1.2.840.113549.1.9.1",
        "unstructuredName": "1.2.840.113549.1.9.2",
        "jurisdictionL": "1.3.6.1.4.1.311.60.2.1.1",
        "jurisdictionST": "1.3.6.1.4.1.311.60.2.1.2",
        "jurisdictionC": "1.3.6.1.4.1.311.60.2.1.3",
    }.items()
}


def _in_order(part: RelativeDistinguishedName) -> RelativeDistinguishedName:
    """The same, its attributes (``CN=a+UID=b``) in the order of DER; openssl prints them in the other one."""
    return RelativeDistinguishedName(sorted(part, key=lambda attribute: Name([attribute]).public_bytes()))


class Subjects(_Text):
    """Subjects of certificates as RFC 4514 writes them, with semicolons between them."""

    def __init__(self) -> None:
        super().__init__(type_name="subjects")

    def __call__(self, value: Any) -> tuple[str, ...]:
        texts = re.findall(r"(?:\\.|[^;])+", str(value))
        return tuple(self._subject(text.strip()) for text in texts if text.strip())

    def _subject(self, text: str) -> str:
        try:
            name = Name.from_rfc4514_string(text, _ATTRIBUTES)
            return Name([_in_order(part) for part in name.rdns]).rfc4514_string()
        except ValueError:
            raise ValueError(
                f"{text!r} is no subject of a certificate, such as CN=operator,O=Example"
            ) from None


class Network(_Text):
    """An IP address or network, such as ``10.1.0.0/16``."""

    def __init__(self) -> None:
        super().__init__(type_name="network")

    def __call__(self, value: Any) -> str:
        return str(ipaddress.ip_network(str(value).strip(), strict=False))


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
                help="Where the management site listens. While it asks nobody who they are, this has to be a "
                "loopback address or a unix socket; see --manage-auth.",
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
            cfg.StrOpt(
                "digest_check",
                default="before",
                choices=[
                    ("before", "nobody can complete a download that does not match"),
                    ("after", "the downloads that are under way meanwhile do not wait for it"),
                    ("off", "only the size is compared"),
                ],
                metavar="WHEN",
                help="When an image is compared with the digest that Glance has for it: before a client gets "
                "the end of it; after, so that clients who come before the result may complete a wrong "
                "image, which is then put into quarantine; or off, which trusts the origin, the network and "
                "the disk with the contents, and looks at the size alone.",
            ),
        ),
    ),
    Section(
        "Who may manage it",
        (
            cfg.StrOpt(
                "manage_auth",
                default="none",
                choices=[
                    ("none", "nobody is asked; only this machine can connect"),
                    ("keystone", "by the token in X-Auth-Token, which Keystone validates"),
                    ("certificate", "by TLS client certificates"),
                ],
                metavar="KIND",
                help="How the management site knows its callers: none, for loopback addresses and unix "
                "sockets only; keystone, by their tokens; or certificate, by TLS client certificates, for "
                "ssl: endpoints.",
            ),
            cfg.Opt(
                "keystone_url",
                type=KeystoneLocation(),
                metavar="URL",
                help="The Keystone that validates callers' tokens, such as http://keystone:5000/v3. Callers "
                "without a token are sent there. Required with --manage-auth keystone.",
            ),
            cfg.StrOpt(
                "keystone_ca_file",
                metavar="FILE",
                help="The certificates (PEM) that vouch for an https Keystone; the system's if not set.",
            ),
            cfg.Opt(
                "keystone_ttl",
                type=Seconds(maximum=30),
                default="10",
                metavar="SECONDS",
                help="How long Keystone's word about a token holds, 30 seconds at most; 0 asks for every "
                "request.",
            ),
            cfg.StrOpt(
                "manage_ca_file",
                metavar="FILE",
                help="The certificates (PEM) of the authorities that issue the callers' certificates. "
                "Required with --manage-auth certificate.",
            ),
            cfg.Opt(
                "manage_subjects",
                type=Subjects(),
                metavar="SUBJECTS",
                help="The subjects of the certificates whose holders have the admin role, with semicolons "
                "between them, such as CN=operator,O=Example; openssl x509 -noout -subject -nameopt RFC2253 "
                "shows a certificate's, after subject=.",
            ),
            cfg.StrOpt(
                "policy_file",
                metavar="FILE",
                help="A policy.yaml of oslo.policy with rules that replace the built-in ones, under which "
                "every operation needs the admin role. It is read again when it has changed.",
            ),
            cfg.BoolOpt(
                "cache_api_on_data_site",
                default=False,
                metavar="YES|NO",
                help="Whether the data site, too, answers what tools for Glance's own cache ask: /v2/cache, "
                "/v2/cached_images and /v2/queued_images are then about this node, and the version documents "
                "list them. If not, they go to Glance as everything else does. Needs --manage-auth keystone.",
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
            cfg.StrOpt(
                "origin_cert_file",
                metavar="FILE",
                help="This node's own certificate (PEM) for an https origin that asks for one, with those "
                "between it and its authority, if any.",
            ),
            cfg.StrOpt(
                "origin_key_file",
                metavar="FILE",
                help="The private key (PEM, without a passphrase) that goes with it; in the same file if not "
                "set.",
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
                help="How long the origin may take for the head of an answer, and be silent within a body.",
            ),
            cfg.Opt(
                "origin_min_rate",
                type=Size(),
                default="1KiB",
                metavar="SIZE",
                help="The least bytes a second, on the average of --origin-timeout, that the origin has to "
                "send of a body while it is waited for. A transfer that is slower is broken off and taken up "
                "again; 0 allows any.",
            ),
            cfg.IntOpt(
                "fill_retries",
                default=10,
                min=0,
                metavar="COUNT",
                help="How often a broken transfer of an image is taken up again before its readers are told.",
            ),
        ),
    ),
    Section(
        "What it does in the background",
        (
            cfg.IntOpt(
                "jobs_at_once",
                default=2,
                min=1,
                metavar="COUNT",
                help="How many prefetches and verifications run at once; the others wait.",
            ),
            cfg.IntOpt(
                "job_attempts",
                default=5,
                min=1,
                metavar="COUNT",
                help="How often a prefetch is tried before it is given up.",
            ),
        ),
    ),
    Section(
        "What it allows its clients",
        (
            cfg.IntOpt(
                "max_connections",
                default=4096,
                min=1,
                metavar="COUNT",
                help="The most connections of clients to the data site at once. One more gets a 503, unless "
                "another is idle and can be closed instead. Lowered at the start where the limit of open "
                "files (RLIMIT_NOFILE) does not carry it.",
            ),
            cfg.IntOpt(
                "manage_connections",
                default=128,
                min=1,
                metavar="COUNT",
                help="The same for the management site, which is thus to be reached when the data site is "
                "full.",
            ),
            cfg.IntOpt(
                "max_requests_per_client",
                default=1024,
                min=0,
                metavar="COUNT",
                help="The most requests of one client that a site answers at once, and three quarters of "
                "--manage-connections on the management site; one more gets a 429. 0: as many as it likes. A "
                "client is an address (with IPv6, a network of 64 bits): where the connection comes from one "
                "of --trusted-proxies, the last in X-Forwarded-For or Forwarded that is none of them. Nobody "
                "is counted on unix sockets; health and metrics are always answered.",
            ),
            cfg.Opt(
                "max_line_size",
                type=Size(minimum=1024),
                default="64KiB",
                metavar="SIZE",
                help="The longest request line (414) and header field (431).",
            ),
            cfg.Opt(
                "max_head_size",
                type=Size(minimum=1024),
                default="128KiB",
                metavar="SIZE",
                help="The most bytes of a request line and all header fields (431).",
            ),
            cfg.IntOpt(
                "max_head_fields",
                default=500,
                min=16,
                metavar="COUNT",
                help="The most header fields of a request (431).",
            ),
            cfg.Opt(
                "head_timeout",
                type=Seconds(minimum=0.1),
                default="30",
                metavar="SECONDS",
                help="How long a whole request line with all header fields may take to come (408).",
            ),
            cfg.Opt(
                "idle_timeout",
                type=Seconds(minimum=0.1),
                default="60",
                metavar="SECONDS",
                help="How long a connection is kept on which nothing is asked. A balancer should close it "
                "earlier by itself.",
            ),
            cfg.Opt(
                "body_timeout",
                type=Seconds(minimum=0.1),
                default="60",
                metavar="SECONDS",
                help="How long the body of a request may fail to come at --min-rate (408).",
            ),
            cfg.Opt(
                "stall_timeout",
                type=Seconds(minimum=0.1),
                default="300",
                metavar="SECONDS",
                help="How long a client may take nothing of an answer before it is cut off. One that takes "
                "less than --min-rate is cut off after twice that.",
            ),
            cfg.Opt(
                "min_rate",
                type=Size(),
                default="1KiB",
                metavar="SIZE",
                help="The least bytes a second, on the average of these times, that a client has to send of "
                "a body and take of an answer, if there is so much; 0 allows any, but not none.",
            ),
        ),
    ),
    Section(
        "What it logs",
        (
            cfg.BoolOpt(
                "access_log",
                default=True,
                metavar="YES|NO",
                help="Whether each answer of the two sites is a line in the log. That is a fifth of the "
                "work for a small answer; whoever has such a log at the balancer can do without.",
            ),
        ),
    ),
    Section(
        "How it starts and stops",
        (
            cfg.Opt(
                "takeover_wait",
                type=Seconds(),
                default="10",
                metavar="SECONDS",
                help="How long to wait at the start for another process to leave the cache directory, as the "
                "one does that this one replaces. If the two may overlap, it should be longer than that "
                "one's --shutdown-grace; 0 starts at once or not at all.",
            ),
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
