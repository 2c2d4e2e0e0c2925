"""The pytest plugin, as a project that is not this one would use it.

Rules of this file: each test writes a small project and runs pytest on it, in this process.
"""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

pytestmark = pytest.mark.leaks("off")  # the projects that are run here in this process leak

HEAD = """
    import functools, pytest, socket, trio
    """


def run(pytester: pytest.Pytester, body: str, *args: str, ini: str = "") -> pytest.RunResult:
    """Run pytest on a file with that body; the plugins are those that are installed."""
    pytester.makeini(f"[pytest]\ntrio_mode = true\n{ini}")
    pytester.makepyfile(HEAD + body)
    return pytester.runpytest_inprocess(*args)


TWO_TESTS = """
    async def test_leaks(nursery):
        nursery.start_soon(trio.sleep_forever, name="ticker")

    async def test_is_clean(nursery):
        nursery.start_soon(trio.sleep_forever)
        nursery.cancel_scope.cancel()

    def test_is_no_trio_test():
        socket.socket().detach()
    """


def test_it_does_nothing_unless_asked(pytester: pytest.Pytester) -> None:
    run(pytester, TWO_TESTS).assert_outcomes(passed=3)


def test_the_ini_option_checks_every_trio_test_before_the_nursery_is_cancelled(
    pytester: pytest.Pytester,
) -> None:
    result = run(pytester, TWO_TESTS, ini="raft_leak_check = true")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(
        [
            "1 leak: started in here, and still there at the end",
            "*1. task: ticker",
            "*started at*test_the_ini_option*.py:4 in test_leaks",
            "*waits in*sleep_forever trio/_timeouts.py:*",
        ]
    )


def test_the_report_is_short(pytester: pytest.Pytester) -> None:
    result = run(pytester, TWO_TESTS, ini="raft_leak_check = true")
    text = result.stdout.str()
    assert "unrolled_run" not in text
    assert "ExceptionGroup" not in text
    assert len(text.splitlines()) < 40


def test_the_fixture_checks_one_test(pytester: pytest.Pytester) -> None:
    body = """
    async def test_checked(nursery, leak_check):
        nursery.start_soon(trio.sleep_forever)

    async def test_not_checked(nursery):
        nursery.start_soon(trio.sleep_forever)
    """
    run(pytester, body).assert_outcomes(passed=1, failed=1)


def test_the_fixture_checks_the_runs_of_a_synchronous_test(pytester: pytest.Pytester) -> None:
    body = """
    async def leak():
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name="ticker")

    def test_leaks(leak_check):
        trio.run(leak)

    def test_has_no_run(leak_check):
        pass
    """
    result = run(pytester, body)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*1. system task: ticker"])


def test_markers_allow_and_switch_off(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.leak_check(allow=["tick*"])
    async def test_allows(nursery):
        nursery.start_soon(trio.sleep_forever, name="ticker")

    @pytest.mark.no_leak_check
    async def test_off(nursery):
        nursery.start_soon(trio.sleep_forever)

    async def test_ini_allows(nursery):
        nursery.start_soon(trio.sleep_forever, name="background[0]")

    @pytest.mark.leak_check(allow=["other"])
    async def test_fails(nursery):
        nursery.start_soon(trio.sleep_forever, name="ticker")
    """
    ini = "raft_leak_check = true\nraft_leak_check_allow =\n    nothing\n    background[*]\n"
    result = run(pytester, body, "--strict-markers", ini=ini)
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(["FAILED*::test_fails*"])


def test_a_marker_checks_without_the_ini_option(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.leak_check
    async def test_marked(nursery):
        nursery.start_soon(trio.sleep_forever)
    """
    run(pytester, body).assert_outcomes(failed=1)


def test_a_misspelt_marker_is_refused(pytester: pytest.Pytester) -> None:
    body = """
    @pytest.mark.leak_check("ticker")
    async def test_marked():
        pass
    """
    result = run(pytester, body)
    assert result.ret != 0
    result.stderr.fnmatch_lines(["*write leak_check(allow=?...?)*"])


def test_what_fixtures_hold_is_theirs(pytester: pytest.Pytester) -> None:
    body = """
    async def echo(stream):
        async with stream:
            async for data in stream:
                await stream.send_all(data)

    serve = functools.partial(trio.serve_tcp, echo, 0, host="127.0.0.1")

    @pytest.fixture
    async def server():
        async with trio.open_nursery() as nursery:
            listeners = await nursery.start(serve)
            yield listeners[0].socket.getsockname()
            nursery.cancel_scope.cancel()

    async def test_clean(server):
        async with await trio.open_tcp_stream(*server) as stream:
            await stream.send_all(b"x")
            assert await stream.receive_some() == b"x"

    async def test_leaks(server):
        stream = await trio.open_tcp_stream(*server)
        await stream.send_all(b"x")
        assert await stream.receive_some() == b"x"
        kept.append(stream.socket)

    def test_closes():
        kept[0]._sock.close()

    kept = []
    """
    result = run(pytester, body, ini="raft_leak_check = true")
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["*1 leak: *", "*1. socket: socket 127.0.0.1:* -> *"])


