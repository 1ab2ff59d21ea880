"""The command line ``txglancecache``: a client of one node's management site, for people and for scripts."""
