"""The Raft paper's figure 16 in virtual time: `python -m benchmarks.figure16`."""
