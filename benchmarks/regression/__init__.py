"""Has anything become slower since the last commit? `python -m benchmarks.regression`."""
