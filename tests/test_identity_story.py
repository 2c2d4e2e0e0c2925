"""docs/identity.md, told with processes that are killed between its steps.

Rules of this file: as few processes as the story needs, for each takes a second to start. What is
killed inside of a step is in `tests/identity/test_killed.py` and `tests/recover/test_killed.py`.
"""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
from click.testing import Result

from benchmarks.processes import ServerProcess, ServerProcesses, free_ports, shown
from tests.serve.commands import lines, run
from trioraft.core.types import Address

PAGE = Path(__file__).parent.parent / "docs" / "identity.md"
PATIENCE_S = 30


def until(what: Callable[[], bool]) -> None:
    """Ask other processes until it is so."""
    give_up_s = time.monotonic() + PATIENCE_S
    while not what():
        assert time.monotonic() < give_up_s
        time.sleep(0.05)


@attrs.define
class Operator:
    """Types commands, to the servers at these addresses."""

    addresses: Sequence[Address] = ()
    typed: list[tuple[str, ...]] = attrs.field(factory=list)

    def tries(self, *words: str) -> Result:
        """A command that may fail."""
        self.typed.append(words)
        environment = {"TRIORAFT_ADDRESSES": ",".join(map(shown, self.addresses))}
        return run(*words, env=environment if self.addresses else {})

    def does(self, *words: str) -> list[str]:
        """A command that must not."""
        return lines(self.tries(*words))

    def does_in_time(self, *words: str) -> list[str]:
        """A command to the cluster, with patience."""
        return self.does(*words, "--timeout", f"{PATIENCE_S}s")

    def serves(self, log: Path, *words: str) -> ServerProcess:
        """Another server."""
        self.typed.append(("serve", *words))
        return ServerProcess(words, log)

    def starts(self, *servers: ServerProcess) -> None:
        """All at once, until they serve."""
        for server in servers:
            server.start()
        for server in servers:
            server.wait_ready()

    def history_of(self, directory: Path) -> str:
        """Which one a stopped node's log belongs to."""
        told = json.loads("\n".join(self.does("recover", str(directory), "--show", "--json")))
        return str(told["identity"]["uuid"])

    def histories(self) -> set[str]:
        """Those of the servers that run."""
        told = json.loads("\n".join(self.does("admin", "status", "--json")))
        return {str(server.get("uuid")) for server in told["servers"].values()}


def words_of(command: Sequence[str]) -> frozenset[str]:
    """What a command is told by: not the names, numbers and places in it."""
    return frozenset(word for word in command if re.fullmatch("(--)?[a-z][a-z-]+", word))


def commands_on_the_page() -> Iterator[frozenset[str]]:
    """Every command, and every option, that the page speaks of."""
    text = PAGE.read_text(encoding="utf-8")
    for typed in re.findall(r"^\$ (trioraft .*)$|`([^`\n]+)`", text, re.MULTILINE):
        words = (typed[0] or typed[1]).removeprefix("trioraft ").split()
        if words and (words[0] in {"admin", "recover", "serve"} or words[0].startswith("--")):
            yield words_of(words)


def test_a_cluster_forms_loses_disks_is_recovered_grows_and_moves(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path) as cluster:
        operator = Operator(cluster.addresses)
        for arguments in cluster.arguments.values():
            operator.typed.append(("serve", *arguments))
        forms(operator, cluster)
        loses_a_disk(operator, cluster, tmp_path)
        is_recovered(operator, cluster, tmp_path)
        grows_and_moves(operator, cluster, tmp_path)
    needed = set(commands_on_the_page())
    assert len(needed) >= 10
    typed = [words_of(command) for command in operator.typed]
    never = {words for words in needed if not any(words <= command for command in typed)}
    assert never == {frozenset({"--found-alone"})}  # of the other test


def forms(operator: Operator, cluster: ServerProcesses) -> None:
    """Killed while it waits, and at once after the third has come."""
    first, second, third = cluster.servers.values()
    operator.starts(first, second)
    waiting = operator.tries("kv", "put", "a", "1", "--timeout", "1s")
    assert waiting.exit_code == 1
    assert "the cluster is forming: waiting for 2" in waiting.output
    there = ("--address", shown(cluster.addresses[0]))
    probe = operator.tries("admin", "status", "--check", "ready", *there)
    assert "waiting for 2 (it was not heard of yet" in probe.output
    first.kill()
    operator.starts(third)
    third.kill()
    operator.starts(first, third)
    operator.does_in_time("kv", "put", "a", "1")
    assert len(operator.histories()) == 1


