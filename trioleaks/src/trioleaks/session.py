"""The pytest plugin's work: every Trio run of a session is watched, every test judged.

Rules of this file:

* A leak is what is there when a test's clean-up is over: its nursery was cancelled, its fixtures
  torn down. System tasks, async generators, channels and limiters are judged when the Trio run's
  main task ends, for they end with the run; the test fails in its call. What lives in the process
  is judged after the tear-down of pytest's fixtures; the test then errs in its tear-down.
* What a fixture of a wider scope makes, or still holds, is judged when that scope ends.
* `strict` adds a check when the body of an async test ends, before anybody cleans up.
* A test that failed is not judged by what is left: its traceback keeps everything alive.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Coroutine, Generator, Mapping
from contextlib import ExitStack
from typing import Any, TypeAlias, final

import attrs
import pytest
import trio

from . import baseline, holders, privates
from .allowed import Allowed
from .checks import Check
from .probe import Left
from .processes import list_children
from .recorder import Recorder, keys
from .report import KINDS, Leak, LeakError, LeakKind, render
from .runs import Runs, TurnOwnership, WatchedRun
from .settings import Settings, seconds
from .stuck import PutOut, StuckWatch

_Body: TypeAlias = Callable[..., Coroutine[Any, Any, object]]

_BEFORE_TESTS = "before all tests"
STUCK_S_MIN = 0.01
"""A task that was cancelled needs time to end."""
_AFTER_CLEANUP = "still there when the clean-up was over"


@final
class _Turn:
    """A test that runs now, and what is known of it."""

    def __init__(self, item: pytest.Item, settings: Settings) -> None:
        self.item = item
        self.settings = settings
        self.allowed = Allowed(settings.allow)
        self.checks = () if settings.mode == "off" else _checks(item)
        self.runs = 0
        """Trio runs that it had a part in."""
        self.found: list[Left] = []
        """What was left by runs whose main task has ended, not yet told."""
        self.stuck: list[Leak] = []
        """Tasks that could not be cancelled."""
        self.told: list[Leak] = []
        """What was told of it, in reports."""
        self.is_red = False
        """Whether its call has failed: the traceback keeps everything alive."""
        self.old = 0
        """Leaks that the baseline knows."""
        self.unchecked = ""

    def is_meant(self, left: Left) -> bool:
        """Whether such a thing may stay."""
        leak = left.leak
        is_builtin = leak.kind in KINDS
        return (is_builtin and leak.kind.value not in self.settings.kinds) or self.allowed.allows(
            leak
        )


@final
class LeakSession:
    """Watches one session of tests."""

    def __init__(self, config: pytest.Config, wanted: Mapping[pytest.Item, Settings]) -> None:
        """Make one for tests that are collected.

        Args:
            config: pytest's.
            wanted: how each test is checked.

        Raises:
            pytest.UsageError: what is asked for cannot be understood.
        """
        for allow in {settings.allow for settings in wanted.values()}:
            try:
                Allowed(allow)
            except ValueError as error:
                raise pytest.UsageError(f"leaks: {error}") from None
        self._config = config
        self._wanted = wanted
        self._checked_nodes = {
            node
            for item, settings in wanted.items()
            if settings.mode != "off"
            for node in item.listchain()
        }
        """Tests that are checked, and the scopes around them."""
        self._baseline = baseline.of_config(config)
        self._is_update = bool(config.getoption("--leaks-update"))
        self._unknown = "; ".join(privates.changes())
        self._ownership = TurnOwnership(_BEFORE_TESTS)
        self._recorder = Recorder(self._ownership)
        self._ownership.owner_of_thread = self._recorder.threads.owner_of
        self._runs = Runs(
            self._recorder,
            self._ownership,
            on_begin=self._on_run,
            on_main_end=self._on_main_end,
            on_end=self._on_end,
        )
        self._stuck = StuckWatch(seconds(config, "leaks_stuck_s", STUCK_S_MIN), self._on_stuck)
        self._turn: _Turn | None = None
        self._noted: set[object] = set()
        self._holders = holders.Holders()
        self._deferred: dict[object, list[tuple[_Turn, Left]]] = {}

    # The session

    @pytest.hookimpl(wrapper=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        """Listen while tests run."""
        if self._unknown:
            return (yield)
        with ExitStack() as stack:
            self._recorder.start()
            stack.callback(self._recorder.stop)
            self._runs.start()
            stack.callback(self._runs.stop)
            self._stuck.start()
            stack.callback(self._stuck.stop)
            return (yield)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        """It is this test's turn."""
        self._turn = _Turn(item, self._wanted.get(item, _OFF))
        if not self._unknown:
            for node in item.listchain():
                if node not in self._noted:
                    self._noted.add(node)
                    self._recorder.note(node)
        self._ownership.turn = item
        try:
            return (yield)
        finally:
            self._ownership.turn = item.session
            self._turn = None

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_fixture_setup(
        self, fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
    ) -> Generator[None, object, object]:
        """What a fixture of a wider scope makes is its scope's."""
        if request.scope == "function" or self._unknown:
            return (yield)
        node = request.node
        descriptors, children = self._recorder.descriptors.listed(), frozenset(list_children())
        before, self._ownership.turn = self._ownership.turn, node
        try:
            return (yield)
        finally:
            self._ownership.turn = before
            self._recorder.descriptors.claim(node, descriptors)
            self._recorder.processes.claim(node, children)
            if self._turn is not None:
                self._recorder.handlers.note(self._turn.item)
            self._holders.add(fixturedef, node)

    @pytest.hookimpl
    def pytest_fixture_post_finalizer(self, fixturedef: pytest.FixtureDef[Any]) -> None:
        """A fixture that was torn down holds nothing any more."""
        self._holders.remove(fixturedef)

    # Runs

    def _on_run(self, run: WatchedRun) -> None:
        turn = self._turn
        if turn is not None and turn.settings.mode != "off":
            turn.runs += 1
            self._stuck.add(run)

    def _on_main_end(self, run: WatchedRun) -> None:
        """In the run's thread, with its system tasks still there."""
        turn = self._turn
        if turn is None or turn.settings.mode == "off":
            return
        owners = {turn.item, run.maker.owner}
        found = [
            *run.system_tasks(owners),
            *self._recorder.left_of_run(owners, is_over=True),
        ]
        if privates.current_runner() is not None:
            found += [Left(leak, id(leak)) for check in turn.checks for leak in check()]
        turn.found += [each for each in found if not turn.is_meant(each)]

    def _on_end(self, run: WatchedRun) -> None:
        self._stuck.remove(run)

    def _on_stuck(self, run: WatchedRun, leaks: list[Leak]) -> None:
        """In the run's thread: tell it now, for the test may never end by itself."""
        turn = self._turn
        if turn is None:
            return
        turn.stuck += leaks
        capture = self._config.pluginmanager.getplugin("capturemanager")
        reporter = self._config.pluginmanager.getplugin("terminalreporter")
        if reporter is None:
            return
        with ExitStack() as stack:
            if capture is not None:
                stack.enter_context(capture.global_and_fixture_disabled())
            reporter.write_line("")
            reporter.write_line(f"{turn.item.nodeid}: cannot be cancelled, and is put out:")
            for leak in leaks:
                reporter.write_line(f"  {leak}")

    # The test's call

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Generator[None, object, object]:
        """See what its Trio runs have left."""
        __tracebackhide__ = True
        turn = self._turn
        if turn is None or turn.settings.mode == "off" or self._unknown:
            return (yield)
        turn.runs += sum(1 for run in self._runs.live() if run.is_in_main_thread)
        result: object = None
        error: BaseException | None = None
        put_back = self._check_strictly(turn) if turn.settings.is_strict else None
        try:
            result = yield
        except BaseException as raised:  # noqa: BLE001 - it is raised again, or told
            error = raised
        finally:
            if put_back is not None:
                put_back()
        try:
            error = self._error_of_call(turn, item, error)
            turn.is_red = error is not None
            if error is not None:
                raise error
            return result
        finally:
            del error  # its traceback keeps this frame

    def _error_of_call(
        self, turn: _Turn, item: pytest.Item, error: BaseException | None
    ) -> BaseException | None:
        """What a test's call raises, once it is known what its runs have left."""
        if error is None and not turn.runs and _looks_like_trio(item):
            turn.unchecked = "no Trio run was seen, though they look like Trio tests"
        if error is not None and not _is_about_leaks(error):
            turn.unchecked = turn.unchecked or _why_not(error)
        leaks = _with_more(_with_more(self._stuck_of(turn), _leaks_in(error)), self._taken(turn))
        if not leaks:
            return error
        turn.told += leaks
        if error is not None and not _is_about_leaks(error):
            error.add_note(render(tuple(leaks)))
            return error
        # `warn`: the test is as good as it was.
        return LeakError(leaks) if turn.settings.mode == "error" else None

    def _stuck_of(self, turn: _Turn) -> list[Leak]:
        stuck, turn.stuck = turn.stuck, []
        return stuck

    def _taken(self, turn: _Turn) -> list[Leak]:
        """What the test's runs have left, but for what the baseline knows. Once."""
        found, turn.found = turn.found, []
        return [each.leak for each in found if not self._is_old(turn, each.leak)]

    def _is_old(self, turn: _Turn, leak: Leak) -> bool:
        if self._baseline.knows(_as_told(leak)):
            turn.old += 1
            if self._is_update:
                turn.told.append(leak)
            return True
        if self._is_update:
            turn.told.append(leak)
        return self._is_update

    def _check_strictly(self, turn: _Turn) -> Callable[[], None] | None:
        """Put a check around the test's function; returns what takes it away."""
        item = turn.item
        # Hypothesis runs an inner function once an example; each has a Trio run of its own.
        hypothesis = getattr(getattr(item, "obj", None), "hypothesis", None)
        owner, name = (item, "obj") if hypothesis is None else (hypothesis, "inner_test")
        body = getattr(owner, name, None)
        if not inspect.iscoroutinefunction(body):
            return None  # checked where its run's main task ends, or its runner says what is wrong
        setattr(owner, name, self._checked(body, turn))
        return functools.partial(setattr, owner, name, body)

    def _checked(self, body: _Body, turn: _Turn) -> _Body:
        from .scope import no_leaks  # here: few tests are checked strictly

        settings = turn.settings
        kinds = [kind for kind in KINDS if kind.value in settings.kinds]

        @functools.wraps(body)
        async def checked(*args: object, **kwargs: object) -> None:
            __tracebackhide__ = True
            if not privates.in_task():
                await body(*args, **kwargs)
                return
            try:
                async with no_leaks(
                    allow=settings.allow, kinds=kinds, checks=turn.checks, grace_s=_STRICT_GRACE_S
                ):
                    await body(*args, **kwargs)
            except LeakError as error:
                new = [leak for leak in error.leaks if not self._is_old(turn, leak)]
                if new:
                    raise LeakError(new) from None

        return checked

    # Its tear-down

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None
    ) -> Generator[None, object, object]:
        """See what is left when the fixtures, and the scopes that end here, are torn down."""
        __tracebackhide__ = True
        result: object = None
        error: BaseException | None = None
        try:
            result = yield
        except BaseException as raised:  # noqa: BLE001 - it is raised again, or told
            error = raised
        try:
            error = self._error_of_teardown(item, nextitem, error)
            if error is not None:
                raise error
            return result
        finally:
            del error  # its traceback keeps this frame

    def _error_of_teardown(
        self, item: pytest.Item, nextitem: pytest.Item | None, error: BaseException | None
    ) -> BaseException | None:
        """What a test's tear-down raises, once it is known what it has left."""
        turn = self._turn
        if turn is None or self._unknown:
            return error
        staying = set() if nextitem is None else set(nextitem.listchain())
        ended = [node for node in item.listchain() if node not in staying]
        leaks = self._stuck_of(turn)
        leaks = _with_more(leaks, self._judged(turn, ended))
        self._recorder.forget([node for node in ended if node not in self._waiting_nodes()])
        self._noted.difference_update(ended)
        if not leaks:
            return error
        turn.told += leaks
        if error is not None and not _is_about_leaks(error):
            error.add_note(render(tuple(leaks), heading=_AFTER_CLEANUP))
            return error
        return LeakError(leaks, heading=_AFTER_CLEANUP) if turn.settings.mode == "error" else error

    def _waiting_nodes(self) -> set[object]:
        """Tests of which something is looked at again when a wider scope ends."""
        return {turn.item for each in self._deferred.values() for turn, _ in each}

    def _judged(self, turn: _Turn, ended: list[Any]) -> list[Leak]:
        """What the scopes that end here have left."""
        owners = set(ended)
        is_judged = turn.settings.mode != "off" and not turn.unchecked and bool(turn.runs)
        if not is_judged or turn.is_red:
            owners.discard(turn.item)
            self._recorder.claim(turn.item)
        wider = not self._checked_nodes.isdisjoint(owners - {turn.item})
        if not owners or not (is_judged or wider):
            return self._taken(turn)
        found = self._recorder.left_of_process(
            owners, turn.is_meant, turn.settings.grace_s, functools.partial(self._let_go, turn)
        )
        found += [each for each in self._left_of_living_runs(owners) if not turn.is_meant(each)]
        found += turn.found
        turn.found = []
        found = self._undeferred(turn, found)
        if found:
            self._recorder.claim(turn.item)  # not to be told again when a wider scope ends
        leaks = [each.leak for each in found] + self._due(ended)
        return [leak for leak in leaks if not self._is_old(turn, leak)]

    def _let_go(self, turn: _Turn, found: list[Left]) -> set[object]:
        """Drop what only pytest's record of the fixtures' values keeps, and nobody else does.

        Files and sockets that a fixture has left open are told of all the same: they are meant to
        be closed, and warn when the garbage collector does it.
        """
        values = getattr(turn.item, "funcargs", None)
        if not values:
            return set()
        forgotten = holders.held_by([values], found)
        values.clear()  # pytest drops it as soon as this hook has returned
        return forgotten

    def _left_of_living_runs(self, owners: set[Any]) -> list[Left]:
        found = []
        for run in self._runs.live():
            if not run.is_in_main_thread:
                continue  # its thread is a leak, and is told
            found += run.system_tasks(owners)
            if run.maker.owner in owners:
                leak = Leak(
                    LeakKind.RUN,
                    "guest run of Trio",
                    run.maker.origin.text,
                    detail="its host has stopped before the run has ended",
                    through=run.maker.origin.through_text,
                )
                found.append(Left(leak, ("run", id(run))))
        if found:
            found += self._recorder.left_of_run(owners)
        return found

    def _undeferred(self, turn: _Turn, found: list[Left]) -> list[Left]:
        """Without what a fixture of a wider scope still holds: that is looked at again."""
        held = self._holders.holding(found)
        for each in found:
            node = held.get(each.key)
            if node is not None:
                self._deferred.setdefault(node, []).append((turn, each))
        return [each for each in found if each.key not in held]

    def _due(self, ended: list[Any]) -> list[Leak]:
        """What was held by fixtures of scopes that end here, and is there yet."""
        leaks = []
        for node in ended:
            for turn, before in self._deferred.pop(node, ()):
                now = self._recorder.left_of_process({turn.item}, turn.is_meant, 0.0)
                if before.key in keys(now):
                    detail = f"{before.leak.detail}; started by {turn.item.nodeid}"
                    leaks.append(attrs.evolve(before.leak, detail=detail))
        return leaks

    # Its reports

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        """Show a leak report as it is: a traceback through Trio's run loop would bury it, and to
        render one costs more than the test.
        """
        option, style = item.config.option, item.config.option.tbstyle
        error = None if call.excinfo is None else call.excinfo.value
        if isinstance(error, LeakError):
            option.tbstyle = "value"
        try:
            report = yield
        finally:
            option.tbstyle = style
        if isinstance(error, LeakError):
            _shorten(report.longrepr, error.leaks)
        turn = self._turn
        if call.when == "teardown" and turn is not None:
            told = self._told(turn)
            if told is not None:
                vars(report)["trioleaks"] = told
        return report

    def _told(self, turn: _Turn) -> baseline.Told | None:
        """What the summary is to know of this test; None: nothing, it has no part in Trio."""
        settings = turn.settings
        reason = turn.unchecked
        is_trio = bool(turn.runs) or _looks_like_trio(turn.item)
        if settings.mode == "off":
            if not (is_trio and settings.off_by):
                return None
            reason = f"switched off by {settings.off_by}"
        elif self._unknown and is_trio:
            reason = f"this version of Trio is not known: {self._unknown}"
        if not (is_trio or turn.told):
            return None
        return {
            "test": turn.item.nodeid,
            "mode": settings.mode,
            "runs": turn.runs,
            "unchecked": reason,
            "old": turn.old,
            "leaks": [_as_told(leak) for leak in turn.told],
        }


