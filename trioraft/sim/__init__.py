"""Deterministic simulation: whole clusters under everything that goes wrong, from one seed.

Same seed, same trace, byte for byte. `simulation.run_seed` is tier 1, many
cores without Trio; `tiers` says what a tier is, so that the command runs any of them.
"""
