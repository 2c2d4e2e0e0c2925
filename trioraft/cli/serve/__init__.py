"""`trioraft serve`: one member of a cluster that keeps keys and values, as a process of its own."""
