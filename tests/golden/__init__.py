"""Golden files: every byte that crosses a wire or stays on a disk, as it is today.

    python -m tests.golden              # compare; says what differs
    python -m tests.golden --update     # write them anew

They are change detectors, not promises: as long as nothing has been released, a format may change.
But it changes on purpose, in a commit that says so, and never because a field was moved. When an
update is legitimate stands in CONTRIBUTING.md.

Rules of this package:

* `examples` says what is encoded, of every kind that there is; `files` how it stands in a file.
* Files are text: a name, the value as Python shows it, the bytes in hexadecimal. Small enough to be
  read in a review.
* `digests` is a file of another kind: what whole simulated runs came to (`tests.sim.digests`).
"""
