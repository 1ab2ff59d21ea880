"""What holds for all unit tests."""

from __future__ import annotations

from txglancecache.service.descriptors import raise_limit

# Caches that a test has killed keep their files open until the end, and that makes more than a thousand.
raise_limit()
