"""For your tests too: the leak check, the cluster harness, and checks for a storage of your own.

Everything public is here; modules may be rearranged at will.
"""

from .cluster import Cluster as Cluster
from .cluster import CommandLog as CommandLog
from .cluster import open_cluster as open_cluster
from .faulty_storage import FaultyStorage as FaultyStorage
from .leaks import Leak as Leak
from .leaks import LeakError as LeakError
from .leaks import LeakKind as LeakKind
from .leaks import check_roles as check_roles
from .leaks import no_leaks as no_leaks
from .storage_conformance import STORAGE_CHECKS as STORAGE_CHECKS
from .storage_conformance import check_storage as check_storage
