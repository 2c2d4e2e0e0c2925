"""Processes to talk to, kill and look at: the one harness of the benchmarks and of the tests."""

from __future__ import annotations

from .nodes import Listener as Listener
from .nodes import NodeProcess as NodeProcess
from .nodes import NodeProcesses as NodeProcesses
from .nodes import open_nodes as open_nodes
from .process import PATIENCE_S as PATIENCE_S
from .process import Process as Process
from .process import ProcessError as ProcessError
from .process import patience as patience
from .process import python as python
from .servers import ServerProcess as ServerProcess
from .servers import ServerProcesses as ServerProcesses
from .servers import free_ports as free_ports
from .servers import shown as shown