def test_what_a_test_function_drops_at_its_end_is_found(pytester: pytest.Pytester) -> None:
    body = """
    async def test_drops():
        unclosed = trio.socket.socket()
    """
    args = ("-W", "ignore::ResourceWarning")
    result = run(pytester, body, *args, ini="raft_leak_check = true")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1 leak: *", "*socket: socket"])


def test_a_failing_tests_own_error_is_shown(pytester: pytest.Pytester) -> None:
    body = """
    async def test_fails(nursery):
        nursery.start_soon(trio.sleep_forever, name="ticker")
        assert 1 + 1 == 3
    """
    result = run(pytester, body, ini="raft_leak_check = true")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*assert (1 + 1) == 3*", "*task: ticker*"])


def test_skips_expected_failures_and_methods_work(pytester: pytest.Pytester) -> None:
    body = """
    class TestThings:
        async def test_method(self, nursery):
            nursery.start_soon(trio.sleep_forever)

        @pytest.mark.xfail(strict=True)
        async def test_expected(self, nursery):
            nursery.start_soon(trio.sleep_forever)

    async def test_skips(nursery):
        nursery.start_soon(trio.sleep_forever)
        pytest.skip("not here")

    @pytest.mark.parametrize("number", [1, 2])
    async def test_parameters(number, mock_clock):
        await trio.lowlevel.checkpoint()
    """
    result = run(pytester, body, ini="raft_leak_check = true")
    result.assert_outcomes(passed=2, failed=1, xfailed=1, skipped=1)


def test_hypothesis_tests_are_checked_an_example_at_a_time(pytester: pytest.Pytester) -> None:
    body = """
    from hypothesis import given, settings, strategies as st
    fast = settings(max_examples=5, database=None, deadline=None)

    @fast
    @given(count=st.integers(0, 3))
    async def test_clean(count):
        async with trio.open_nursery() as nursery:
            for _ in range(count):
                nursery.start_soon(trio.lowlevel.checkpoint)

    @pytest.mark.parametrize("name", ["ticker", "allowed"])
    @fast
    @given(count=st.integers(3, 3))
    async def test_leaks(name, count):
        trio.lowlevel.spawn_system_task(trio.sleep_forever, name=name)

    @pytest.mark.parametrize("leaks", [
        False, pytest.param(True, marks=pytest.mark.no_leak_check)])
    @fast
    @given(count=st.integers(3, 3))
    async def test_parameters_share_the_function(leaks, count):
        if leaks:
            trio.lowlevel.spawn_system_task(trio.sleep_forever)
    """
    ini = "raft_leak_check = true\nraft_leak_check_allow = allowed"
    result = run(pytester, body, ini=ini)
    result.assert_outcomes(passed=4, failed=1)
    result.stdout.fnmatch_lines(["*task: ticker*"])


def test_without_pytest_trio_it_loads_and_does_nothing(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\nraft_leak_check = true\n")
    pytester.makepyfile("def test_plain(): pass")
    result = pytester.runpytest_subprocess(
        "-p", "no:trio", "-p", "no:pytest_trio", "-W", "error::pytest.PytestConfigWarning"
    )
    result.assert_outcomes(passed=1)


def test_two_tasks_of_one_role_fail_a_test(pytester: pytest.Pytester) -> None:
    body = """
    import trioraft

    async def run(*, task_status):
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(trio.sleep_forever, name="raft[0].link[1]")
            task_status.started()

    @pytest.mark.leak_check(allow=["raft[0]"])
    async def test_doubles(nursery):
        await nursery.start(functools.partial(run), name="raft[0]")
        await trio.testing.wait_all_tasks_blocked()

    import trio.testing
    """
    result = run(pytester, body)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*1. role: raft?0?.link?1?", "*2. role: *"])


def test_loading_the_plugins_loads_nothing_of_trioraft(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import sys

        def test_nothing_is_loaded():
            heavy = {"trioraft", "trio", "attrs", "trioleaks.session", "trioleaks.report"}
            assert not heavy & {*sys.modules}
            loaded = {"leaks", "raftlog", "cluster"}
            assert {"trioleaks.plugin", *(f"trioraft_pytest.{name}" for name in loaded)} <= {
                *sys.modules
            }
        """
    )
    result = pytester.runpytest_subprocess(
        "-p", "no:trio", "-p", "no:anyio", "-p", "no:hypothesispytest"
    )
    result.assert_outcomes(passed=1)
