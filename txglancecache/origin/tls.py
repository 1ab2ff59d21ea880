"""What goes wrong with TLS, in words for the log."""

from __future__ import annotations

from OpenSSL.SSL import Error as SSLError
from service_identity import VerificationError


def in_words(error: BaseException | None) -> str | None:
    """Why TLS failed; None: it is nothing of TLS."""
    if isinstance(error, VerificationError):
        return "its certificate is for another host"
    if not isinstance(error, SSLError):
        return None
    reasons = [str(entry[-1]) for entry in (error.args[0] if error.args else ())]
    return "; ".join(filter(None, reasons)) or "for no reason that was given"
