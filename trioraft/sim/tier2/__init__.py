"""Tier 2: real nodes, a network in memory and disks that fail, in virtual time, under a scheduler
that does the same twice. It is there for what tier 1 cannot see: tasks, cancellation, and what is
left of a node. That needs the leak check, and so this package belongs to the layer of
`trioraft.testing`; nothing imports it but `trioraft.sim.tiers`, by name, when it is asked for.

determinism   every private name of Trio that is used, with its canary
scheduler     between any two steps of any task: note, check, crash
life          one incarnation: fence, end, leak check
node_disk, wire     its disk and its network, up to the fence
machine, clients, injection, draw
              as in tier 1, on the calls of a real node
simulation    the phases of a run
"""

from .simulation import run_seed as run_seed
