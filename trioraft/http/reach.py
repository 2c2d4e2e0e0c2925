"""NodeReach: from the HTTP port's thread to the node in its own.

Rules of this file:

* What is asked runs in the node's thread, between two of its tasks: a plain function, quick, whose
  errors stop here. All who ask share one look each `LOOK_EVERY_S`: the node is asked no more often,
  however many ask the port.
* Nothing here waits for the node for ever: a loop that does not answer is what is to be told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final, TypeVar, final

import attrs
import trio

from ..core.errors import NodeDead, RaftError
from ..node.figures import Figures, figures_of
from ..node.meter import Distribution
from ..node.node import Node
from ..rpc.protocol import ServerStatus
from ..service.port import Service

T = TypeVar("T")


@final
@attrs.frozen
class View:
    """A node, and the port for clients beside it, at one moment."""

    figures: Figures
    service: ServerStatus | None = None
    """What the port for clients tells; None: there is none."""


LOOK_EVERY_S: Final = 0.2
"""Figures that are no older are good enough for whoever asks."""
ANSWER_S: Final = 2.0
"""How long the node's loop may take to answer before something is said without it, in seconds."""
SAMPLE_S: Final = 1.0
"""How often the node's loop is asked for the sake of its lag, in seconds."""


class LoopSilent(RaftError):  # noqa: N818 - what happened
    """The node's event loop did not answer in time.

    Fault: whatever runs in that loop, or the machine's.
    Remedy: find what computes in it, or waits without awaiting; ask again.
    """


@final
class NodeReach:
    """A way to one node, for tasks of another Trio run. Handed out in `request.app.state.reach`.

    Args:
        node: which.
        token: of the Trio run that it lives in.
        service: the port for clients beside it, if there is one.
    """

    def __init__(
        self, node: Node, token: trio.lowlevel.TrioToken, service: Service | None = None
    ) -> None:
        self.node_id: str = node.id
        self.lag: Distribution = Distribution()
        """How late the node's loop did what it was asked at once."""
        self._node = node
        self._token = token
        self._service = service
        self._answered_s = time.monotonic()
        self._view: View | None = None
        self._taken_s = -math.inf
        self._is_looking: trio.Event | None = None
        self._scope = trio.CancelScope()

    @property
    def silent_s(self) -> float:
        """For how long the node's loop has not answered, in seconds."""
        return time.monotonic() - self._answered_s

    async def call(self, function: Callable[[Node], T], *, patience_s: float = ANSWER_S) -> T:
        """Call a plain, quick function with the node, in its thread.

        Args:
            function: what to call.
            patience_s: how long to wait for it, in seconds.

        Raises:
            LoopSilent: it was not called in time; it may be, later.
            NodeDead: the node's loop has ended.
            Exception: the function's own.

        Cancelling the wait does not undo it.
        """
        here = trio.lowlevel.current_trio_token()
        done = trio.Event()
        found: list[T] = []
        failed: list[BaseException] = []
        asked_s = time.perf_counter()

        def there() -> None:
            late_s = time.perf_counter() - asked_s
            try:
                found.append(function(self._node))
            except BaseException as error:  # noqa: BLE001 - raised again where it was asked
                failed.append(error)
            try:
                here.run_sync_soon(answered, late_s)
            except trio.RunFinishedError:
                return  # nobody waits any more

        def answered(late_s: float) -> None:
            self._answered_s = time.monotonic()
            self.lag.add(late_s)
            done.set()

        try:
            self._token.run_sync_soon(there)
        except trio.RunFinishedError:
            raise NodeDead(
                f"the event loop of node {self.node_id!r} has ended: open another node"
            ) from None
        with trio.move_on_after(patience_s):
            await done.wait()
        if failed:
            raise failed[0]
        if not done.is_set():
            raise LoopSilent(
                f"the event loop of node {self.node_id!r} has not answered for "
                f"{self.silent_s:.1f} s: find what computes in it, and ask again"
            )
        return found[0]

    def soon(self, function: Callable[[], object]) -> None:
        """Have this called in the node's thread, if that is there still. It must not raise."""
        try:
            self._token.run_sync_soon(function)
        except trio.RunFinishedError:
            return

    async def view(self) -> View:
        """What is known of the node, no older than `LOOK_EVERY_S`.

        Raises:
            LoopSilent: the node's loop did not answer in time.
            NodeDead: it has ended.

        Cancelling the wait disturbs nobody.
        """
        while self._is_looking is not None:
            await self._is_looking.wait()
        known = self._view
        if known is not None and time.monotonic() - self._taken_s < LOOK_EVERY_S:
            await trio.lowlevel.checkpoint()
            return known
        looking = self._is_looking = trio.Event()
        try:
            known = self._view = await self.call(self._look)
            self._taken_s = time.monotonic()
        finally:
            self._is_looking = None
            looking.set()
        return known

    def _look(self, node: Node) -> View:
        """In the node's thread."""
        return View(figures_of(node), None if self._service is None else self._service.status())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Ask now and then, for the sake of the lag, until `stop` or the node's loop is over.

        Cancelling is one way to end it; nothing is left.
        """
        task_status.started()
        with self._scope:
            while True:
                await trio.sleep(SAMPLE_S)
                try:
                    await self.call(lambda _: None, patience_s=math.inf)
                except NodeDead:
                    return

    def stop(self) -> None:
        """End `run`."""
        self._scope.cancel()