_OFF = Settings()
_STRICT_GRACE_S = 0.1


def _checks(item: pytest.Item) -> tuple[Check, ...]:
    """The checks of its own that a project has for this test."""
    hook = item.ihook.pytest_leaks_checks
    if not hook.get_hookimpls():  # to call it costs more, once a test
        return ()
    return tuple(check for given in hook(item=item) for check in given or ())


def _shorten(shown: Any, leaks: tuple[Leak, ...]) -> None:
    """Have pytest's short summary, `--tb=line` and JUnit's XML say what leaks, and where."""
    crash, traceback = getattr(shown, "reprcrash", None), getattr(shown, "reprtraceback", None)
    if traceback is not None:
        traceback.extraline = None  # it advises how to see the frames of pytest that were hidden
    if crash is not None and leaks:
        place = leaks[0].spawned_at
        more = f", and {len(leaks) - 1} more" if len(leaks) > 1 else ""
        crash.message = f"leaks the {leaks[0].kind} of {place or leaks[0].name}{more}"
        path, _, line = (place or "").partition(" in ")[0].rpartition(":")
        if path:
            crash.path, crash.lineno = path, int(line)


def _as_told(leak: Leak) -> baseline.Told:
    """A leak for a report, which travels between processes."""
    return {
        "kind": leak.kind.value,
        "name": leak.name,
        "started_at": leak.spawned_at,
        "through": leak.through,
        "detail": leak.detail,
        "waits_in": list(leak.await_chain),
    }


