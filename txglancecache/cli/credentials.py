"""A Keystone token, got the way `openstack` gets one: from options, ``OS_*`` variables and clouds.yaml.

openstacksdk's configuration does it, so that all its sources, plugins and precedence hold here too. It is
imported only when a token is needed, since that takes longer than most commands do.
"""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from typing import Protocol

from attrs import define

from txglancecache.cli.outcome import CommandError, NotAllowed, Unreachable, UsageError

#: The options, by the names that `openstack` knows them by, and what they say.
OPTIONS = {
    "os-cloud": "which cloud of clouds.yaml",
    "os-auth-url": "Keystone",
    "os-auth-type": "how to authenticate: password, v3applicationcredential, …",
    "os-username": "who asks",
    "os-password": "the password; better in OS_PASSWORD or clouds.yaml, where ps does not show it",
    "os-user-domain-name": "the user's domain",
    "os-user-domain-id": "the same by id",
    "os-project-name": "the project that the token is for",
    "os-project-id": "the same by id",
    "os-project-domain-name": "the project's domain",
    "os-project-domain-id": "the same by id",
    "os-system-scope": "all, for a token that is for the whole system",
    "os-application-credential-id": "an application credential",
    "os-application-credential-secret": "its secret",
    "os-region-name": "the region",
    "os-cacert": "certificates that Keystone is trusted by",
    "os-token": "a token that is there already; it is sent as it is",
}
_ENOUGH = ("OS_CLOUD", "OS_AUTH_URL", "OS_TOKEN")

HINT = "set OS_CLOUD or the other OS_* variables, or give --os-cloud, as for openstack"


class Tokens(Protocol):
    """What the client of a node needs to know of credentials."""

    def given(self) -> bool:
        """Whether the command line has any."""

    def configured(self) -> bool:
        """Whether the command line or the environment has any."""

    def token(self) -> str: ...

    def renew(self) -> bool:
        """Forget the token, so that the next one is new; ``False`` if there will be no other."""


@define(eq=False)
class Credentials:
    """The caller's credentials, wherever they come from."""

    _arguments: Namespace
    _environ: Mapping[str, str]
    _token: str | None = None

    def given(self) -> bool:
        return bool(self._options())

    def configured(self) -> bool:
        return self.given() or any(self._environ.get(name) for name in _ENOUGH)

    def token(self) -> str:
        """:raises CommandError: where there are none, Keystone refuses them or does not answer."""
        if self._token is None:
            self._token = self._as_it_is() or _issued(self._options())
        return self._token

    def renew(self) -> bool:
        if self._token is None or self._as_it_is() is not None:
            return False
        self._token = None
        return True

    def _as_it_is(self) -> str | None:
        options = self._options()
        if "os_token" in options:
            return options["os_token"]
        return None if options else self._environ.get("OS_TOKEN") or None

    def _options(self) -> dict[str, str]:
        names = [name.replace("-", "_") for name in OPTIONS]
        return {name: value for name in names if (value := getattr(self._arguments, name, None))}


def _issued(options: Mapping[str, str]) -> str:
    """A new token."""
    from keystoneauth1 import exceptions
    from openstack import config
    from openstack import exceptions as sdk_exceptions

    try:
        region = config.OpenStackConfig(app_name="txglancecache").get_one(argparse=Namespace(**options))
        token = region.get_session().get_token()
    except exceptions.MissingRequiredOptions as error:
        names = ", ".join(sorted(option.name for option in error.options))
        raise NotAllowed(f"the credentials lack {names}: {HINT}") from None
    except (sdk_exceptions.ConfigException, exceptions.NoMatchingPlugin) as error:
        raise UsageError(_line(error)) from None
    except (exceptions.ConnectFailure, exceptions.DiscoveryFailure) as error:
        raise Unreachable(f"Keystone does not answer: {_line(error)}") from None
    except exceptions.HttpError as error:
        if error.http_status in (401, 403, 404):
            raise NotAllowed(f"Keystone gives no token: {_line(error)}") from None
        raise CommandError(f"Keystone gives no token: {_line(error)}") from None
    except exceptions.ClientException as error:
        raise CommandError(f"cannot get a token: {_line(error)}") from None
    if token is None:
        raise NotAllowed(f"these credentials give no token: {HINT}")
    return token


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
