"""The data site: image downloads through the cache, everything else streamed to the origin."""
