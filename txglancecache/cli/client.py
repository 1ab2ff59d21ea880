"""HTTP with one node: requests and their answers, the token when it is asked for, the stream of events.

Knows which status is which error and nothing of what the answers mean.
"""

from __future__ import annotations

import http.client
import json
import ssl
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import quote, urlencode

from attrs import define, field

from txglancecache import __version__
from txglancecache.cli.address import Address, Certificates
from txglancecache.cli.credentials import HINT, Tokens
from txglancecache.cli.eventstream import Message, messages
from txglancecache.cli.outcome import CommandError, NotAllowed, NotFound, Unavailable, Unreachable, UsageError

#: What a node sends over an idle stream more often than this.
_HEARTBEAT = 60.0
_CHALLENGE = "keystone"


@define(eq=False)
class NodeClient:
    """One node. Each exchange has a connection of its own: there are few, and none can be stale."""

    address: Address
    _tokens: Tokens
    _certificates: Certificates = field(factory=Certificates)
    _timeout: float = 30.0
    _with_token: bool = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._with_token = self._tokens.given()

    def act_for_caller(self) -> None:
        """Send the caller's token, if there is any to be had, though the node may not ask for one.

        :raises CommandError: where credentials give none.
        """
        if self._with_token or self._tokens.configured():
            self._tokens.token()
            self._with_token = True

    def get(self, path: str, **query: str | int | None) -> Any:
        """What a GET answers."""
        return self.call("GET", path, query=query)

    def call(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        query: Mapping[str, str | int | None] | None = None,
        accept: tuple[int, ...] = (),
    ) -> Any:
        """The JSON that is answered, None where there is none.

        :param accept: statuses that are an answer here and not an error.
        :raises CommandError: of the kind that the status tells.
        """
        given = {name: value for name, value in (query or {}).items() if value is not None}
        target = path + (f"?{urlencode(given)}" if given else "")
        content = None if body is None else json.dumps(body).encode("ascii")
        headers = {"Accept": "application/json"}
        if content is not None:
            headers["Content-Type"] = "application/json"
        with self._exchange(method, target, headers, content, accept) as response:
            return _parsed(self._read(response))

    def stream(
        self, path: str, last: str | None, heard: Callable[[], None] = lambda: None
    ) -> Iterator[Message]:
        """Events as they come, after the one with this id; ends when the node ends it.

        :param heard: called with every sign of life, of which the node gives one every few seconds.
        :raises Unreachable: where the stream breaks.
        """
        headers = {"Accept": "text/event-stream"}
        if last is not None:
            headers["Last-Event-ID"] = last
        with self._exchange("GET", path, headers, None, (), timeout=_HEARTBEAT) as response:
            if not response.headers.get_content_type() == "text/event-stream":
                raise CommandError(f"{self.address} has no stream of events")

            def lines() -> Iterator[str]:
                for line in iter(response.readline, b""):
                    heard()
                    yield line.decode("utf-8", "replace")

            try:
                yield from messages(lines())
            except BrokenPipeError:
                # That was `heard`: reading from a node breaks no pipe.
                raise
            except (OSError, http.client.HTTPException) as error:
                raise self._unreachable(error) from None

    @contextmanager
    def _exchange(
        self,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes | None,
        accept: tuple[int, ...],
        timeout: float | None = None,
    ) -> Iterator[http.client.HTTPResponse]:
        may_renew = True
        while True:
            token = {"X-Auth-Token": self._tokens.token()} if self._with_token else {}
            connection = self.address.connection(self._certificates, timeout or self._timeout)
            with closing(connection):
                response = self._ask(connection, method, target, {**headers, **token}, content)
                if 200 <= response.status < 300 or response.status in accept:
                    yield response
                    return
                if self._asks_for_token(response):
                    self._with_token = True
                    continue
                # Whoever watches, or waits for very many jobs, does so for longer than a token lives.
                if may_renew and _wants_token(response) and self._tokens.renew():
                    may_renew = False
                    continue
                raise _error(response.status, _message(self._read(response), response))

    def _ask(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        target: str,
        headers: Mapping[str, str],
        content: bytes | None,
    ) -> http.client.HTTPResponse:
        always = {"User-Agent": f"txglancecache/{__version__}", "Connection": "close"}
        try:
            connection.request(method, self.address.prefix + target, content, {**always, **headers})
            return connection.getresponse()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None
        except ValueError as error:  # a token or a path that no header can have; an OSError may be one too
            raise UsageError(f"cannot send this: {error}") from None

    def _read(self, response: http.client.HTTPResponse) -> bytes:
        try:
            return response.read()
        except (OSError, http.client.HTTPException) as error:
            raise self._unreachable(error) from None

    def _asks_for_token(self, response: http.client.HTTPResponse) -> bool:
        if self._with_token or not _wants_token(response):
            return False
        if not self._tokens.configured():
            raise NotAllowed(f"{self.address} asks for a Keystone token: {HINT}")
        return True

    def _unreachable(self, error: Exception) -> Unreachable:
        if isinstance(error, TimeoutError):
            return Unreachable(f"{self.address} does not answer in time")
        if isinstance(error, ssl.SSLCertVerificationError):
            return Unreachable(f"cannot trust {self.address}: {error.verify_message} (see --cacert)")
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        return Unreachable(f"cannot reach {self.address}: {reason}")


def segment(text: str) -> str:
    """One segment of a path."""
    return quote(text, safe="")


def _wants_token(response: http.client.HTTPResponse) -> bool:
    challenge = response.headers.get("WWW-Authenticate", "")
    return response.status == 401 and challenge.lower().startswith(_CHALLENGE)


def _parsed(body: bytes) -> Any:
    if not body.strip():
        return None
    try:
        return json.loads(body)
    except ValueError:
        raise CommandError("the answer is not JSON: is this a node's management site?") from None


def _message(body: bytes, response: http.client.HTTPResponse) -> str:
    """What an error's answer says, for a person."""
    try:
        message = json.loads(body)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        message = None
    if isinstance(message, str) and message:
        return message
    return f"the node answers {response.status} {response.reason}"


def _error(status: int, message: str) -> CommandError:
    match status:
        case 401 | 403 | 421:
            return NotAllowed(message)
        case 404 | 410:
            return NotFound(message)
        case 429 | 503:
            return Unavailable(message)
        case _:
            return CommandError(message)
