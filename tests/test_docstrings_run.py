"""Every example of Python in a docstring runs.

Rules of this file:

* An example is the body of an async function. Public names are there, and what GIVEN says; what
  else it needs it makes.
* Its node dies a minute later, so that a stream of its events has an end.
* A test that an example defines is called.
"""

from __future__ import annotations

import ast
import inspect
import random
import re
import textwrap
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    AsyncExitStack,
    asynccontextmanager,
    contextmanager,
)
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any, TypeAlias

import attrs
import pytest
import trio

import trioraft
import trioraft.kv
import trioraft.structures
import trioraft.testing
from tests.client.service_support import Appends, serving
from tests.support import open_single
from trioraft import (
    Address,
    BlockingClient,
    Client,
    MemoryNetwork,
    MemoryStorage,
    Node,
    SessionMachine,
    sync,
)
from trioraft.kv import ERROR_TYPES, KvClient, KvMachine
from trioraft.kv.commands import Result
from trioraft.structures import Counter, Election, Lock, Queue, RateLimiter, Semaphore
from trioraft.testing import CommandLog

ROOT = Path(__file__).parent.parent
SOURCES = sorted(
    path
    for package in ("trioraft", "trioraft_pytest", "trioleaks/src")
    for path in (ROOT / package).rglob("*.py")
)
PATIENCE_S = 30.0

Given: TypeAlias = dict[str, Any]
Setting: TypeAlias = Callable[[], AbstractAsyncContextManager[Given]]


@attrs.frozen
class Example:
    """A piece of code in a docstring."""

    file: str
    owner: str
    source: str

    def __str__(self) -> str:
        return f"{self.file}:{self.owner}"


def examples_in(path: Path) -> Iterator[Example]:
    """The examples of a file, by the class or function that they stand in."""
    file = str(path.relative_to(ROOT))
    tree = ast.parse(path.read_text(encoding="utf-8"))
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)

    def look(node: ast.AST, owner: str) -> Iterator[Example]:
        if isinstance(node, documented):
            docstring = ast.get_docstring(node) or ""
            for source in re.findall(r"```python\n(.*?)```", docstring, re.DOTALL):
                yield Example(file, owner, textwrap.dedent(source))
        for child in ast.iter_child_nodes(node):
            name = getattr(child, "name", "") if isinstance(child, documented) else ""
            yield from look(child, ".".join(filter(None, (owner, name))))

    yield from look(tree, "")


EXAMPLES = [example for path in SOURCES for example in examples_in(path)]


# -- what is given ---------------------------------------------------------------------------


@asynccontextmanager
async def a_node(machine: Any = None) -> AsyncIterator[Node]:
    """It leads, and dies a minute later."""
    machine = CommandLog() if machine is None else machine
    async with open_single(machine=machine) as node, trio.open_nursery() as nursery:
        await node.wait(lambda status: status.leader_id == node.id)

        async def die() -> None:
            await trio.sleep(60)
            node.kill()

        nursery.start_soon(die)
        yield node
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def node_alone() -> AsyncIterator[Given]:
    transport = MemoryNetwork(random.Random(0)).transport("0")
    async with a_node() as node:
        yield {"node": node, "machine": CommandLog(), "transport": transport}


@asynccontextmanager
async def in_real_time() -> AsyncIterator[Given]:
    """For a node on a disk: a thread that writes takes time, and no clock waits for it."""
    transport = MemoryNetwork(random.Random(0)).transport("0")
    yield {"machine": CommandLog(), "transport": transport}


def a_structure(name: str, structure: Callable[[], Any]) -> Setting:
    """One that a node has which leads; a queue has something in it."""

    @asynccontextmanager
    async def given() -> AsyncIterator[Given]:
        one = structure()
        async with a_node(one) as node:
            one.attach(node)
            if isinstance(one, Queue):
                await one.put("a job")
            yield {name: one}

    return given


@asynccontextmanager
async def a_local_kv() -> AsyncIterator[Given]:
    machine = SessionMachine(KvMachine(), result_type=Result, error_types=ERROR_TYPES)
    async with a_node(machine) as node:
        yield {"node": node, "machine": machine}


@asynccontextmanager
async def a_served_counter() -> AsyncIterator[Given]:
    counter = Counter()
    async with serving(SessionMachine(counter)) as (node, service):
        counter.attach(node, sessions=True)
        async with Client([service.address]) as client:
            yield {"addresses": [service.address], "client": client}


@asynccontextmanager
async def a_client() -> AsyncIterator[Given]:
    async with (
        serving(SessionMachine(Appends())) as (_, service),
        Client([service.address]) as client,
    ):
        await client.call(b"one")
        yield {"client": client}


@asynccontextmanager
async def a_kv_service() -> AsyncIterator[Given]:
    machine = SessionMachine(KvMachine(), result_type=Result, error_types=ERROR_TYPES)
    async with (
        serving(machine) as (_, service),
        Client([service.address], error_types=ERROR_TYPES) as client,
    ):
        yield {"addresses": [service.address], "kv": KvClient(client)}


