"""What three processes carry: `python -m benchmarks.throughput`."""
