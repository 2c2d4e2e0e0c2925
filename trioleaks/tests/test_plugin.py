"""The pytest plugin, as a project would use it: modes, scopes, runners, baseline, reports.

Rules of this file: each test writes a small project and runs pytest on it, in a process of its own
where a leak or a second plugin could disturb this one.
"""

from __future__ import annotations

import json
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest
from trioleaks.report import KINDS, Leak, LeakKind, render
from trioleaks.settings import KIND_WORDS

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.leaks("off")  # the projects that are run here in this process leak

LOAD_SHARE_MAX = 0.1
"""Of the CPU that pytest itself takes to load; 0.04 when this was written: 13 ms of 300."""
HEAD = "import os, pytest, socket, trio\nKEPT = []\n"
SYSTEM_TASK = """
async def test_leaks():
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ticker")

async def test_is_clean():
    await trio.lowlevel.checkpoint()
"""


class CloseKept:
    """Closes what a project has leaked in this process, when all is judged."""

    def __init__(self) -> None:
        self.modules: set[Any] = set()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.modules = {item.module for item in session.items if isinstance(item, pytest.Function)}

    def pytest_unconfigure(self) -> None:
        for module in self.modules:
            for each in module.KEPT:
                each.close()


def run(
    pytester: pytest.Pytester, body: str, *args: str, ini: str = "", mode: str = "error"
) -> pytest.RunResult:
    """Run pytest on a file with that body."""
    pytester.makeini(f"[pytest]\ntrio_mode = true\nleaks = {mode}\n{ini}")
    pytester.makepyfile(test_project=HEAD + body)
    options = ("-p", "no:cacheprovider", "-W", "default")
    return pytester.runpytest_inprocess(*options, *args, plugins=[CloseKept()])


def test_the_light_half_knows_the_kinds_by_their_words() -> None:
    assert tuple(kind.value for kind in KINDS) == KIND_WORDS


@pytest.mark.parametrize(
    ("mode", "args", "failed"),
    [
        ("off", (), 0),
        ("error", (), 1),
        ("warn", (), 0),
        ("off", ("--leaks=error",), 1),
        ("error", ("--leaks=off",), 0),
    ],
)
def test_modes(pytester: pytest.Pytester, mode: str, args: tuple[str, ...], failed: int) -> None:
    result = run(pytester, SYSTEM_TASK, *args, mode=mode)
    result.assert_outcomes(passed=2 - failed, failed=failed)
    is_told = mode == "warn" or bool(failed)
    assert ("leak the system task" in result.stdout.str().replace("leaks", "leak")) is is_told


def test_one_line_says_what_leaks_and_where(pytester: pytest.Pytester) -> None:
    body = """
async def test_leaks():
    KEPT.append(socket.socket())
    KEPT.append(socket.socket())
"""
    said = run(pytester, body).stdout
    said.fnmatch_lines(["ERROR test_project.py::test_leaks - leaks the socket of test_proj*"])
    said.no_fnmatch_line("*All traceback entries are hidden*")
    said = run(pytester, body, "-vv").stdout  # as long as it is
    said.fnmatch_lines(["* leaks the socket of test_project.py:5 in test_leaks, and 1 more"])
    said = run(pytester, SYSTEM_TASK, "--tb=line").stdout  # a place that editors can open
    place = "test_project.py:5"
    said.fnmatch_lines([f"{place}: leaks the system task of {place} in test_leaks"])


@pytest.mark.parametrize(("mode", "is_told"), [("error", True), ("off", False)])
def test_that_nothing_ran_trio_is_told(pytester: pytest.Pytester, mode: str, is_told: bool) -> None:
    said = run(pytester, "def test_plain(): pass", mode=mode).stdout.str()
    assert ("leaks: no test ran Trio, so none was checked" in said) is is_told


def test_a_mode_that_does_not_exist_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, SYSTEM_TASK, mode="loud")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*leaks = loud: write one of off, warn, error*"])


