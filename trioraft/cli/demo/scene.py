"""Scene: a scenario, played on nodes in this process and shown line by line.

Rules of this file:

* A line of the text is a step of the board, also where several phrases stand in it, and where it
  is repeated.
* The scenario decides what is waited for: nothing here waits for the reader's eyes but at the end,
  for a pause would be part of the story.
"""

from __future__ import annotations

from functools import partial
from typing import final

import trio

from ...core.errors import NodeDead
from ...logs.loggers import EventLogger
from ...node.node import Node
from ...scenario import Needs, Scenario, ScenarioFailed, Step, check_playable, play
from ...testing.cluster import Cluster, open_cluster
from ...testing.scenarios import missing_on, open_backend
from .board import Board
from .board import Step as BoardStep
from .run import Tale
from .story import Tempo


def tale_of(scenario: Scenario, seed: int, *, picture: str) -> Tale:
    """What the demo tells when it plays this.

    Args:
        scenario: already as slow as it shall be.
        seed: of all chance.
        picture: how to get the picture, said where an expectation fails.
    """
    lines = dict.fromkeys(_name_of(step) for step in scenario.steps)

    async def tell(board: Board, tempo: Tempo, logger: EventLogger) -> None:
        await _Scene(scenario, board, seed, logger, picture).run()
        await trio.sleep(tempo.linger_s)  # for the reader's eyes only

    return Tale(scenario.settings.ids, tuple(lines), tell)


def has_sockets(scenario: Scenario) -> bool:
    """Whether its nodes speak over sockets here: unless it sets how messages fare."""
    return all(need is not Needs.NETWORK for need, _ in scenario.needs())


def check(scenario: Scenario) -> None:
    """Whether it can be played here.

    Raises:
        ScenarioError: it asks for something else.
    """
    _, missing = missing_on(is_tcp=has_sockets(scenario))
    check_playable(scenario, missing, "the demo")


def _name_of(step: Step) -> str:
    return f"line {step.line}"


@final
class _Scene:
    def __init__(
        self, scenario: Scenario, board: Board, seed: int, logger: EventLogger, picture: str
    ) -> None:
        self._scenario = scenario
        self._board = board
        self._seed = seed
        self._logger = logger
        self._picture = picture
        self._lines = scenario.text.splitlines()
        self._step: BoardStep | None = None
        self._began_s = 0.0

    async def run(self) -> None:
        """Play it. When it is over, failed or cancelled, no node is left."""
        failure: Exception | None = None
        async with trio.open_nursery() as nursery:  # its readers end with their nodes
            try:
                await self._play(nursery)
            except Exception as error:  # noqa: BLE001 - raised below, outside of the nursery
                failure = error
        if failure is not None:
            raise failure

    async def _play(self, nursery: trio.Nursery) -> None:
        def on_open(node: Node) -> None:
            self._board.opened(node)
            nursery.start_soon(self._read, node, name=f"demo.events[{node.id}]")

        opening = partial(
            open_cluster,
            network="tcp" if has_sockets(self._scenario) else "memory",
            seed=self._seed,
            logger=self._logger,
            on_open=on_open,
        )
        async with open_backend(self._scenario, opening, picture=self._picture) as backend:
            cluster = backend.cluster
            try:
                await play(self._scenario, backend, on_step=partial(self._on_step, cluster))
            except ScenarioFailed:
                self._finish(cluster, "FAILED")
                raise
            self._finish(cluster)

    async def _read(self, node: Node) -> None:
        try:
            async with node.events() as stream:
                async for event in stream:
                    self._board.apply(node.id, event)
        except NodeDead:
            return

    async def _on_step(self, cluster: Cluster, step: Step) -> None:
        name = _name_of(step)
        if self._step is not None and self._step.name == name:
            self._look(cluster)
            return
        self._finish(cluster)
        self._step = self._board.begin(name, self._lines[step.line - 1].strip())
        self._began_s = trio.current_time()

    def _finish(self, cluster: Cluster, outcome: str | None = None) -> None:
        self._look(cluster)
        if self._step is not None:
            took_s = trio.current_time() - self._began_s
            said = outcome or self._seen()
            self._step.finish(took_s, f"{self._step.text.partition('  #')[0].strip()}: {said}")

    def _look(self, cluster: Cluster) -> None:
        for row in self._board.rows.values():
            row.is_cut = row.node_id in cluster.disconnected

    def _seen(self) -> str:
        elected = self._board.elected()
        if elected is None:
            return f"no leader that all follow, term {self._board.term}"
        return f"node {elected.leader_id} leads term {elected.term}"
