"""How long a cluster is without a leader: `python -m benchmarks.election`."""
