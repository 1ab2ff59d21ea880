"""Tells ``twistd`` that there is a ``glancecache`` command, and loads nothing else."""

from twisted.application.service import ServiceMaker

glancecache = ServiceMaker(
    "txglancecache",
    "txglancecache.tap",
    "A caching reverse proxy for OpenStack Glance image data.",
    "glancecache",
)
