"""Fuzzing: frames for both ports of real servers, and bytes for whatever reads bytes.
See docs/fuzzing.md, and `python -m tests.fuzz --help`."""
