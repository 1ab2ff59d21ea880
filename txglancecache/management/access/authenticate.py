"""Who it is that asks: the callers there are, and the ways to find out.

An authenticator looks at a request and names its caller. What a caller may do is not its business.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, cast

from attrs import define, field, frozen
from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL.crypto import X509
from twisted.internet.interfaces import ISSLTransport
from twisted.python.components import Componentized
from twisted.web.iweb import IRequest
from zope.interface import Interface, implementer

from txglancecache.headers import RawHeaders

#: The fields that tell the origin on whose behalf something is asked.
_IDENTITY = (b"X-Auth-Token", b"X-Service-Token")


class ICaller(Interface):
    """The component of a request that says whose it is; a :class:`Caller`."""


@implementer(ICaller)
@frozen(kw_only=True)
class Caller:
    """Somebody whose request is being answered.

    :param headers: the fields of the request that let the origin know this caller too. They are secrets, for
        memory only.
    """

    headers: RawHeaders = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """What the log calls this caller."""
        return "somebody"

    def credentials(self) -> dict[str, Any]:
        """What a policy can ask about this caller."""
        return {"roles": []}


@frozen(kw_only=True)
class Anonymous(Caller):
    """Nobody asked who it is."""


@frozen(kw_only=True)
class KeystoneUser(Caller):
    """A user whose token Keystone has just vouched for.

    :param attributes: of the token, by the names that oslo.policy's rules know them by.
    :param expires: when the token does, in seconds since the epoch.
    """

    user: str
    project: str | None
    roles: tuple[str, ...]
    expires: float
    attributes: Mapping[str, Any] = field(factory=dict, repr=False)

    @property
    def name(self) -> str:
        return f"{self.user} of {self.project}" if self.project else self.user

    def credentials(self) -> dict[str, Any]:
        return {**self.attributes, "roles": list(self.roles)}


@frozen(kw_only=True)
class Certificate(Caller):
    """Who holds the key of a client certificate.

    :param subject: the certificate's, as RFC 4514 writes it: ``CN=operator,O=Example``.
    """

    subject: str
    common_name: str
    roles: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.subject

    def credentials(self) -> dict[str, Any]:
        return {"subject": self.subject, "common_name": self.common_name, "roles": list(self.roles)}


@define(eq=False)
class NotAuthenticated(Exception):
    """A request whose caller is not known.

    :param tried: whether it brought credentials, which were no good.
    """

    message: str
    tried: bool = False

    def __str__(self) -> str:
        return self.message


@define(eq=False)
class CannotTell(Exception):
    """Who the caller is cannot be found out at present."""

    message: str

    def __str__(self) -> str:
        return self.message


class Authenticator(Protocol):
    """Finds out whose request it is."""

    @property
    def challenge(self) -> str | None:
        """The ``WWW-Authenticate`` field for who has to say so; None where HTTP has no way to say it."""

    def recall(self, request: IRequest) -> Caller | None:
        """The caller, if that needs asking nobody."""

    async def identify(self, request: IRequest) -> Caller:
        """The caller, whoever has to be asked.

        :raises NotAuthenticated: it does not say who it is, or not convincingly.
        :raises CannotTell: whoever has to be asked does not answer.
        """


@frozen
class AskNobody:
    """Whoever can connect is welcome."""

    challenge: None = field(default=None, init=False)

    def recall(self, request: IRequest) -> Caller:
        return Anonymous(headers=identity_of(request))

    async def identify(self, request: IRequest) -> Caller:
        return self.recall(request)


@frozen
class ByCertificate:
    """By the client certificate, which TLS has verified.

    :param operators: the subjects that have the ``admin`` role.
    """

    operators: frozenset[str]
    challenge: None = field(default=None, init=False)

    def recall(self, request: IRequest) -> Caller | None:
        certificate = _peer_certificate(request)
        if certificate is None:
            return None
        text = certificate.subject.rfc4514_string()
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Certificate(
            headers=identity_of(request),
            subject=text,
            common_name=str(names[0].value) if len(names) == 1 else "",
            roles=("admin",) if text in self.operators else (),
        )

    async def identify(self, request: IRequest) -> Caller:
        caller = self.recall(request)
        if caller is None:
            raise NotAuthenticated("this site wants a client certificate")
        return caller


def identity_of(request: IRequest) -> RawHeaders:
    """The fields of a request that tell the origin whose it is."""
    return tuple(
        (name, value) for name in _IDENTITY for value in request.requestHeaders.getRawHeaders(name, [])
    )


def introduce(request: IRequest, caller: Caller) -> None:
    """From now on :func:`caller_of` knows this request's caller."""
    cast(Componentized, request).setComponent(ICaller, caller)


class IStanding(Interface):
    """The component of a request that finds out whether it would still be let in: ``async () -> bool``."""


def let_ask_again(request: IRequest, standing: Callable[[], Awaitable[bool]]) -> None:
    """From now on :func:`still_admitted` can tell."""
    cast(Componentized, request).setComponent(IStanding, standing)


async def still_admitted(request: IRequest) -> bool:
    """Whether a request that takes long to answer would be let in if it came now."""
    standing: Any = cast(Componentized, request).getComponent(IStanding)
    return True if standing is None else bool(await standing())


def caller_of(request: IRequest) -> Caller:
    """Whose request it is; nobody in particular's, where nobody found out."""
    caller = cast(Componentized, request).getComponent(ICaller)
    return caller if isinstance(caller, Caller) else Anonymous(headers=identity_of(request))


def _peer_certificate(request: IRequest) -> x509.Certificate | None:
    transport = getattr(getattr(request, "channel", None), "transport", None)
    if not ISSLTransport.providedBy(transport):
        return None
    certificate = transport.getPeerCertificate()
    return certificate.to_cryptography() if isinstance(certificate, X509) else None
