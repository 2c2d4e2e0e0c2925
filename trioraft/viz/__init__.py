"""From a log to a diagnosis and a picture: `trioraft viz`.

The way: `reading` (lines to `facts`: `raftlog`, `jsonlines`), `building` (facts to the `model`,
with `mailbox`), `findings` over a `cluster`, and `report` or `page`. `analysis` goes all the way.
"""

from .analysis import analyse_lines as analyse_lines
from .analysis import analyse_log as analyse_log
from .reading import LogError as LogError