def test_markers_change_one_test(pytester: pytest.Pytester) -> None:
    body = """
@pytest.mark.leaks("off")
async def test_off():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

@pytest.mark.leaks(allow=["tick*"])
async def test_allows():
    trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ticker")

@pytest.mark.leaks(kinds=["-socket"])
async def test_without_sockets():
    KEPT.append(socket.socket())

@pytest.mark.leaks(strict=True)
async def test_strict(nursery):
    nursery.start_soon(trio.sleep_forever)

async def test_not_strict(nursery):
    nursery.start_soon(trio.sleep_forever)
"""
    result = run(pytester, body)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(
        ["*not checked: 1, switched off by a marker", "FAILED*test_strict*"]
    )


def test_ini_allows_with_a_reason_and_refuses_without(pytester: pytest.Pytester) -> None:
    ini = "leaks_allow =\n    kind=system task at=test_project.py:*  # it is the example\n"
    run(pytester, SYSTEM_TASK, ini=ini).assert_outcomes(passed=2)
    result = run(pytester, SYSTEM_TASK, ini="leaks_allow = ticker")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*'ticker' gives no reason*"])


def test_kinds_can_be_switched_off_and_a_wrong_one_is_refused(pytester: pytest.Pytester) -> None:
    run(pytester, SYSTEM_TASK, ini="leaks_kinds = -system task").assert_outcomes(passed=2)
    result = run(pytester, SYSTEM_TASK, ini="leaks_kinds = sockets")
    result.stderr.fnmatch_lines(["*there is no kind 'sockets'; there are task,*"])


def test_the_baseline_lets_old_leaks_be_and_fails_new_ones(pytester: pytest.Pytester) -> None:
    asked = ("--leaks-baseline", "old.json")
    run(pytester, SYSTEM_TASK, *asked, "--leaks-update").assert_outcomes(passed=2)
    written = json.loads(Path("old.json").read_text("utf-8"))
    assert written["leaks"] == [
        {
            "kind": "system task",
            "where": "test_project.py test_leaks",
            "tests": ["test_project.py::test_leaks"],
        }
    ]
    run(pytester, "\n\n" + SYSTEM_TASK, *asked).assert_outcomes(passed=2)
    new = "\nasync def test_new():\n    KEPT.append(socket.socket())\n"
    run(pytester, SYSTEM_TASK + new, *asked).assert_outcomes(passed=3, errors=1)
    Path("old.json").write_text("[]", "utf-8")
    run(pytester, SYSTEM_TASK, *asked).stderr.fnmatch_lines(["*this is no baseline of version 1*"])


def test_workers_of_xdist_write_one_baseline_and_know_it(pytester: pytest.Pytester) -> None:
    pytest.importorskip("xdist", reason="wants pytest-xdist")
    body = """
def connect():
    KEPT.append(socket.socket())

@pytest.mark.parametrize("number", range(4))
async def test_leaks(number):
    connect()
"""
    pytester.makeini("[pytest]\ntrio_mode = true\nleaks = error\n")
    pytester.makepyfile(test_project=HEAD + body)
    asked = ("-n", "2", "--leaks-baseline", "old.json")
    pytester.runpytest_subprocess(*asked, "--leaks-update").assert_outcomes(passed=4)
    (entry,) = json.loads(Path("old.json").read_text("utf-8"))["leaks"]
    assert (entry["kind"], entry["where"]) == ("socket", "test_project.py connect")
    assert entry["tests"] == [f"test_project.py::test_leaks[{number}]" for number in range(4)]
    pytester.runpytest_subprocess(*asked).assert_outcomes(passed=4)
    new = "\nasync def test_new():\n    KEPT.append(socket.socket())\n"
    pytester.makepyfile(test_project=HEAD + body + new)
    pytester.runpytest_subprocess(*asked).assert_outcomes(passed=5, errors=1)


LOADED = """
import json, sys, time
began = time.process_time()
import pytest
pytest_s = time.process_time() - began
before = set(sys.modules)
import trioleaks.plugin
{more}
print(json.dumps([(time.process_time() - began - pytest_s) / pytest_s, *set(sys.modules) - before]))
"""


