"""A node in a program that does not run Trio: in a thread of its own, for asyncio and for threads.

Import from `trioraft.aio` or `trioraft.sync`; the modules here may be rearranged at will.
"""
