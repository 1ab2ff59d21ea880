"""`make bench`: this node beside others on the same work, on the same machine, in the same minutes.

A row of the result is a function in `benchmarks.rows`. It starts the servers that it compares, lets them take
turns round by round, and turns the samples into figures with a target each. What is compared is a ratio
within one round, so that a machine that becomes slower for a while slows both sides of it.

Nothing in here imports the product, but for what a row is about: its eviction policy, and its index, of
which a row needs one with 100,000 entries.
"""
