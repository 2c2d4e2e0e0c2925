"""Every interleaving of a few nodes, a handful of messages, a crash and a read: the real core."""
