"""Small images, as many as one could ask for: made up from their ids."""

from __future__ import annotations

import hashlib

from tests.cloud.imitation import Made

#: What the ids of those begin with that are sent with their last byte missing and a wrong one in front.
WRONG = "wrong-"


def body_of(image_id: str) -> bytes:
    """The image with this id."""
    return hashlib.sha256(image_id.encode()).digest() * 4096


def endless(image_id: str) -> Made:
    """It, as `tests.cloud.imitation.Imitation` sends it."""
    body = body_of(image_id)
    return Made(b"\0" + body[:-1] if image_id.startswith(WRONG) else body, body)
