"""Entries, fills, readers, verification and eviction; knows no HTTP server."""
