"""Who may import whom. The table below is the architecture; this file makes it true.

Rules of this file:

* A folder of the package is a floor, and a line of the table: it imports only what stands there,
  and only folders that stand above it in the table, so that all arrows point down.
* `docs/architecture.md` shows the same table, and it must be the code's own: see the last tests.
* Imports are read from the source, those inside functions and for type checking too.
* Each rule is also shown to bite, on source that breaks it.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = "trioraft"
FACE = "face"
"""The public names: the package's `__init__`, and modules at the top that only hand names on."""

# A folder: what it may import of the package; then what of other distributions.
FLOORS: Mapping[str, tuple[str, str]] = {
    "core": ("", "attrs msgspec"),
    "tasks": ("core", "attrs trio"),
    "backups": ("core", "msgspec"),
    "viz": ("", "attrs msgspec jinja2"),
    "member": ("core", "attrs msgspec"),
    "storage": ("core", "attrs msgspec"),
    "net": ("core", "attrs msgspec trio cryptography dns"),
    "transport": ("core net", "attrs msgspec trio"),
    "scenario": ("core", "attrs"),
    "machines": ("core tasks member", "attrs msgspec trio"),
    "logs": ("core transport", "attrs msgspec structlog trio"),
    "tracing": ("core", "opentelemetry"),
    "node": ("core tasks backups member net storage transport logs tracing", "attrs msgspec trio"),
    "groups": ("core tasks member storage transport logs node", "attrs msgspec trio"),
    "rpc": ("core net machines", "attrs msgspec"),
    "coordination": ("core machines rpc", "anyio attrs msgspec"),
    "client": ("core tasks backups net machines rpc tracing", "anyio attrs msgspec"),
    "service": (
        "core tasks backups member net machines logs node rpc tracing",
        "attrs msgspec trio",
    ),
    "embedding": ("core tasks backups member machines node", "attrs trio"),
    "kv": ("core tasks machines rpc", "anyio attrs msgspec trio"),
    "http": (
        "core tasks net storage logs node rpc service embedding",
        "attrs trio h11 starlette prometheus_client",
    ),
    FACE: (
        "core backups member storage net transport machines tracing node groups rpc coordination "
        "client service embedding",
        "",
    ),
    "testing": (
        "core tasks viz member storage net transport scenario machines logs node client service "
        "embedding kv",
        "anyio attrs msgspec trio outcome trioleaks pytest pytest_trio pluggy",
    ),
    "sim": (
        "core tasks member storage transport scenario machines logs node groups testing",
        "attrs msgspec trio outcome distributed",
    ),
    "live": ("core tasks viz net rpc client http", "anyio msgspec attrs starlette trio"),
    "cli": (
        "core tasks backups viz member storage net transport machines logs tracing node rpc client "
        "service http live kv scenario testing sim",
        "anyio attrs msgspec trio structlog trioleaks click rich cryptography",
    ),
}
PURE = ("core", "member")
EFFECTS = frozenset(
    (
        *("asyncio", "datetime", "io", "logging", "multiprocessing", "os", "pathlib", "secrets"),
        *("selectors", "signal", "socket", "sqlite3", "subprocess", "threading", "time", "uuid"),
    )
)
"""What a pure floor has no use for."""
PYTEST_ONLY = ("testing.raftlog_plugin",)
"""Nothing else may need pytest; and no command loads them."""


def floor_of(module: str) -> str | None:
    """The folder of this dotted name below the package; None if there is no such folder."""
    top, _, _ = module.partition(".")
    if top in FLOORS:
        return top
    if top == "__main__":
        return "cli"
    faces = ("", "structures", "protocols", "events", "aio", "sync")
    return FACE if top in faces else None


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
    own = floor_of(module)
    if own is None:
        return [f"{module} is on no floor: give its folder a line in FLOORS"]
    found = []
    for name in imports_of(module, source, is_package=is_package):
        complaint = _complaint(module, own, name)
        if complaint is not None:
            found.append(f"{module} imports {name}: {complaint}")
    return found


def _complaint(module: str, own: str, name: str) -> str | None:
    may_import, third_party = (names.split() for names in FLOORS[own])
    top, _, rest = name.partition(".")
    if top == PACKAGE:
        target = floor_of(rest) or FACE  # `from trioraft import Node` names no folder
        if rest.startswith(PYTEST_ONLY) and module not in PYTEST_ONLY:
            return "only pytest loads that"
        return None if target == own or target in may_import else f"{own} may not import {target}"
    if top in sys.stdlib_module_names:
        return f"{own} has no use for {top}" if own in PURE and top in EFFECTS else None
    if top.startswith(("pytest", "pluggy")) and module not in PYTEST_ONLY:
        return "only pytest plugins need pytest"
    return None if top in third_party else f"{own} may not import {top}"


