"""The waiting line as all nodes have it: order, leases, epochs, bounds, and what it costs."""

from __future__ import annotations

import cProfile
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trioraft.coordination.answers import KeptAlive, LinedUp
from trioraft.machines.replicated.replica import MethodCall, Tick
from trioraft.structures import LineFull, Lock

ENCODE = msgspec.msgpack.encode


class Applied:
    """A lock, and commands applied to it by hand."""

    def __init__(self, lock: Lock | None = None) -> None:
        self.lock = lock or Lock()
        self.index = 0

    def do(self, at_s: float, name: str, *args: Any) -> Any:
        """Apply one command at this log time; its result, as it travels."""
        self.index += 1
        call = MethodCall(name, 2, at_s, msgspec.Raw(ENCODE(args)))
        return msgspec.msgpack.decode(self.lock.apply(self.index, ENCODE(call)))

    def line_up(self, at_s: float, host: str, ticket: str, lease_s: float = 10) -> LinedUp:
        """A host takes a place."""
        return LinedUp(*self.do(at_s, "line_up", host, ticket, f"owner of {ticket}", lease_s))

    def keep_alive(self, at_s: float, host: str, *gone: str, lease_s: float = 10) -> KeptAlive:
        """A host says that it lives."""
        return KeptAlive(*self.do(at_s, "keep_alive", host, lease_s, gone))

    def leave(self, at_s: float, *tickets: str) -> int:
        """Places are given up."""
        left: int = self.do(at_s, "leave_line", tickets)
        return left

    def tick(self, at_s: float) -> None:
        """Log time goes on."""
        self.index += 1
        self.lock.apply(self.index, ENCODE(Tick(2, at_s)))

    @property
    def holder(self) -> str | None:
        """Whose ticket has the lock."""
        return next(iter(self.lock.holding), None)

    def restored(self) -> Applied:
        """The same, from a snapshot."""
        other = Applied()
        other.lock.restore(self.lock.snapshot())
        other.index = self.index
        return other


def test_first_come_first_served_and_the_token_is_the_index() -> None:
    line = Applied()
    assert line.line_up(0, "h1", "a") == LinedUp(1, 1)
    assert line.line_up(1, "h2", "b") == LinedUp(2, 0)
    assert line.line_up(2, "h1", "c") == LinedUp(1, 0)
    assert line.line_up(2, "h2", "b") == LinedUp(2, 0)  # asked again: no second place
    assert line.leave(3, "a") == 1
    assert line.holder == "b"
    assert line.lock.holding["b"].token == line.index == line.lock.last_token
    assert line.leave(4, "b") == 1
    assert line.holder == "c"
    assert line.leave(5, "c") == 1
    assert line.lock.hosts == {}


def test_who_leaves_the_line_is_passed_over() -> None:
    line = Applied()
    for ticket in "abcd":
        line.line_up(0, "h", ticket)
    assert line.leave(1, "b", "c", "nobody") == 2
    line.leave(2, "a")
    assert line.holder == "d"


def test_who_lines_up_again_stands_at_the_end() -> None:
    """The same ticket, too, on every node: also where its old place is remembered."""
    line = Applied()
    for ticket in "abc":
        line.line_up(0, "h", ticket)
    line.leave(1, "b")
    line.line_up(1, "h", "b")
    other = line.restored()
    for each in (line, other):
        each.leave(2, "a")
        assert each.holder == "c"


def test_a_host_whose_lease_is_over_loses_everything_and_the_next_is_served() -> None:
    line = Applied()
    line.line_up(0, "dead", "a")
    line.line_up(0, "dead", "b")
    line.line_up(5, "alive", "c")
    line.line_up(6, "dead", "d", lease_s=4)  # which shortens nothing but its own lease
    assert line.lock.next_expiry_s() == 10
    line.tick(9.9)
    assert line.holder == "a"
    line.tick(10)
    assert line.holder == "c"
    assert line.lock.next_expiry_s() == 15
    assert list(line.lock.hosts) == ["alive"]


def test_a_lease_is_over_before_the_command_at_that_time() -> None:
    line = Applied()
    line.line_up(0, "dead", "a")
    assert line.line_up(10, "h", "b").token == line.index


def test_one_renewal_keeps_all_places_of_a_host() -> None:
    line = Applied()
    for ticket in "abc":
        line.line_up(0, "h", ticket)
    answer = line.keep_alive(9, "h", "b")
    assert answer == KeptAlive(line.index, 1, {"a": 1})
    line.tick(18.9)
    assert line.holder == "a"
    assert list(line.lock.waiting) == ["c"]
    line.tick(19)
    assert line.lock.hosts == {}


def test_a_host_that_was_forgotten_learns_so_by_its_epoch() -> None:
    line = Applied()
    first = line.line_up(0, "h", "a")
    line.tick(10)
    answer = line.keep_alive(11, "h")
    assert answer == KeptAlive(line.index, line.index, {})
    assert answer.epoch > first.epoch
    again = line.line_up(12, "h", "b")
    assert again.epoch > answer.epoch


