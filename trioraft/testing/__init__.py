"""For your tests too: the leak check, the cluster harness, a check of what clients saw, and checks
for a storage of your own.

Everything public is here; modules may be rearranged at will.
"""

from .cluster import Cluster as Cluster
from .cluster import CommandLog as CommandLog
from .cluster import Storages as Storages
from .cluster import open_cluster as open_cluster
from .clusters_elsewhere import AsyncCluster as AsyncCluster
from .clusters_elsewhere import BlockingCluster as BlockingCluster
from .clusters_elsewhere import open_async_cluster as open_async_cluster
from .clusters_elsewhere import open_blocking_cluster as open_blocking_cluster
from .faulty_storage import FaultyStorage as FaultyStorage
from .leaks import Leak as Leak
from .leaks import LeakError as LeakError
from .leaks import LeakKind as LeakKind
from .leaks import check_roles as check_roles
from .leaks import no_leaks as no_leaks
from .linearizability import Counter as Counter
from .linearizability import History as History
from .linearizability import HistoryError as HistoryError
from .linearizability import Illegal as Illegal
from .linearizability import KeyValue as KeyValue
from .linearizability import LinearizabilityResult as LinearizabilityResult
from .linearizability import Linearizable as Linearizable
from .linearizability import Lock as Lock
from .linearizability import Model as Model
from .linearizability import NotLinearizable as NotLinearizable
from .linearizability import Operation as Operation
from .linearizability import OperationOutcome as OperationOutcome
from .linearizability import Queue as Queue
from .linearizability import Register as Register
from .linearizability import Transactions as Transactions
from .linearizability import Unknown as Unknown
from .linearizability import check_linearizable as check_linearizable
from .linearizability import load_history as load_history
from .linearizability import save_history as save_history
from .networks import ClusterNetwork as ClusterNetwork
from .scenarios import Scenario as Scenario
from .scenarios import ScenarioError as ScenarioError
from .scenarios import ScenarioFailed as ScenarioFailed
from .scenarios import play as play
from .storage_conformance import STORAGE_CHECKS as STORAGE_CHECKS
from .storage_conformance import StorageBench as StorageBench
from .storage_conformance import StorageRuleBroken as StorageRuleBroken
from .storage_conformance import check_storage as check_storage