@pytest.mark.parametrize("more", ["", "import trioraft_pytest.leaks, trioraft_pytest.raftlog"])
def test_loading_it_is_little_beside_pytest_and_brings_nothing_else(more: str) -> None:
    if more:
        pytest.importorskip("trioraft_pytest", reason="wants trioraft's plugins")
    script = LOADED.format(more=more)
    shares, modules = [], set()
    for _ in range(3):
        said = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True
        )
        share, *names = json.loads(said.stdout)
        shares.append(share)
        modules |= {name.partition(".")[0] for name in names}
    assert min(shares) < LOAD_SHARE_MAX
    assert modules <= {"trioleaks", "trioraft_pytest"}


def test_an_update_without_a_baseline_is_refused(pytester: pytest.Pytester) -> None:
    result = run(pytester, SYSTEM_TASK, "--leaks-update")
    assert "give --leaks-baseline FILE too" in result.stderr.str()


@pytest.mark.parametrize("workers", [(), ("-n", "2")])
def test_the_summary_and_the_json_report(
    pytester: pytest.Pytester, workers: tuple[str, ...]
) -> None:
    pytest.importorskip("xdist", reason="wants pytest-xdist")
    body = """
def connect():
    KEPT.append(socket.socket())

@pytest.mark.parametrize("number", range(4))
async def test_leaks(number):
    connect()
"""
    pytester.makeini("[pytest]\ntrio_mode = true\nleaks = error\n")
    pytester.makepyfile(test_project=HEAD + body)
    result = pytester.runpytest_subprocess("--leaks-json", "leaks.json", *workers)
    result.assert_outcomes(passed=4, errors=4)
    result.stdout.fnmatch_lines(["*4 tests leak the socket of test_project.py:5 in connect: *"])
    told = json.loads(Path("leaks.json").read_text("utf-8"))
    assert told["checked"] == 4
    assert [len(each["tests"]) for each in told["sites"]] == [4]


def test_every_runner_is_watched(pytester: pytest.Pytester) -> None:
    body = """
import anyio, trio.testing

async def leak():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_anyio(anyio_backend):
    await leak()

async def test_anyio_auto_mode(anyio_backend_name):
    if anyio_backend_name == "trio":
        await leak()

@trio.testing.trio_test
async def test_trio_test():
    await leak()

def test_plain_run():
    trio.run(leak)

@pytest.mark.anyio
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_asyncio(anyio_backend):
    await anyio.sleep(0)
"""
    pytester.makeini("[pytest]\nleaks = error\nanyio_mode = auto\n")
    pytester.makepyfile(test_project=HEAD + body)
    result = pytester.runpytest_subprocess("-p", "no:trio", "-p", "no:cacheprovider")
    result.assert_outcomes(failed=4, passed=2)
    result.stdout.fnmatch_lines(["leaks: 4 Trio tests checked, 4 leak"])


def test_what_was_not_checked_is_named(pytester: pytest.Pytester) -> None:
    body = """
@pytest.mark.trio(run=lambda *args, **kwargs: None)
async def test_never_runs():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)

@pytest.mark.trio
async def test_fails():
    KEPT.append(socket.socket())
    assert False

@pytest.mark.trio
async def test_skips():
    pytest.skip("not here")
"""
    pytester.makeini("[pytest]\nleaks = error\n")
    pytester.makepyfile(test_project=HEAD + body)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider", plugins=[CloseKept()])
    result.assert_outcomes(passed=1, failed=1, skipped=1)
    result.stdout.fnmatch_lines(
        [
            "*not checked: 1, no Trio run was seen, though they look like Trio tests",
            "*test_project.py::test_never_runs",
        ]
    )


def test_scopes_wider_than_a_test(pytester: pytest.Pytester) -> None:
    body = """
@pytest.fixture(scope="module")
def forgetful():
    KEPT.append(socket.socket())

@pytest.fixture(scope="session")
def client():
    kept = []
    yield kept
    for each in kept:
        each.close()

async def test_first(forgetful, client):
    client.append(socket.socket())  # the fixture closes it

async def test_last(forgetful, client):
    client.append(os.fdopen(os.pipe()[0]))
"""
    result = run(pytester, body)
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(
        [
            "*ERROR at teardown of test_last*",
            "2 leaks: still there when the clean-up was over",
            "*started at   test_project.py:6 in forgetful",
            "*pipe: pipe:*",
        ]
    )


