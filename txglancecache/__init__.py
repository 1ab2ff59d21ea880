"""A caching reverse proxy and bulk-delivery service for OpenStack image data."""

__version__ = "0.1.0"
