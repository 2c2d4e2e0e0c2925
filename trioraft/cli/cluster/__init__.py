"""`trioraft cluster`: the members of a development cluster, started and ended together.

`layout` says where each member is, `member` is what a member's process runs, `run` keeps the
processes, `command` is what is seen of it.
"""