def test_a_time_limits_alarm_is_no_leak(pytester: pytest.Pytester) -> None:
    folder = pytester.mkdir("site-packages")
    (folder / "pytest_limit.py").write_text(
        "import signal, pytest\n"
        "@pytest.hookimpl(hookwrapper=True)\n"
        "def pytest_runtest_protocol(item):\n"
        "    signal.signal(signal.SIGALRM, lambda *_: None)\n"
        "    yield\n",
        "utf-8",
    )
    pytester.makeconftest('pytest_plugins = ["pytest_limit"]')
    pytester.makeini("[pytest]\ntrio_mode = true\nleaks = error\npythonpath = site-packages\n")
    pytester.makepyfile("import trio\nasync def test_x(): await trio.lowlevel.checkpoint()")
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


STUCK = """
import trio.testing

async def stuck():
    while True:
        try:
            await trio.sleep(0.01)
        except BaseException:
            pass

async def test_stuck(nursery):
    nursery.start_soon(stuck)
    await trio.testing.wait_all_tasks_blocked(0)

async def test_after():
    await trio.lowlevel.checkpoint()
"""


@pytest.mark.parametrize("runner", ["pytest-trio", "anyio"])
def test_nobody_waits_for_a_task_that_cannot_be_ended(
    pytester: pytest.Pytester, runner: str
) -> None:
    ini, body = "leaks_stuck_s = 0.3\n", STUCK
    if runner == "anyio":
        ini += "anyio_mode = auto\n"
        body = STUCK.replace("(nursery)", "(anyio_backend)").replace("()", "(anyio_backend)", 2)
        body = body.replace("async def stuck(anyio_backend)", "async def stuck()")
        body = body.replace(
            "    nursery.start_soon(stuck)\n    await trio.testing.wait_all_tasks_blocked(0)",
            "    async with trio.open_nursery() as nursery:\n"
            "        nursery.start_soon(stuck)\n"
            "        nursery.cancel_scope.cancel()",
        ).replace(
            "async def test", "@pytest.mark.parametrize('anyio_backend', ['trio'])\nasync def test"
        )
        body = body.replace("test_after()", "test_after(anyio_backend)")
    mode = "trio_mode = true\n" if runner == "pytest-trio" else ""
    pytester.makeini(f"[pytest]\nleaks = error\n{mode}{ini}")
    pytester.makepyfile(test_project=HEAD + body)
    off = ("-p", "no:anyio") if runner == "pytest-trio" else ("-p", "no:trio")
    result = pytester.runpytest_subprocess(*off, "-W", "ignore", timeout=60)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(
        ["*cannot be cancelled, and is put out:", "*waits in     stuck test_project.py:*"]
    )


def test_a_task_whose_own_deadlines_are_always_over_is_not_stuck(
    pytester: pytest.Pytester,
) -> None:
    """As those of a task are that beats every 50 ms, where each pass of the loop takes longer: at
    every look it is cancelled, each time by another scope."""
    body = """
        import time

        async def beats():
            while True:
                with trio.CancelScope(deadline=trio.current_time() - 1):
                    await trio.sleep_forever()

        async def test_starved():
            async with trio.open_nursery() as nursery:
                nursery.start_soon(beats)
                end = time.monotonic() + 2
                while time.monotonic() < end:
                    await trio.lowlevel.checkpoint()
                    time.sleep(0.01)
                nursery.cancel_scope.cancel()
    """
    ini = "leaks_stuck_s = 0.3\n"
    run(pytester, textwrap.dedent(body), ini=ini).assert_outcomes(passed=1)


def test_nothing_of_a_run_is_kept_when_it_has_ended(pytester: pytest.Pytester) -> None:
    body = """
        import gc, weakref
        RUNS = []

        async def test_first():
            RUNS.append(weakref.ref(trio.lowlevel.current_root_task()))

        def test_second():
            gc.collect()
            assert RUNS[0]() is None
    """
    run(pytester, textwrap.dedent(body)).assert_outcomes(passed=2)


