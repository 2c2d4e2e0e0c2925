"""Tier 2: real nodes, a network in memory and disks that fail, in virtual time, under a scheduler
that does the same twice. It is there for what tier 1 cannot see: tasks, cancellation, and what is
left of a node. Nothing imports it but `trioraft.sim.tiers`, by name, when it is asked for.
"""

from .simulation import run_seed as run_seed
