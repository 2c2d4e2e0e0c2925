"""Many Raft groups in one process, over one transport and one storage; quiet ones hibernate.

`Multiplexer` carries the messages of all groups between two processes; `Presence` knows which
processes are there; `Group` is one group's member in this process, with a node while it is awake;
`Host` runs them all. See docs/many-groups.md.
"""