@contextmanager
def a_lock_from_a_thread(address: Address) -> Iterator[Given]:
    with BlockingClient([address]) as client:
        yield {"lock": Lock.through(client)}


@contextmanager
def a_node_of_threads(_address: Address) -> Iterator[Given]:
    transport = MemoryNetwork(random.Random(0)).transport("0")
    with sync.open_node(
        "0", voters=["0"], machine=CommandLog(), storage=MemoryStorage(), transport=transport
    ) as node:
        yield {"node": node}


GIVEN: dict[str, Setting] = {
    "Client.watch": a_client,
    "KvClient": a_kv_service,
    **dict.fromkeys(
        ("KvClient.watch", "KvClient.txn", "KvClient.stm", "KvClient.lease", "KvClient.lock"),
        a_kv_service,
    ),
    "Election": a_structure("election", Election),
    "Election.observe": a_structure("election", Election),
    "Handle": a_served_counter,
    "ItemLine.taking": a_structure("jobs", Queue),
    "LocalClient": a_local_kv,
    "Lock": a_structure("lock", Lock),
    "RateLimiter": a_structure("limiter", partial(RateLimiter, 100, 20)),
    "Semaphore.hold": a_structure("semaphore", partial(Semaphore, 2)),
    "ReplicatedObject.through": a_served_counter,
    "SharedLog": in_real_time,
    "SQLiteStorage": in_real_time,
}
"""By the example's owner: what is there. For all others: a `node` that leads, a `machine` and a
`transport` for another one, and `tmp_path`."""
FROM_THREADS: dict[str, Callable[[Address], AbstractContextManager[Given]]] = {
    "BlockingHoldHandle.hold": a_lock_from_a_thread,
    "BlockingNode.lead": a_node_of_threads,
}
"""What examples without `await` are given, beside a node with a `Lock`, in a thread."""
IN_REAL_TIME = {a_client, a_served_counter, a_kv_service, in_real_time}


def public_names(example: Example) -> Given:
    """Those of the example's own package win: `Counter` is a structure, and a model in testing."""
    modules = [trioraft.testing, trioraft.kv, trioraft.structures, trioraft]
    if example.file.startswith("trioraft/testing"):
        modules.reverse()
    names = {"trio": trio, "pytest": pytest, "__name__": __name__}
    for module in modules:
        names |= {name: getattr(module, name) for name in dir(module) if not name.startswith("_")}
    return names


def compiled(example: Example) -> CodeType:
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(example.source, str(example), "exec", flags=flags, dont_inherit=True)
    return code


async def run(example: Example, given: Given) -> None:
    """Run it, and the tests that it defines."""
    names = public_names(example) | given
    before = {*names}
    code = compiled(example)
    with trio.fail_after(PATIENCE_S * 10):
        running = eval(code, names)  # noqa: S307 - our own documentation's code is the subject
        if inspect.iscoroutine(running):
            await running
        for name in names.keys() - before:
            if name.startswith("test_"):
                for check in trioraft.testing.STORAGE_CHECKS:
                    names[name](check, given["tmp_path"] / check.__name__)


def of_kind(*, is_real: bool) -> list[Example]:
    return [
        one
        for one in EXAMPLES
        if one.owner not in FROM_THREADS and (GIVEN.get(one.owner) in IN_REAL_TIME) is is_real
    ]


async def try_out(example: Example, tmp_path: Path) -> None:
    given = GIVEN.get(example.owner, node_alone)
    async with AsyncExitStack() as stack:
        names = await stack.enter_async_context(given())
        await run(example, {"tmp_path": tmp_path, **names})


@pytest.mark.parametrize("example", of_kind(is_real=False), ids=str)
async def test_an_example_runs(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, autojump_clock: object
) -> None:
    monkeypatch.chdir(tmp_path)
    await try_out(example, tmp_path)


@pytest.mark.parametrize("example", of_kind(is_real=True), ids=str)
async def test_an_example_in_real_time_runs(
    example: Example, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    await try_out(example, tmp_path)


@pytest.mark.parametrize("example", [one for one in EXAMPLES if one.owner in FROM_THREADS], ids=str)
async def test_an_example_from_a_thread_runs(example: Example) -> None:
    lock = Lock()
    machine = SessionMachine(lock)

    def use(address: Address) -> None:
        with FROM_THREADS[example.owner](address) as given:
            exec(compiled(example), public_names(example) | given)  # noqa: S102 - as below

    async with serving(machine) as (node, service):
        lock.attach(node, sessions=True)
        await trio.to_thread.run_sync(use, service.address)


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 14
    assert {*GIVEN, *FROM_THREADS} <= {example.owner for example in EXAMPLES}


@pytest.mark.parametrize("source", ["await node.propose(data)", "import trioraft.nothing", "x = …"])
async def test_one_that_does_not_run_is_found(
    source: str, tmp_path: Path, autojump_clock: object
) -> None:
    with pytest.raises(ExceptionGroup) as caught:  # of the nursery in which its node lives
        await try_out(Example("any.py", "", source), tmp_path)
    assert caught.group_contains((NameError, ImportError, SyntaxError))
