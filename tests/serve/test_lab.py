"""The laboratory of `trioraft cluster --lab`: what is said to it, what its members are told, and
that nothing but a laboratory can be cut off."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import msgspec
import pytest
import trio

from tests.serve import commands
from tests.serve.clusters import PATIENCE_S, READY, started
from trioraft.cli.cluster.lab import Answer, Lab
from trioraft.cli.cluster.lab_member import LabServer, MemberCuts
from trioraft.cli.cluster.lab_orders import MemberOrder
from trioraft.core.config import Timing
from trioraft.core.messages import Introduction, Message, RequestVote
from trioraft.transport.cuttable import CuttableTransport

# --- in words -------------------------------------------------------------------------------


@attrs.define
class FakeProcesses:
    """Members that only remember what they were told."""

    ids: tuple[str, ...] = ("0", "1", "2")
    dead: set[str] = attrs.field(factory=set)
    orders: dict[str, MemberOrder] = attrs.field(factory=dict)
    done: list[str] = attrs.field(factory=list)

    def process_of(self, member: str) -> int | None:
        return None if member in self.dead else 1000 + int(member)

    def order(self, member: str, line: bytes) -> None:
        self.orders[member] = msgspec.json.decode(line, type=MemberOrder)

    def pause(self, member: str) -> None:
        self.done.append(f"pause {member}")

    def resume(self, member: str) -> None:
        self.done.append(f"resume {member}")

    async def kill(self, member: str) -> None:
        self.done.append(f"kill {member}")
        self.dead.add(member)

    async def start(self, member: str, *, has_pre_vote: bool) -> None:
        self.done.append(f"start {member} {has_pre_vote}")
        self.orders.pop(member, None)  # it knows nothing yet
        self.dead.discard(member)


@attrs.define
class FakeCluster:
    """A cluster that has the leader that it is told."""

    leads: str | None = "1"
    said: list[str] = attrs.field(factory=list)
    values: list[tuple[str, str]] = attrs.field(factory=list)

    def remark(self, text: str) -> None:
        self.said.append(text)

    def leader(self) -> str | None:
        return self.leads

    def put(self, key: str, value: str) -> bool:
        self.values.append((key, value))
        return True


@attrs.define
class Bench:
    """A laboratory without a cluster."""

    processes: FakeProcesses = attrs.field(factory=FakeProcesses)
    cluster: FakeCluster = attrs.field(factory=FakeCluster)
    lab: Lab = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.lab = Lab(self.processes, self.cluster)

    def do(self, text: str) -> Answer:
        async def run() -> Answer:
            return await self.lab.do(text)

        return trio.run(run)

    @property
    def blocked(self) -> list[tuple[str, str]]:
        """What members were told to drop: each way at both of its ends."""
        sent = {(one, two) for one, order in self.processes.orders.items() for two in order.to}
        got = {
            (one, two) for two, order in self.processes.orders.items() for one in order.come_from
        }
        assert sent == got == {tuple(way) for way in self.lab.state()["blocked"]}
        return sorted(sent)


@pytest.fixture
def bench() -> Bench:
    return Bench()


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("disconnect 0", ["01", "02", "10", "20"]),
        ("disconnect 0\nreconnect 0", []),
        ("partition 0 | 1 2", ["01", "02", "10", "20"]),
        ("partition 0 1", ["02", "12", "20", "21"]),
        ("cut 0>1 leader>2", ["01", "12"]),
        ("cut 0>1 1>2\nmend 0>1", ["12"]),
        ("disconnect 0\npartition 0 1 | 2\ncut 1>0\nheal", []),
        ("# a remark\n\nDisconnect follower", ["01", "02", "10", "20"]),
    ],
)
def test_each_member_is_told_which_ways_are_cut(
    bench: Bench, text: str, blocked: list[str]
) -> None:
    answer = bench.do(text)
    assert (answer.status, answer.problem) == (200, None)
    assert ["".join(way) for way in bench.blocked] == blocked
    assert answer.done == bench.cluster.said


def test_processes_are_paused_killed_and_started_again(bench: Bench) -> None:
    bench.do("disconnect 2\npause 0\nresume 0\nkill 2\nrestart 2 0")
    told = ["pause 0", "resume 0", "kill 2", "start 2 True", "kill 0", "start 0 True"]
    assert bench.processes.done == told
    assert bench.processes.orders["2"].to == ("0", "1"), "a new process is told of the cuts"
    said = [
        "Disconnect 2",
        "0 is paused",
        "0 goes on",
        "Crash 2",
        "Restart 2",
        "Crash 0",
        "Restart 0",
    ]
    assert bench.cluster.said == said
    bench.processes.done.clear()
    bench.do("pre-vote off")
    assert bench.processes.done[3:] == ["start 0 False", "start 1 False", "start 2 False"]
    bench.do("kill 1\nrestart 1")
    assert bench.processes.done[-1] == "start 1 False"


@pytest.mark.parametrize(
    ("text", "status", "said"),
    [
        ("", 400, "there is no command"),
        ("explode 1", 400, "'explode' is no command: say one of disconnect"),
        ("disconnect", 400, "name a member"),
        ("disconnect 7", 400, "there is no member '7': there are 0, 1, 2"),
        ("partition 0 1 2", 400, "all are on one side"),
        ("partition 0 1 | 1 2", 400, "one side only"),
        ("cut 0-1", 400, "is no way"),
        ("cut 0>0", 400, "from a member to itself"),
        ("pre-vote maybe", 400, "say pre-vote on"),
        ("kill 0\nkill 0", 409, "member 0 is dead: restart it first"),
        ("heal\n" * 101, 400, "at most 100"),
    ],
)
def test_what_makes_no_sense_is_said(bench: Bench, text: str, status: int, said: str) -> None:
    answer = bench.do(text)
    assert answer.status == status
    assert said in (answer.problem or "")


def test_without_a_leader_nobody_can_be_named_so(bench: Bench) -> None:
    bench.cluster.leads = None
    answer = bench.do("heal\ndisconnect leader\nheal")
    assert (answer.status, answer.done) == (409, ["Heal"])
    assert "nobody leads now" in (answer.problem or "")
    assert bench.blocked == []


def test_a_value_is_written_in_the_background(bench: Bench) -> None:
    bench.do("propose colour dark red")
    assert bench.cluster.values == [("colour", "dark red")]


# --- a member's transport -------------------------------------------------------------------


@attrs.define
class FakeTransport:
    node_id: str = "0"
    sent: list[Message] = attrs.field(factory=list)
    owner: Any = None

    def send(self, message: Message) -> None:
        self.sent.append(message)

    async def run(self, owner: Any, **_: Any) -> None:
        self.owner = owner

    def budgets(self) -> dict[str, int]:
        return {"its own": 1}


@attrs.define
class FakeOwner:
    got: list[Message] = attrs.field(factory=list)
    lost: list[str] = attrs.field(factory=list)
    timing: Timing = attrs.field(factory=Timing)

    def on_message(self, message: Message, _: Introduction) -> None:
        self.got.append(message)

    def on_peer_lost(self, peer: str) -> None:
        self.lost.append(peer)


def test_a_way_that_is_cut_is_silent_in_its_direction() -> None:
    cuts, real, owner = MemberCuts(), FakeTransport(), FakeOwner()
    transport = CuttableTransport(real, cuts)  # type: ignore[arg-type] # as far as it is used
    trio.run(lambda: transport.run(owner, cluster_id="", limits=None))  # type: ignore[arg-type] # unused
    out, back = RequestVote("0", "1", 1, 0, 0), RequestVote("1", "0", 1, 0, 0)
    said = Introduction("1", "0", 0, 1)

    def all_pass() -> tuple[int, int, int]:
        transport.send(out)
        real.owner.on_message(back, said)
        real.owner.on_peer_lost("1")
        counts = len(real.sent), len(owner.got), len(owner.lost)
        real.sent.clear()
        owner.got.clear()
        owner.lost.clear()
        return counts

    assert all_pass() == (1, 1, 1)
    cuts.to = frozenset({"1"})
    assert all_pass() == (0, 1, 1)
    cuts.to, cuts.come_from = frozenset(), frozenset({"1"})
    assert all_pass() == (1, 0, 0)
    cuts.come_from = frozenset({"2"})
    assert all_pass() == (1, 1, 1)
    assert transport.budgets() == {"its own": 1}
    assert real.owner.timing == owner.timing


def test_pre_vote_is_left_out_only_where_that_was_said() -> None:
    assert LabServer(MemberCuts()).timing(Timing()) == Timing()
    assert not LabServer(MemberCuts(), has_pre_vote=False).timing(Timing()).pre_vote


# --- for real -------------------------------------------------------------------------------


@attrs.define
class Session:
    """Somebody at a laboratory that runs."""

    url: str
    token: str

    def do(self, text: str, **headers: str) -> dict[str, Any]:
        return self.ask("/lab", text.encode(), **headers)

    def ask(self, path: str, data: bytes | None = None, **headers: str) -> dict[str, Any]:
        told = {"authorization": f"Bearer {self.token}", **headers}
        asked = urllib.request.Request(self.url + path, data, told)  # noqa: S310 - of this machine
        with urllib.request.urlopen(asked, timeout=PATIENCE_S) as answer:  # noqa: S310 - likewise
            found: dict[str, Any] = json.load(answer)
            return found

    def wait(self, is_so: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        give_up_s = time.monotonic() + PATIENCE_S
        while not is_so(state := self.ask("/lab")):
            assert time.monotonic() < give_up_s, state
            time.sleep(0.05)  # what a cluster does by itself tells nobody
        return state


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGSTOP")
def test_a_real_cluster_is_broken_and_mended(tmp_path: Path) -> None:
    with started("3", "--lab", "--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        path = tmp_path / "here" / "lab.json"
        assert path.stat().st_mode & 0o777 == 0o600
        told = json.loads(path.read_bytes())
        lab = Session(told["url"], told["token"])
        old = lab.wait(lambda state: state["leader"] is not None)["leader"]
        assert lab.do("disconnect leader")["done"] == [f"Disconnect {old}"]
        lab.wait(lambda state: state["leader"] not in (None, old))
        lab.do("heal\npropose greeting hello")
        env = {"TRIORAFT_ADDRESSES": cluster.addresses}
        give_up_s = time.monotonic() + PATIENCE_S
        while commands.run("kv", "get", "greeting", env=env).stdout.strip() != "hello":
            assert time.monotonic() < give_up_s
        victim = lab.wait(lambda state: state["leader"] is not None)["leader"]
        state = lab.do(f"kill {victim}")["lab"]
        (dead,) = (each for each in state["members"] if each["state"] == "dead")
        assert dead["id"] == victim
        state = lab.do(f"restart {victim}\npause {victim}")["lab"]
        (paused,) = (each for each in state["members"] if each["state"] == "paused")
        stat = Path(f"/proc/{paused['process']}/stat")
        give_up_s = time.monotonic() + PATIENCE_S
        while stat.exists() and stat.read_text("ascii").rpartition(") ")[2][0] != "T":
            assert time.monotonic() < give_up_s, "it was not stopped"
        with pytest.raises(urllib.error.HTTPError, match="401"):
            lab.do("heal", authorization="Bearer guessed")
        with pytest.raises(urllib.error.HTTPError, match="409"):
            lab.do(f"kill {victim}\npause {victim}")
        assert cluster.end(signal.SIGINT) == 130  # with one that is dead
        assert not path.exists()
        assert any("ended, as the laboratory wanted" in line for line in cluster.said)
        assert "Traceback" not in "\n".join(cluster.said)


def test_a_paused_member_does_not_keep_the_others(tmp_path: Path) -> None:
    with started("1", "--lab", "--data", "here", cwd=tmp_path) as cluster:
        cluster.wait_for(READY)
        told = json.loads((tmp_path / "here" / "lab.json").read_bytes())
        lab = Session(told["url"], told["token"])
        process = lab.do("pause 0")["lab"]["members"][0]["process"]
        assert cluster.end(signal.SIGTERM) == 143
        with pytest.raises(ProcessLookupError):
            os.kill(process, 0)


def test_a_page_is_for_this_machine_only() -> None:
    result = commands.run("cluster", "3", "--lab", "--lab-listen", "0.0.0.0:8080")
    assert result.exit_code == 2
    assert "'0.0.0.0' is not this machine alone" in result.stderr
