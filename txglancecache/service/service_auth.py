"""The node's own account at Keystone: section ``[service_auth]`` of the configuration files.

Read as other OpenStack services read theirs, by keystoneauth: ``auth_type = password`` or
``v3applicationcredential`` and what goes with it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attrs import define
from oslo_config import cfg

from txglancecache.errors import ConfigurationError, OriginError
from txglancecache.headers import RawHeaders
from txglancecache.waiting import InThread

if TYPE_CHECKING:
    from keystoneauth1.session import Session

GROUP = "service_auth"

#: Seconds for which Keystone may say nothing, unless the files have a ``timeout``. A thread waits for it, and
#: at the end the process waits for the thread.
_TIMEOUT = 10.0


def service_session(files: Sequence[str]) -> Session | None:
    """A session with the account that the files name; ``None`` where they name none.

    :raises ConfigurationError: they name one that cannot be used.
    """
    if not _is_named(files):
        return None
    # Not before it is needed: it brings much with it.
    from keystoneauth1 import loading
    from keystoneauth1.exceptions import ClientException

    conf = cfg.ConfigOpts()
    loading.register_auth_conf_options(conf, GROUP)
    loading.register_session_conf_options(conf, GROUP)
    try:
        _read(conf, files)
        auth = loading.load_auth_from_conf_options(conf, GROUP)
        if auth is None:
            return None
        session: Session = loading.load_session_from_conf_options(conf, GROUP, auth=auth)
    except (cfg.Error, ClientException, ValueError) as error:
        raise _wrong(error) from None
    if session.timeout is None:
        session.timeout = _TIMEOUT
    return session


def _is_named(files: Sequence[str]) -> bool:
    """Whether the files name an account, as keystoneauth sees it."""
    conf = cfg.ConfigOpts()
    conf.register_opts(
        [cfg.StrOpt("auth_type", deprecated_name="auth_plugin"), cfg.StrOpt("auth_section")], GROUP
    )
    try:
        _read(conf, files)
    except cfg.Error as error:
        raise _wrong(error) from None
    return bool(conf[GROUP].auth_type or conf[GROUP].auth_section)


def _read(conf: cfg.ConfigOpts, files: Sequence[str]) -> None:
    conf(args=[], default_config_files=list(files), default_config_dirs=[], use_env=False)


def _wrong(error: Exception) -> ConfigurationError:
    return ConfigurationError(f"[{GROUP}]: {' '.join(str(error).split())}")


@define(eq=False)
class ServiceCredentials:
    """The account's token as header fields; keystoneauth sees to it that it is always a valid one."""

    _session: Session | None
    _in_thread: InThread

    async def __call__(self) -> RawHeaders | None:
        """The fields; ``None`` without an account.

        :raises OriginError: Keystone gives no token; trying again may help.
        """
        session = self._session
        if session is None:
            return None
        from keystoneauth1.exceptions import ClientException

        try:
            token = await self._in_thread(session.get_token)
        except ClientException as error:
            raise OriginError(f"no token for [{GROUP}]: {error}") from error
        return [(b"X-Auth-Token", token.encode("ascii"))] if token else None
