"""The names that the command line and the benchmark share. Imports nothing, so that thread limits can be set first."""

GROUPS = ("kernel", "sql", "ways")
"""Libraries without SQL; SQL engines; vexact's own ways in, compared with its Python call."""
METRICS = ("cosine", "dot", "l2")
BUCKETS = 100
"""`bucket` is uniform over 0..BUCKETS, so `bucket < 10` selects about 10 % of the rows."""
