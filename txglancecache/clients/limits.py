"""How much clients may ask of one site."""

from __future__ import annotations

from attrs import frozen


@frozen
class Limits:
    """Sizes in bytes, times in seconds.

    :param connections: the most at once.
    :param requests_per_client: the most of one client that are answered at once; 0: as many as it likes.
    :param line_size: of a request line, and of a header field.
    :param head_size: of a request line and all header fields.
    :param head_fields: the most header fields of a request.
    :param head_timeout: for all of a request's head, from its first byte on.
    :param idle_timeout: for a client between two requests.
    :param body_timeout: within which the client has to send ``min_rate`` for every second of it.
    :param stall_timeout: within which the client has to take ``min_rate`` for every second of it, or all that
        there is to take.
    :param min_rate: bytes a second; 0: any, but not none.
    """

    connections: int = 4096
    requests_per_client: int = 1024
    line_size: int = 64 << 10
    head_size: int = 128 << 10
    head_fields: int = 500
    head_timeout: float = 30.0
    idle_timeout: float = 60.0
    body_timeout: float = 60.0
    stall_timeout: float = 300.0
    min_rate: int = 1 << 10
