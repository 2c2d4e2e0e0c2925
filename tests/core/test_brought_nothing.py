"""What a core says to have brought nothing is nothing: whole runs of the simulator are watched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from trioraft.core.errors import InvariantViolation
from trioraft.core.raft import Raft
from trioraft.core.ready import Ready
from trioraft.sim.simulation import run_seed

WATCHED = ("step", "on_persisted")
LOOKED_AT = ("hasten_commit_notice",)  # it moves a timer, and asks for nothing now
SEEDS = range(12)


class Watched(Raft):
    """Fails where something is to be done after nothing but what brought nothing."""

    left_out = 0
    """How often nobody would have had to ask, in all runs."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.has_news = True

    def ready(self) -> Ready | None:
        found = super().ready()
        if self.has_news:
            self.has_news = False
            return found
        Watched.left_out += 1
        if found is not None and found != _asked_again(found):
            raise InvariantViolation(f"this was left out: {found}")
        return found


def _asked_again(found: Ready) -> Ready:
    """What is asked for again because of the time alone may come with any input."""
    return Ready(found.number, chunk_requests=found.chunk_requests)


def _noting(name: str) -> Callable[..., Any]:
    call = getattr(Raft, name)

    def noting(self: Watched, *args: Any, **options: Any) -> Any:
        before = self.heartbeat_deadline or 0.0
        try:
            return call(self, *args, **options)
        finally:
            is_quiet = name in WATCHED and self.brought_nothing
            self.has_news = self.has_news or not is_quiet
            if is_quiet and (self.heartbeat_deadline or 0.0) < before:
                raise InvariantViolation("a timer was moved ahead")

    return noting


for each, member in vars(Raft).items():
    if callable(member) and not each.startswith("_") and each not in ("ready", *LOOKED_AT):
        setattr(Watched, each, _noting(each))


def test_nothing_is_to_be_done_after_what_brought_nothing() -> None:
    Watched.left_out = 0
    for seed in SEEDS:
        assert run_seed(seed, make_core=Watched).failure is None, f"seed {seed}"
    assert Watched.left_out > 1_000
