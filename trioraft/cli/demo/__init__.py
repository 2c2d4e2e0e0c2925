"""`trioraft demo`: a cluster that elects, loses its leader, elects again and dies without a trace.

Rules of this package:

* `story` does things to nodes, or `scene` as a scenario says; `board` knows what is to be seen, the
  views show it; only the views and `report` know rich, only `command` knows click.
* Nothing is shown from a node's tasks, and nothing is shown more often than a person can read.
"""
