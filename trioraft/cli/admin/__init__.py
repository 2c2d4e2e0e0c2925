"""`trioraft admin`: looking at a cluster that runs, and changing it."""