def test_a_hook_of_a_conftest_is_asked_for_the_tests_below_it(pytester: pytest.Pytester) -> None:
    hook = "def pytest_leaks_settings(settings): return settings._replace(mode='off')"
    pytester.makepyfile(**{"quiet/conftest": hook, "quiet/test_quiet": HEAD + SYSTEM_TASK})
    run(pytester, SYSTEM_TASK).assert_outcomes(passed=3, failed=1)


@pytest.mark.parametrize("filter_", ["ignore", "default", "error"])
def test_a_dropped_socket_is_told_whatever_keeps_the_warning(
    pytester: pytest.Pytester, filter_: str
) -> None:
    body = """
async def test_drops():
    socket.socket()
"""
    options = ("-W", f"{filter_}::ResourceWarning", "-W", "default::pytest.PytestWarning")
    result = run(pytester, body, *options)
    result.stdout.fnmatch_lines(["*test_drops - leaks the socket of test_project.py:*"])


BOTH = """
async def test_leaks_both():
    trio.lowlevel.spawn_system_task(trio.sleep_forever)
    KEPT.append(socket.socket())
"""


@pytest.mark.parametrize("mode", ["warn", "error"])
def test_what_is_not_red_for_one_leak_is_searched_for_others(
    pytester: pytest.Pytester, mode: str
) -> None:
    options = ["--leaks-baseline=old.json", "--leaks-update"] if mode == "error" else []
    result = run(pytester, BOTH, *options, "--leaks-json=told.json", mode=mode)
    result.assert_outcomes(passed=1)
    told = json.loads((pytester.path / "told.json").read_text(encoding="utf-8"))
    assert [leak["kind"] for leak in told["tests"][0]["leaks"]] == ["system task", "socket"]


@pytest.mark.parametrize(
    ("marker", "said"),
    [
        ("grace_s='soon'", "marker leaks: grace_s='soon': write a number of seconds"),
        ("grace_s=-1", "grace_s=-1: write a number of seconds"),
        ("strict='no'", "strict='no': write True or False"),
        ("allow=[3]", "allow must be a list of strings, not [3]"),
        ("allow=[' ']", "an empty entry in allow would allow nothing"),
        ("allow=['kind=pipe kind=file']", "gives kind= twice"),
        ("kinds='socket'", "kinds must be a list, not one string: ['socket']"),
    ],
)
def test_a_marker_that_cannot_be_understood_is_refused_in_one_line(
    pytester: pytest.Pytester, marker: str, said: str
) -> None:
    result = run(pytester, f"@pytest.mark.leaks({marker})\nasync def test_any(): ...")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    errors = [line for line in result.stderr.lines if line]
    assert len(errors) == 1
    assert said in errors[0]


@pytest.mark.parametrize(
    ("ini", "options", "said"),
    [
        ("leaks_stuck_s = 0", (), "leaks_stuck_s = 0: write a number of seconds"),
        ("leaks_grace_s = soon", (), "leaks_grace_s = soon: write a number of seconds"),
        ("", ("--leaks-json", "no/told.json"), "--leaks-json no/told.json: there is no such"),
        ("", ("--leaks-update", "--leaks-baseline", "no/old.json"), "no/old.json: there is no"),
    ],
)
def test_an_option_that_cannot_be_followed_is_refused_before_the_tests(
    pytester: pytest.Pytester, ini: str, options: tuple[str, ...], said: str
) -> None:
    result = run(pytester, SYSTEM_TASK, *options, ini=ini)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert said in result.stderr.str()


def test_a_kind_of_ones_own_needs_no_advice_and_a_package_is_named_with_its_folder() -> None:
    own = render((Leak(LeakKind("cache entry"), "entry 7"),))
    assert own.splitlines()[-2:] == [
        "what to do:",
        '  meant to stay? allow=["entry 7"], here or in the settings',
    ]
    place = "src/client/__init__.py:3 in connect"
    assert '"kind=pipe at=client/__init__.py:*"' in render((Leak(LeakKind.PIPE, "p", place),))
