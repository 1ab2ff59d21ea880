"""The process around the sites: settings, endpoints, threads, signals, and how a node begins and ends."""
