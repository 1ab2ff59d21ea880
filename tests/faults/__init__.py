"""What the node promises when things go wrong, put to the proof: `make faults` runs the whole campaign and
prints its table; a short form of each trial is part of `make test`."""
