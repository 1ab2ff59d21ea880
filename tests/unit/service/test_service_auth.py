"""The node's own account, as the configuration file names it."""

from __future__ import annotations

from pathlib import Path

import pytest
from keystoneauth1.exceptions import ConnectFailure
from twisted.internet.defer import Deferred, succeed

from tests.unit.cache.world import result
from txglancecache.errors import ConfigurationError, OriginError
from txglancecache.service.service_auth import ServiceCredentials, service_session


def _file(path: Path, text: str) -> list[str]:
    path.write_text(text)
    return [str(path)]


def _now(function: object, *args: object) -> Deferred[object]:
    return succeed(function(*args))  # type: ignore[operator]


def test_without_the_section_there_is_no_account(tmp_path: Path) -> None:
    """And so no fields."""
    session = service_session(_file(tmp_path / "conf", "[glancecache]\norigin = http://glance\n"))
    assert session is None
    assert result(ServiceCredentials(session, _now)()) is None  # type: ignore[arg-type]


@pytest.mark.parametrize(("said", "timeout"), [("", 10), ("timeout = 3\n", 3)])
def test_a_password_account(tmp_path: Path, said: str, timeout: float) -> None:
    """The section is read as other OpenStack services read theirs; Keystone is not waited for for ever."""
    session = service_session(
        _file(
            tmp_path / "conf",
            "[service_auth]\nauth_type = password\nauth_url = http://127.0.0.1:1/v3\nusername = glance\n"
            "password = secret\nproject_name = service\n"
            "user_domain_id = default\nproject_domain_id = default\n" + said,
        )
    )
    assert session is not None
    assert session.timeout == timeout
    assert type(session.auth).__module__.startswith("keystoneauth1")


def test_a_kind_of_account_that_there_is_not(tmp_path: Path) -> None:
    """Ends the start with one line."""
    with pytest.raises(ConfigurationError, match=r"\[service_auth\].*nonsense") as caught:
        service_session(_file(tmp_path / "conf", "[service_auth]\nauth_type = nonsense\n"))
    assert "\n" not in str(caught.value)


def test_a_token_is_a_field_and_no_token_an_error() -> None:
    """What Keystone gives goes to the origin; a Keystone that cannot be asked may be asked again."""

    class Session:
        def get_token(self) -> str:
            return "t0ken"

    assert result(ServiceCredentials(Session(), _now)()) == [(b"X-Auth-Token", b"t0ken")]  # type: ignore[arg-type]

    def fails(function: object) -> Deferred[object]:
        raise ConnectFailure("refused")

    with pytest.raises(OriginError, match="service_auth"):
        result(ServiceCredentials(Session(), fails)())  # type: ignore[arg-type]