def product_modules() -> list[tuple[str, Path, bool]]:
    """(dotted name below the package, file, whether it is a package's own file)."""
    modules = []
    for path in sorted((ROOT / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(ROOT / PACKAGE).with_suffix("").parts)
        is_package = parts[-1] == "__init__"
        modules.append((".".join(parts[:-1] if is_package else parts), path, is_package))
    return modules


def test_every_file_imports_only_what_its_floor_may() -> None:
    found = []
    for module, path, is_package in product_modules():
        found += violations(module, path.read_text(encoding="utf-8"), is_package=is_package)
    assert found == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.raft", "import trio"),
        ("core.raft", "import structlog"),
        ("core.raft", "import time"),
        ("core.raft", "from time import monotonic"),
        ("core.raft", "def f():\n    import socket"),
        ("core.raft", "from ..node.node import Node"),
        ("core.raft", "from .. import node"),
        ("core.log", "from trioraft.storage.base import Storage"),
        ("core.log", "if TYPE_CHECKING:\n    from ..storage.base import Storage"),
        ("member.member", "import trio"),
        ("member.member", "from time import monotonic"),
        ("node.node", "from ..cli import main"),
        ("node.node", "from ..testing import open_cluster"),
        ("storage.sqlite", "import trio"),
        ("storage.sqlite", "import structlog"),
        ("storage.memory", "from ..transport.memory import MemoryNetwork"),
        ("transport.tcp", "from ..node import Node"),
        ("transport.tcp", "from ..storage.base import Storage, x\nfrom ..node.node import Node"),
        ("member.state_machine", "from ..node.node import Node"),
        ("machines.replicated", "from ...storage.memory import MemoryStorage"),
        ("kv.machine", "from ..transport.tcp import TcpTransport"),
        ("sim.agenda", "import structlog"),
        ("viz.page", "from ...node import Node"),
        ("testing.cluster", "from ..cli import main"),
        ("testing.cluster", "import pytest"),
        ("cli.application", "import pytest"),
        ("cli.demo.run", "from ...testing.raftlog_plugin import pytest_configure"),
        ("cli.demo.run", "from ...testing import raftlog_plugin"),
        ("client.client", "import trio"),
        ("client.client", "from ..node import Node"),
        ("client.dialing", "from ..transport.codec import decode_message"),
        ("rpc.protocol", "from ..transport.codec import encode_frame"),
        ("client.client", "from trioraft import Node"),
        ("service.port", "import anyio"),
        ("service.context", "from ..transport.base import ConnectionRejected"),
        ("structures", "from .cli import main"),
        ("nowhere", "import attrs"),
    ],
)
def test_the_check_bites(module: str, source: str) -> None:
    assert violations(module, source)


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("core.raft", "import random\nimport attrs\nfrom .log import RaftLog"),
        ("node.runner", "from ..storage.base import Storage\nfrom ..transport import base"),
        ("transport.tcp", "import trio\nimport ssl\nfrom .base import Transport"),
        ("cli.demo.run", "from ...testing.leaks import no_leaks\nimport click"),
        ("testing.raftlog_plugin", "import pytest"),
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


def test_all_arrows_point_down() -> None:
    order = list(FLOORS)
    for own, (may_import, _) in FLOORS.items():
        assert all(order.index(target) < order.index(own) for target in may_import.split())


def arrows() -> dict[str, set[str]]:
    """Which folders each folder really imports."""
    found: dict[str, set[str]] = {floor: set() for floor in FLOORS}
    for module, path, is_package in product_modules():
        own = floor_of(module)
        for name in imports_of(module, path.read_text(encoding="utf-8"), is_package=is_package):
            top, _, rest = name.partition(".")
            target = floor_of(rest) if top == PACKAGE else None
            if own is not None and target not in (None, own):
                found[own].add(str(target))
    return found


def test_every_arrow_of_the_table_is_there() -> None:
    assert {floor: set(may.split()) for floor, (may, _) in FLOORS.items()} == arrows()


def test_the_architecture_shows_the_floors_as_they_are() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    text = text.partition("## Floors")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \|([^|]*)\|$", text, re.MULTILINE)
    shown = {folder: set(re.findall(r"\w+", stands_on)) for folder, stands_on in rows}
    assert shown == {folder: targets for folder, targets in arrows().items() if folder != FACE}
    order = [folder for folder in FLOORS if folder != FACE]
    assert [folder for folder, _ in rows] == order[::-1]  # the top floor first


def test_no_circles_within_a_floor() -> None:
    """Files of one folder do not import each other in a loop either."""
    modules = {module for module, _, _ in product_modules()}
    graph: dict[str, set[str]] = {}
    for module, path, is_package in product_modules():
        targets = set()
        source = path.read_text(encoding="utf-8")
        for name in imports_of(module, source, is_package=is_package):
            below = name.removeprefix(f"{PACKAGE}.")
            for known in (below, below.rpartition(".")[0]):
                if name.startswith(PACKAGE) and known in modules and known != module:
                    targets.add(known)
                    break
        graph[module] = targets
    while graph:
        free = [module for module, targets in graph.items() if not targets & graph.keys()]
        assert free, f"these import each other: {sorted(graph)}"
        for module in free:
            del graph[module]
