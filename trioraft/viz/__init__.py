"""From a log to a diagnosis and a picture: `trioraft viz`.

The way: `reading` (lines to `facts`: `raftlog`, `jsonlines`, `foreign`), `building` (facts to the
`model`, with `mailbox`), `findings` over a `cluster`, and `report`, `page` or `compare`. `analysis`
goes all the way.
"""

from .analysis import analyse_lines as analyse_lines
from .analysis import analyse_log as analyse_log
from .analysis import analyse_logs as analyse_logs
from .model import BrokenLine as BrokenLine
from .model import CommitPoint as CommitPoint
from .model import Durations as Durations
from .model import Failover as Failover
from .model import Finding as Finding
from .model import FormingPoint as FormingPoint
from .model import LogEnd as LogEnd
from .model import LogEntry as LogEntry
from .model import Mark as Mark
from .model import Members as Members
from .model import MembersPoint as MembersPoint
from .model import Message as Message
from .model import NodeTrace as NodeTrace
from .model import ReportedLeak as ReportedLeak
from .model import RoleSpan as RoleSpan
from .model import Run as Run
from .model import Statistics as Statistics
from .model import Term as Term
from .model import Timer as Timer
from .reading import LogError as LogError
