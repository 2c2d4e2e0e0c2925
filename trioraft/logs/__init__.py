"""What a node tells, for people and programs: JSON lines, a console, the raftlog format.

The typed events of the core are the only source; everything here renders them.
"""

from .event_texts import describe as describe
from .loggers import AnyLogger as AnyLogger
from .loggers import EventLogger as EventLogger
from .loggers import Raftlog as Raftlog
from .loggers import TraceLogger as TraceLogger
from .loggers import configure as configure
from .loggers import current_sink as current_sink
from .loggers import describe_trace as describe_trace
from .loggers import flatten_trace as flatten_trace
from .loggers import open_raftlog as open_raftlog
from .loggers import sink_logger as sink_logger
from .loggers import use_sink as use_sink
from .raftlog import NodeNumbers as NodeNumbers
from .raftlog import RaftlogRun as RaftlogRun
from .raftlog import WallClock as WallClock
from .repeats import RepeatFilter as RepeatFilter
