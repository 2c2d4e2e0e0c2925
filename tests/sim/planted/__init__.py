"""Mistakes made on purpose, to see that the simulator finds them.

Rules of this package:

* Each breaks one rule, says which hazard it is, and leaves the rest alone. None of it is reachable
  from what ships.
* `python -m tests.sim.planted` hunts them, and writes the table of `docs/planted-bugs.md`.
"""
