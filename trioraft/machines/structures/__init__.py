"""Ready-made replicated objects.

Each is written with `ReplicatedObject` as you would write yours. To keep
values of your own classes, name them in a subclass: `class Jobs(Queue[Job])`.
"""

from .containers import Counter as Counter
from .containers import Dict as Dict
from .containers import Queue as Queue
from .containers import QueueFull as QueueFull
from .containers import Set as Set
from .locks import Lease as Lease
from .locks import Lock as Lock
from .locks import LockLost as LockLost
