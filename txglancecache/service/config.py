"""From configuration files and flags to ``Settings``.

Flags come before files, later files before earlier ones, and the defaults last. Whatever is wrong with
any of them is one ``ConfigurationError`` in one line. Reads the files it is given and nothing else: not
the command line, not the environment.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from attrs import fields, frozen
from oslo_config import cfg, iniparser

from txglancecache.errors import ConfigurationError
from txglancecache.service.options import GROUP, OPTIONS, flag

_REQUIRED = frozenset({"origin", "cache_dir"})
_PATHS = frozenset(
    {
        "cache_dir",
        "origin_ca_file",
        "origin_cert_file",
        "origin_key_file",
        "keystone_ca_file",
        "manage_ca_file",
        "policy_file",
    }
)
#: What goes with each way to know the management site's callers; one of each group is enough.
_NEEDED: Mapping[str, Sequence[Sequence[str]]] = {
    "none": (),
    "keystone": (("keystone_url",),),
    "certificate": (("manage_ca_file",), ("manage_subjects", "policy_file")),
}


@frozen
class Settings:
    """The valid value of every option, and the files that were read. Made by :func:`load`."""

    origin: str
    listen: str
    manage: str
    trusted_proxies: tuple[str, ...]
    cache_dir: str
    max_size: int
    min_free: int
    max_entries: int
    finish_fills: bool
    authorization_ttl: float
    revalidate_after: float
    digest_check: str
    manage_auth: str
    keystone_url: str | None
    keystone_ca_file: str | None
    keystone_ttl: float
    manage_ca_file: str | None
    manage_subjects: tuple[str, ...] | None
    policy_file: str | None
    cache_api_on_data_site: bool
    origin_ca_file: str | None
    origin_cert_file: str | None
    origin_key_file: str | None
    origin_connections: int
    origin_connect_timeout: float
    origin_timeout: float
    origin_min_rate: int
    fill_retries: int
    jobs_at_once: int
    job_attempts: int
    max_connections: int
    manage_connections: int
    max_requests_per_client: int
    max_line_size: int
    max_head_size: int
    max_head_fields: int
    head_timeout: float
    idle_timeout: float
    body_timeout: float
    stall_timeout: float
    min_rate: int
    access_log: bool
    takeover_wait: float
    shutdown_grace: float
    config_files: tuple[str, ...] = ()


def load(files: Sequence[str] = (), flags: Mapping[str, str] | None = None) -> Settings:
    """The settings that configuration files and flags (by option name, as text) amount to.

    :raises ConfigurationError: for a file that cannot be read, an unknown option, a wrong or missing value.
    """
    for path in files:
        _refuse_unknown(path)
    conf = cfg.ConfigOpts()
    conf.register_group(GROUP)
    conf.register_opts(OPTIONS.values(), group=GROUP)
    try:
        conf(args=[], default_config_files=list(files), default_config_dirs=[], use_env=False)
    except cfg.Error as error:
        raise ConfigurationError(_one_line(error)) from None
    given = flags or {}
    known = [field.name for field in fields(Settings) if field.name in OPTIONS]
    values = {name: _value(conf, OPTIONS[name], given.get(name)) for name in known}
    settings = Settings(**values, config_files=tuple(files))
    for names in _NEEDED[settings.manage_auth]:
        if not any(getattr(settings, name) for name in names):
            wanted = " or ".join(f"{flag(name)} {OPTIONS[name].metavar}" for name in names)
            raise ConfigurationError(f"{flag('manage_auth')} {settings.manage_auth} needs {wanted}")
    if settings.origin_key_file and not settings.origin_cert_file:
        raise ConfigurationError(f"{flag('origin_key_file')} needs {flag('origin_cert_file')} FILE")
    if settings.cache_api_on_data_site and settings.manage_auth != "keystone":
        # Anybody may connect there, and nobody has a certificate.
        raise ConfigurationError(f"{flag('cache_api_on_data_site')} needs {flag('manage_auth')} keystone")
    return settings


def _value(conf: cfg.ConfigOpts, opt: cfg.Opt, given: str | None) -> Any:
    try:
        # A flag is taken as it is: only a file's values go through oslo.config's "$" substitution.
        value = conf[GROUP.name][opt.dest] if given is None else opt.type(given)
    except cfg.ConfigSourceValueError as error:
        raise ConfigurationError(_one_line(error)) from None
    except ValueError as error:
        raise ConfigurationError(f"{flag(opt.dest)}: {_one_line(error)}") from None
    if opt.dest in _REQUIRED and not value:
        raise ConfigurationError(f"{opt.dest} is not set: give {flag(opt.dest)} {opt.metavar}")
    if opt.dest in _PATHS and value:
        return os.path.abspath(os.path.expanduser(value))
    return tuple(value) if isinstance(value, list) else value


def _refuse_unknown(path: str) -> None:
    """oslo.config ignores what it does not know; here, a misspelt option must not pass for a set one."""
    sections: dict[str, dict[str, Any]] = {}
    try:
        cfg.ConfigParser(path, sections).parse()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ConfigurationError(f"cannot read {path}: it is not UTF-8 text") from None
    except iniparser.ParseError as error:
        raise ConfigurationError(f"cannot read {path}: {_one_line(error)}") from None
    own = [options for section, options in sections.items() if section.lower() == GROUP.name]
    if not own:
        raise ConfigurationError(f"{path} has no [{GROUP.name}] section")
    for name in (name for options in own for name in options):
        if name not in OPTIONS:
            raise ConfigurationError(f"{path}: unknown option {name} in [{GROUP.name}]{_hint(name, OPTIONS)}")


def _hint(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name.replace("-", "_"), known, n=1)
    return f"; did you mean {close[0]}?" if close else ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