def loses_a_disk(operator: Operator, cluster: ServerProcesses, directory: Path) -> None:
    """Whoever is killed meanwhile comes back: the command, the new disk, the others."""
    first, second, third = cluster.servers.values()
    refused = operator.tries("admin", "replace", "2")
    assert (refused.exit_code, "nothing to replace" in refused.output) == (2, True)
    third.kill()
    shutil.rmtree(directory / "2")
    operator.starts(third)
    gives_up = operator.tries("admin", "replace", "2", "--timeout", "1ms")
    assert gives_up.exit_code in (0, 1, 4)
    for server in (third, first, second):
        server.kill()
        operator.starts(server)

    def is_replaced() -> bool:
        """It went on by itself, or is asked for now."""
        again = operator.tries("admin", "replace", "2")
        return again.exit_code == 0 or "nothing any more" in again.output

    until(is_replaced)
    second.kill()  # the new disk counts
    operator.does_in_time("kv", "put", "b", "2")


def is_recovered(operator: Operator, cluster: ServerProcesses, directory: Path) -> None:
    """Only the first is left, and a backup of it becomes a cluster of its own."""
    for server in cluster.servers.values():
        server.kill()
    for name in ("1", "2"):
        shutil.rmtree(directory / name)
    own, copy = directory / "0", directory / "copy"
    shutil.copytree(own, copy)
    before = operator.history_of(own)
    assert operator.tries("recover", str(own), "--voters", "0,1", "--yes").exit_code == 2
    for each in (own, copy):
        operator.does("recover", str(each), "--voters", "0", "--yes")
    assert len({before, operator.history_of(own), operator.history_of(copy)}) == 3


def grows_and_moves(operator: Operator, cluster: ServerProcesses, directory: Path) -> None:
    """The second joins what was recovered, and is killed before it votes; the first is killed
    while it gives the vote, and comes back elsewhere: the second has to find it there."""
    first, at = cluster.servers["0"], cluster.peers["1"]
    joining = ("--id", "1", "--join", "--data", str(directory / "1"), "--create-data")
    places = ("--listen", shown(at), "--client-listen", shown(cluster.clients["1"]))
    second = operator.serves(directory / "joins.log", *joining, *places)
    with free_ports(2) as (moved_to, moved_clients):
        pass
    own = ("--id", "0", "--data", str(directory / "moved"))
    places = ("--listen", shown(moved_to), "--client-listen", shown(moved_clients))
    moved = operator.serves(directory / "moved.log", *own, *places)
    try:
        operator.starts(first, second)
        operator.does_in_time("admin", "add-learner", "1", shown(at))
        second.kill()
        operator.starts(second)
        gives_up = operator.tries("admin", "promote", "1", "--timeout", "1ms")
        assert gives_up.exit_code in (0, 1, 4)
        first.kill()
        (directory / "0").rename(directory / "moved")
        operator.starts(moved)
        operator.addresses = [moved_clients, cluster.clients["1"]]
        until(lambda: operator.tries("admin", "promote", "1").exit_code == 0)
        operator.does_in_time("admin", "move", "0", shown(moved_to))
        moved.kill()
        operator.starts(moved)
        operator.does_in_time("kv", "put", "c", "3")
        for key, value in (("a", "1"), ("b", "2"), ("c", "3")):
            assert operator.does_in_time("kv", "get", key) == [value]
    finally:
        second.kill()
        moved.kill()


def test_a_cluster_of_one_is_founded_once(tmp_path: Path) -> None:
    """Killed in the moment in which its directory is made; then without the word that founds."""
    with ServerProcesses(tmp_path, 1) as cluster:
        operator = Operator(cluster.addresses)
        founding = cluster.servers["0"]
        assert "--found-alone" in cluster.arguments["0"]
        founding.start()
        until((tmp_path / "0" / "log.sqlite3").exists)
        founding.kill()
        operator.starts(founding)
        operator.does_in_time("kv", "put", "a", "1")
        founding.kill()
        before = operator.history_of(tmp_path / "0")
        left = [word for word in cluster.arguments["0"] if word != "--found-alone"]
        again = operator.serves(tmp_path / "again.log", *left)
        try:
            operator.starts(again)
            assert operator.does_in_time("kv", "get", "a") == ["1"]
            assert operator.histories() == {before}
        finally:
            again.kill()
