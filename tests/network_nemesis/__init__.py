"""Five servers in network namespaces, and a network between them that is broken on purpose.

    python -m tests.network_nemesis                      # every row, ours and etcd's: half an hour
    python -m tests.network_nemesis --only loss --seconds 10
    python -m tests.network_nemesis --list

Rules of this package:

* The members and their clients are real processes, each in a network namespace of its own, and the
  network between them is a switch in user space (`switch`), which works where the kernel cannot
  delay or lose packets by itself.
* All of it lives in namespaces of processes and mounts as well, which are made for the run: when
  the run is gone, however it ended, nothing of it is left, and two runs do not see each other.
* A row is one fault: for a while, and then it is healed. What clients were told must be true in the
  end, however badly the members fared; how badly, the table says.
* Members are asked for nothing that a network does not do: a row may cut, lose, delay, squeeze,
  freeze and kill, and looks at nothing but the ports and the logs.
"""
