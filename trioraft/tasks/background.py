"""running_beside: a service beside your code, with errors that arrive as themselves.

Rules of this file:

* Errors arrive as themselves. A plain nursery would wrap every error in a group, its own user's
  included, and a context manager that yields inside a nursery that it cancels would let the body
  die silently. Here the body's error is raised as it is, and a service that fails ends the body
  with *its* error; neither is lost where both are cancelled from outside in that moment.
* A service with something to do before it stops outlives a cancellation from outside until then.
* When the `async with` is over, the service is gone.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Protocol, final

import trio


class BackgroundService(Protocol):
    """What can run beside a body; `started()` lets the body begin."""

    def __call__(self, *, task_status: trio.TaskStatus[None]) -> Awaitable[None]: ...


@asynccontextmanager
async def running_beside(
    service: BackgroundService,
    *,
    stop: Callable[[], None],
    name: str,
    before_stop: Callable[[], Awaitable[None]] | None = None,
) -> AsyncIterator[None]:
    """Run `service` for as long as the body takes.

    Args:
        service: started before the body begins. If it ends by itself, the body goes on.
        stop: makes the service end; called when the body is left.
        before_stop: awaited before `stop`, shielded from cancellation, as the service is until
            then: it must end by itself soon.
        name: of the service's task.

    Raises:
        Exception: the service's, if it failed: before the body, or by cancelling it. Otherwise
            the body's own.
    """
    guarded = _Guarded(service, trio.CancelScope(shield=before_stop is not None))
    body_error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(guarded.run, name=name)
            try:
                await guarded.begun.wait()
                with guarded.body_scope:
                    if guarded.failure is None:
                        try:
                            yield
                        except trio.Cancelled:
                            raise
                        except BaseException as error:  # noqa: BLE001 - raised again below, ungrouped
                            body_error = error
            finally:
                try:
                    if before_stop is not None:
                        with trio.CancelScope(shield=True):
                            await before_stop()
                except Exception as error:  # noqa: BLE001 - raised again below, ungrouped
                    body_error = body_error or error
                finally:
                    stop()
                    guarded.service_scope.shield = False
    except BaseException as error:
        if uncancelled(error) is not None or (guarded.failure or body_error) is None:
            raise  # otherwise there is an error to be told, as from any code that is cancelled
    if guarded.failure is not None:
        if guarded.failure.__cause__ is None and body_error is not None:
            raise guarded.failure from body_error
        raise guarded.failure  # with a cause of its own, which says more
    if body_error is not None:
        raise body_error


@final
class _Guarded:
    """A service's run, with its failure kept aside."""

    def __init__(self, service: BackgroundService, service_scope: trio.CancelScope) -> None:
        self.begun = trio.Event()
        self.body_scope = trio.CancelScope()
        self.service_scope = service_scope
        self.failure: Exception | None = None
        self._service = service

    async def run(self) -> None:
        try:
            with self.service_scope:
                await self._service(task_status=self)
        except BaseException as error:  # raised again: here, or in the user's own task
            failure = uncancelled(error)
            if not isinstance(failure, Exception):
                raise
            self.failure = root_cause(failure)
            self.body_scope.cancel()
        finally:
            self.begun.set()

    def started(self, _value: None = None) -> None:
        """The service is ready: let the body begin."""
        self.begun.set()


def uncancelled(error: BaseException) -> BaseException | None:
    """What there is beside cancellations, if anything."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(trio.Cancelled)[1]
    return None if isinstance(error, trio.Cancelled) else error


def root_cause(error: Exception) -> Exception:
    """The first error in a group, however deep, with a note on each further one: two calls of a
    disk that fails are one failure to whoever has to handle it."""
    if not isinstance(error, ExceptionGroup):
        return error
    first, *further = [root_cause(each) for each in error.exceptions]
    for other in further:
        first.add_note(f"at the same time: {type(other).__name__}: {other}")
    return first
