"""What an earlier release writes, kept as it was: frozen formats.

* `format_1/` is the first one, and never changes again: its structs (`peers`, `clients`, `disk`,
  …), a frame of every message, and directories as it left them. No struct of today's trioraft is
  used in it.
* `frozen` compares today's structs with those, and says what may be added, and how.
* `docs/upgrading.md` has the promise that all this holds.
"""
