"""What is on disk: the cache directory, the body files in it, and the index of entries."""
