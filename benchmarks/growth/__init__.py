"""What a proposal costs while something grows: `python -m benchmarks.growth`."""
