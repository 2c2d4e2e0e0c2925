"""A slice of fuzzing real servers: some seconds of each way, and that what goes wrong is seen."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.fuzz import crashes, ports
from tests.fuzz.arenas import BY_NAME
from tests.fuzz.crews import harmless_request
from tests.fuzz.recording import record
from trioraft.core.types import NUMBER_MAX
from trioraft.rpc import protocol

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="memory and descriptors are looked up in /proc"
)


@pytest.mark.parametrize("name", ["members", "tls"])
def test_servers_live_through_some_seconds_of_it(name: str, tmp_path: Path) -> None:
    """Both ports, of a leader and of followers, with and without TLS."""
    summary = ports.fuzz(BY_NAME[name], "slice", seconds=1.5, folder=tmp_path)
    assert not summary.findings, summary
    assert summary.inputs > 50


def test_a_server_that_dies_is_found_and_its_steps_are_replayed(tmp_path: Path) -> None:
    """The crash is planted: whoever sends the recorded request, a server is killed."""
    (tmp_path / "arena").mkdir()
    arena = BY_NAME["clients"].arena(tmp_path / "arena", Random(1), record())
    try:
        arena.begin()
        arena.attack()
        assert arena.check() is None
        for _ in range(20):
            arena.attack()
        killed = arena.attacked[0]
        arena.cluster.servers[killed].kill()
        wrong = arena.check()
        assert wrong is not None
        assert f"server {killed} exited" in wrong
        assert any(step.data for step in arena.steps)
        steps = arena.steps
        path = crashes.save(crashes.Crash("clients", "1", wrong, steps=steps), tmp_path)
    finally:
        arena.end()
    assert crashes.load(path).steps == steps


def test_requests_that_change_the_members_are_made_to_be_refused() -> None:
    request = protocol.ChangeVotersRequest(1, ("0",))
    changed = protocol.decode_request(harmless_request(protocol.frame(request)[4:]))
    assert isinstance(changed, protocol.ChangeVotersRequest)
    assert changed.expected_index == NUMBER_MAX - 1
