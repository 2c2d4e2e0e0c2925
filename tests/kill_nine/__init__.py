"""Three processes with SQLite, killed with SIGKILL at any time, under load.

    python -m tests.kill_nine --rounds 200 --seed 1

Rules of this file: what a node said was acknowledged must be on all nodes in the end, once, and
the nodes must agree on the order of everything.
"""
