"""Ready-made replicated objects.

Rules of this package: each is written with `ReplicatedObject` as you would write yours. To keep
values of your own classes, name them in a subclass: `class Jobs(Queue[Job])`.
"""

from .counters import Counter as Counter
from .dicts import Dict as Dict
from .locks import Lease as Lease
from .locks import Lock as Lock
from .locks import LockLost as LockLost
from .queues import Queue as Queue
from .queues import QueueFull as QueueFull
from .sets import Set as Set
