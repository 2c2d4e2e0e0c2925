"""What a node tells, for people and programs: JSON lines, a console, the raftlog format.

The typed events of the core are the only source; everything here renders them.
"""

from .loggers import EventLogger as EventLogger
from .loggers import TraceLogger as TraceLogger
from .loggers import configure as configure
