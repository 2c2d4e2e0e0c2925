"""For your tests too: the leak check and the cluster harness.

Everything public is here; modules may be rearranged at will.
"""

from .cluster import Cluster as Cluster
from .cluster import CommandLog as CommandLog
from .cluster import open_cluster as open_cluster
from .leaks import Leak as Leak
from .leaks import LeakError as LeakError
from .leaks import LeakKind as LeakKind
from .leaks import check_roles as check_roles
from .leaks import no_leaks as no_leaks
