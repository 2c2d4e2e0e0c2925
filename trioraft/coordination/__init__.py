"""Structures in which somebody waits for a turn: locks, semaphores, queues, elections, barriers.

`line` is the waiting line as all nodes have it, `presence` one process in such a line; each
structure has a file, with its handles. Import from `trioraft.structures`.
"""
