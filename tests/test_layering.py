"""Who may import whom. The table below is the architecture; this file makes it true.

Rules of this file:

* Every module belongs to a layer, by the longest prefix in `LAYERS`; a module without one fails.
* Imports are read from the source, those inside functions and for type checking too.
* Each rule is also shown to bite, on source that breaks it.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "trioraft"


@attrs.frozen
class Layer:
    """Some modules, and what they may import."""

    modules: tuple[str, ...]
    """Dotted names below the package; each stands for what is in it as well."""
    may_import: tuple[str, ...]
    """Names of layers, besides itself."""
    third_party: tuple[str, ...] = ()
    not_stdlib: tuple[str, ...] = ()


EFFECTS = (
    *("asyncio", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "secrets"),
    *("selectors", "signal", "socket", "sqlite3", "subprocess", "threading", "time", "uuid"),
)
"""What a core that is pure has no use for."""
RUNTIME = ("attrs", "msgspec", "trio", "structlog")
BELOW_CLI = (
    *("core", "seams", "storage", "transport", "state machine", "logs", "node"),
    *("client", "service", "structures", "kv", "sim", "viz", "recover", "face"),
)

LAYERS: dict[str, Layer] = {
    "core": Layer(("core",), (), ("attrs", "msgspec"), not_stdlib=EFFECTS),
    "seams": Layer(("storage.base", "transport.base"), ("core",), ("attrs", "trio")),
    "storage": Layer(("storage",), ("core", "seams"), ("attrs", "msgspec")),
    "transport": Layer(("transport",), ("core", "seams"), RUNTIME),
    "state machine": Layer(
        ("state_machine", "sessions", "chunks"), ("core",), ("attrs", "msgspec"), not_stdlib=EFFECTS
    ),
    "logs": Layer(("logs", "raftlog", "event_texts"), ("core", "seams", "node values"), RUNTIME),
    "node values": Layer(("event_stream", "status"), ("core", "seams"), ("attrs", "trio")),
    "node": Layer(
        (
            *("node", "driver", "persistence", "applying", "proposals", "room"),
            *(
                "background",
                "wakeup",
                "administration",
                "arguments",
                "barriers",
                "bootstrap",
                "peers",
            ),
        ),
        ("core", "seams", "state machine", "logs", "node values"),
        ("attrs", "msgspec", "trio", "structlog"),
    ),
    "client": Layer(
        ("client",), ("core", "transport", "state machine"), ("anyio", "attrs", "msgspec")
    ),
    "service": Layer(
        ("service",),
        (
            *("core", "seams", "transport", "state machine", "logs", "node", "node values"),
            *("client",),
        ),
        ("attrs", "msgspec", "trio"),
    ),
    "structures": Layer(
        ("replicated", "structures"),
        ("core", "state machine", "node", "node values"),
        ("attrs", "msgspec", "trio"),
    ),
    "kv": Layer(
        ("kv",),
        (
            *("core", "seams", "state machine", "node", "node values", "logs"),
            *("client", "service"),
        ),
        RUNTIME,
    ),
    "sim": Layer(
        ("sim",),
        ("core", "seams", "state machine", "storage", "transport", "node", "node values"),
        ("attrs", "msgspec", "trio"),
    ),
    "viz": Layer(("viz",), ("core", "logs"), ("attrs", "msgspec", "jinja2")),
    "recover": Layer(("recover",), ("core", "seams", "storage"), ("attrs",)),
    "face": Layer(
        ("",),
        (
            *("core", "seams", "storage", "transport", "state machine", "node", "node values"),
            *("client", "service", "structures"),
        ),
    ),
    "testing": Layer(
        ("testing", "sim.tier2"),  # every simulated life of a node ends in a leak check
        (*BELOW_CLI, "node values", "pytest parts"),
        (*RUNTIME, "pytest", "hypothesis", "outcome", "trioleaks"),
    ),
    "pytest parts": Layer(
        ("testing.raftlog_plugin",),  # and trioraft_pytest, which imports nothing of trioraft
        (*BELOW_CLI, "node values", "testing"),
        (*RUNTIME, "pluggy", "pytest", "pytest_trio"),
    ),
    "cli": Layer(
        (
            "cli",
            "__main__",
            "admin",
            "demo",
            "exits",
            "kv.command",
            "serve",
            "recover.command",
            "sim.command",
            "sim.dask",
            "sim.judging",
            "sim.tracing",
            "viz.command",
            "watch",
        ),
        (*BELOW_CLI, "node values", "testing"),
        (*RUNTIME, "typer", "rich", "jinja2", "click", "distributed", "trioleaks"),
    ),
}


def layer_of(module: str) -> str | None:
    """The layer with the longest prefix of this dotted name below the package."""
    found = [
        (len(prefix), name)
        for name, layer in LAYERS.items()
        for prefix in layer.modules
        if module == prefix or (prefix and module.startswith(prefix + "."))
    ]
    return max(found)[1] if found else None


def imports_of(module: str, source: str, *, is_package: bool = False) -> Iterator[str]:
    """Absolute dotted names of all that this source imports."""
    parts = [PACKAGE, *(module.split(".") if module else [])]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                above = parts[: len(parts) - node.level + is_package]
                base = ".".join([*above, *([node.module] if node.module else [])])
            yield from (f"{base}.{alias.name}" for alias in node.names)


def violations(module: str, source: str, *, is_package: bool = False) -> list[str]:
    """What this source imports and must not."""
    own = layer_of(module)
    if own is None:
        return [f"{module} has no layer: give it one in LAYERS"]
    found = []
    for name in imports_of(module, source, is_package=is_package):
        complaint = _complaint(own, name)
        if complaint is not None:
            found.append(f"{module} ({own}) imports {name}: {complaint}")
    return found


def _complaint(own: str, name: str) -> str | None:
    layer = LAYERS[own]
    top, _, rest = name.partition(".")
    if top == PACKAGE:
        # `from ..storage import base` names a module, `from .base import Storage` does not.
        target = layer_of(rest) or layer_of(rest.rpartition(".")[0]) or "face"
        allowed = target == own or target in layer.may_import
        return None if allowed else f"{own} may not import {target}"
    if top in sys.stdlib_module_names:
        return f"{own} has no use for {top}" if top in layer.not_stdlib else None
    if top == "pytest" and own == "cli":
        return "a command needs no pytest"
    return None if top in layer.third_party else f"{own} may not import {top}"


def product_modules() -> list[tuple[str, Path, bool]]:
    """(dotted name below the package, file, whether it is a package's own file)."""
    modules = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        modules.append((".".join(parts[:-1] if is_package else parts), path, is_package))
    return modules


@pytest.mark.parametrize(
    ("module", "path", "is_package"),
    [pytest.param(*entry, id=entry[0] or PACKAGE) for entry in product_modules()],
)
def test_a_module_imports_only_what_its_layer_may(
    module: str, path: Path, is_package: bool
) -> None:
    assert violations(module, path.read_text(encoding="utf-8"), is_package=is_package) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.raft", "import trio"),
        ("core.raft", "import structlog"),
        ("core.raft", "import time"),
        ("core.raft", "from time import monotonic"),
        ("core.raft", "def f():\n    import socket"),
        ("core.raft", "from ..node import Node"),
        ("core.raft", "from .. import node"),
        ("core.log", "from trioraft.storage.base import Storage"),
        ("core.log", "if TYPE_CHECKING:\n    from ..storage.base import Storage"),
        ("node", "from .storage.sqlite import SQLiteStorage"),
        ("node", "from .storage import sqlite"),
        ("driver", "from .transport.tcp import TcpTransport"),
        ("driver", "from .transport.memory import MemoryNetwork"),
        ("driver", "import trioraft.transport.tcp"),
        ("node", "from .testing import open_cluster"),
        ("node", "from . import cli"),
        ("storage.sqlite", "import trio"),
        ("storage.sqlite", "import structlog"),
        ("storage.memory", "from ..transport.memory import MemoryNetwork"),
        ("storage.memory", "from ..node import Node"),
        ("transport.tcp", "from ..node import Node"),
        ("transport.tcp", "from ..storage.base import Storage, x\nfrom ..driver import Driver"),
        ("state_machine", "from .node import Node"),
        ("replicated", "from .storage.memory import MemoryStorage"),
        ("kv.server", "from ..transport.tcp import TcpTransport"),
        ("sim.schedule", "import structlog"),
        ("viz.page", "from ..node import Node"),
        ("testing.cluster", "from ..cli import main"),
        ("cli", "import pytest"),
        ("demo.run", "from ..testing.raftlog_plugin import RaftlogWriter"),
        ("demo.run", "from ..testing import raftlog_plugin"),
        ("client.client", "import trio"),
        ("client.client", "from ..node import Node"),
        ("service.port", "import anyio"),
        ("nowhere", "import attrs"),
    ],
)
def test_the_check_bites(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.raft", "import random\nimport attrs\nfrom .log import RaftLog"),
        ("driver", "from .storage.base import Storage\nfrom .transport import base"),
        ("transport.tcp", "import trio\nimport ssl\nfrom .base import Transport"),
        ("cli", "from .testing.leaks import no_leaks\nimport typer"),
    ],
)
def test_the_check_does_not_bite_at_random(module: str, source: str) -> None:
    assert violations(module, source) == []


@pytest.mark.parametrize(
    ("module", "is_package", "expected"),
    [
        ("core.raft", False, ["trioraft.core.log.RaftLog", "trioraft.node", "trioraft.x.y"]),
        ("core", True, ["trioraft.core.log.RaftLog", "trioraft.node", "trioraft.x.y"]),
    ],
)
def test_relative_imports_are_resolved(module: str, is_package: bool, expected: list[str]) -> None:
    source = "from .log import RaftLog\nfrom .. import node\nfrom ..x import y"
    assert list(imports_of(module, source, is_package=is_package)) == expected


def test_only_some_layers_log() -> None:
    logging = {name for name, layer in LAYERS.items() if "structlog" in layer.third_party}
    assert logging == {"logs", "node", "transport", "kv", "testing", "pytest parts", "cli"}


def test_nothing_imports_cli_and_only_cli_and_tests_import_testing() -> None:
    assert [name for name, layer in LAYERS.items() if "cli" in layer.may_import] == []
    importers = {name for name, layer in LAYERS.items() if "testing" in layer.may_import}
    assert importers == {"cli", "pytest parts"}