def test_there_is_room_for_so_many_and_no_more() -> None:
    class Narrow(Lock):
        """Few may wait."""

        places_max = 3
        hosts_max = 2

    line = Applied(Narrow())
    line.line_up(0, "h1", "a")
    line.line_up(0, "h2", "b")
    with pytest.raises(LineFull, match="2 processes"):
        line.line_up(0, "h3", "c")
    line.line_up(0, "h2", "c")
    with pytest.raises(LineFull, match="3 wait already"):
        line.line_up(0, "h2", "d")
    assert line.line_up(0, "h2", "c").token == 0  # who stands there already, may ask


def test_what_is_acquired_outside_the_line_holds_it_up_until_its_lease_is_over() -> None:
    line = Applied()
    token = line.do(0, "acquire", "o", 5.0)
    assert line.line_up(1, "h", "a").token == 0
    assert line.do(1, "acquire", "p", 5.0) is None
    assert line.lock.next_expiry_s() == 5
    line.tick(5)
    assert line.holder == "a"
    assert line.lock.holding["a"].token > token
    assert line.do(5, "acquire", "p", 5.0) is None
    assert line.do(6, "release", line.lock.holding["a"].token)  # by whoever may
    assert line.do(6, "acquire", "p", 5.0) == line.index


def test_what_an_older_release_wrote_is_read() -> None:
    """Logs and snapshots of version 1, which had no line, and whose tokens are no indices."""
    old = Lock()
    entries = [("acquire", ("o", 5.0)), ("acquire", ("p", 5.0)), ("release", (1,))]
    entries.append(("acquire", ("p", 5.0)))
    results = []
    for index, (name, args) in enumerate(entries, 100):
        call = MethodCall(name, 1, 1.0, msgspec.Raw(ENCODE(args)))
        results.append(msgspec.msgpack.decode(old.apply(index, ENCODE(call))))
    assert results == [1, None, True, 2]
    assert old.next_expiry_s() is None
    state = ENCODE({"lease": {"owner": "p", "token": 2, "expires_at_s": 6.0}, "last_token": 2})
    line = Applied()
    line.lock.load_state([state])
    line.index = 200
    assert line.line_up(2, "h", "a").token == 0
    line.tick(6)
    assert line.holder == "a"
    assert line.lock.last_token == line.index > 2


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["line_up", "line_up", "leave", "keep_alive", "tick", "acquire"]),
        st.integers(0, 3),
        st.integers(0, 7),
        st.floats(0, 4),
    ),
    max_size=60,
)


@given(STEPS, st.integers(0, 60))
def test_nodes_that_began_elsewhere_are_alike_and_there_is_one_holder(
    steps: list[tuple[str, int, int, float]], cut: int
) -> None:
    """One that took a snapshot in between remembers no old order of things; and a dumb line agrees
    on who is next."""
    line, other = Applied(), None
    at_s, granted = 0.0, 0
    for number, (what, host, ticket, passed_s) in enumerate(steps):
        at_s += passed_s
        if number == cut:
            other = line.restored()
        for each in (line, other):
            if each is not None:
                match what:
                    case "line_up":
                        each.line_up(at_s, f"h{host}", f"t{ticket}", lease_s=1 + ticket)
                    case "leave":
                        each.leave(at_s, f"t{ticket}")
                    case "keep_alive":
                        each.keep_alive(at_s, f"h{host}", lease_s=3)
                    case "tick":
                        each.tick(at_s)
                    case "acquire":
                        each.do(at_s, "acquire", f"o{host}", 2.0)
        lock = line.lock
        assert len(lock.holding) + (lock._valid_lease() is not None) <= 1
        assert lock.last_token >= granted
        granted = lock.last_token
        assert not (lock.waiting and not lock.holding and lock._valid_lease() is None)
        assert [p.number for p in lock.waiting.values()] == sorted(
            p.number for p in lock.waiting.values()
        )
        assert all(host.expires_at_s > lock.log_time_s for host in lock.hosts.values())
        places = {t for host in lock.hosts.values() for t in host.places}
        assert places == lock.waiting.keys() | lock.holding.keys()
        if other is not None:
            assert b"".join(lock.snapshot()) == b"".join(other.lock.snapshot())


def calls_per_hand_over(waiting: int, hosts: int) -> float:
    """Function calls that 200 hand-overs cost, each."""
    line = Applied()
    for number in range(waiting):
        line.line_up(0, f"h{number % hosts}", f"t{number}", lease_s=1e6)
    profile = cProfile.Profile()
    profile.enable()
    for number in range(200):
        holder = line.holder
        assert holder is not None
        line.leave(1, holder)
        line.line_up(1, f"h{number % hosts}", f"again{number}", lease_s=1e6)
    profile.disable()
    return sum(entry.callcount for entry in profile.getstats()) / 200


@pytest.mark.parametrize("is_one_host", [True, False])
def test_a_hand_over_costs_the_same_however_many_wait(is_one_host: bool) -> None:
    few, many = (calls_per_hand_over(n, 1 if is_one_host else n) for n in (10, 3000))
    assert many < 1.5 * few
