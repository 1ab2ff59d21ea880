"""The management site: what this node's cache holds, under ``/cache``."""