def _looks_like_trio(item: pytest.Item) -> bool:
    """Whether some runner would run this test in Trio."""
    if item.get_closest_marker("trio") is not None:
        return True
    backend = getattr(item, "funcargs", {}).get("anyio_backend")
    if backend is None:
        callspec = getattr(item, "callspec", None)
        backend = None if callspec is None else callspec.params.get("anyio_backend")
    name = backend[0] if isinstance(backend, tuple) and backend else backend
    return name == "trio" and inspect.iscoroutinefunction(getattr(item, "obj", None))


def _leaves(error: BaseException | None) -> list[BaseException]:
    if error is None:
        return []
    if isinstance(error, BaseExceptionGroup):
        return [leaf for each in error.exceptions for leaf in _leaves(each)]
    if isinstance(error, trio.TrioInternalError) and isinstance(error.__cause__, PutOut):
        return [error.__cause__]
    return [error]


def _is_about_leaks(error: BaseException) -> bool:
    """Whether there is nothing else in this error: nurseries wrap it in groups."""
    return all(isinstance(each, LeakError | PutOut) for each in _leaves(error))


def _leaks_in(error: BaseException | None) -> list[Leak]:
    return [leak for each in _leaves(error) if isinstance(each, LeakError) for leak in each.leaks]


def _with_more(leaks: list[Leak], more: list[Leak]) -> list[Leak]:
    """These leaks, and those of `more` that are not the same, told by another check."""
    known = {(leak.name, leak.spawned_at) for leak in leaks}
    return leaks + [leak for leak in more if (leak.name, leak.spawned_at) not in known]


def _why_not(error: BaseException) -> str:
    return (
        "they did not pass" if isinstance(error, Exception) else "they were skipped or ended early"
    )
