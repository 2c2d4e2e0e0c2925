"""`pytest --raftlog FILE`, seen from outside: what stands in the file after a run of tests."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from trioraft.logs.raftlog import ENTRY_RE, RUN_PREFIX, STATUS_RE

pytest_plugins = ["pytester"]


def run_tests(
    pytester: pytest.Pytester, *arguments: str, in_process: bool = True
) -> pytest.RunResult:
    run = pytester.runpytest_inprocess if in_process else pytester.runpytest_subprocess
    return run("-p", "no:cacheprovider", *arguments)


def outcomes(path: Path) -> list[tuple[str, str]]:
    """(status, name) of each run, having checked that a reader would pair them likewise."""
    pairs: list[tuple[str, str]] = []
    name = None
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(RUN_PREFIX):
            name = line.removeprefix(RUN_PREFIX).strip()
        elif status := STATUS_RE.search(line):
            assert status[2] == name
            pairs.append((status[1], status[2]))
    return pairs


SUITE = """
    import pytest
    import trio
    from trioraft.core.events import ElectionTimerStarted
    from trioraft.logs import TraceLogger, current_sink, sink_logger

    @pytest.mark.parametrize("count", [1, 3])
    async def test_nodes(count, autojump_clock):
        async def node(number):
            log = TraceLogger(sink_logger(current_sink()), str(number))
            log.event(ElectionTimerStarted(trio.current_time(), 0.195, 0))
        for number in range(count):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node, number)
            await trio.sleep(0.5)
        current_sink().test_line("Disconnect 0")

    @pytest.fixture
    async def cluster():
        current_sink().test_line("set up")
        yield
        current_sink().test_line("tear down")

    async def test_fixture(cluster):
        current_sink().test_line("body")

    def test_nothing():
        pass

    def test_wrong():
        assert 10 == 11, "10:00 [9] leaked task; --- PASS: test_other"

    @pytest.mark.skip
    def test_skipped():
        pass

    @pytest.mark.xfail(strict=True)
    def test_known():
        raise RuntimeError

    @pytest.fixture
    def broken():
        raise RuntimeError

    def test_broken_fixture(broken):
        pass

    class TestMore:
        def test_nothing(self):
            pass
"""


@pytest.fixture
def suite(pytester: pytest.Pytester) -> pytest.Pytester:
    pytester.makeini("[pytest]\ntrio_mode = true\n")
    pytester.makepyfile(SUITE)
    return pytester


def test_every_test_is_a_run(suite: pytest.Pytester) -> None:
    run_tests(suite, "--raftlog=raft.log").assert_outcomes(
        passed=5, failed=1, errors=1, skipped=1, xfailed=1
    )
    assert outcomes(suite.path / "raft.log") == [
        ("PASS", "test_nodes_1"),
        ("PASS", "test_nodes_3"),
        ("PASS", "test_fixture"),
        ("PASS", "test_nothing"),
        ("FAIL", "test_wrong"),
        ("SKIP", "test_skipped"),
        ("SKIP", "test_known"),
        ("FAIL", "test_broken_fixture"),
        ("PASS", "test_nothing_2"),
    ]


def test_entries_stand_in_the_run_of_their_test(suite: pytest.Pytester) -> None:
    run_tests(suite, "--raftlog", "raft.log", "-k", "test_nodes or test_fixture")
    lines = (suite.path / "raft.log").read_text(encoding="utf-8").splitlines()
    told = [match[3] if (match := ENTRY_RE.search(line)) else line.split(" (")[0] for line in lines]
    timer = "election timer started (195ms), term=0"
    assert told == [
        "=== RUN   test_nodes_1",
        timer,
        "Disconnect 0",
        "--- PASS: test_nodes_1",
        "=== RUN   test_nodes_3",
        *[timer] * 3,
        "Disconnect 0",
        "--- PASS: test_nodes_3",
        "=== RUN   test_fixture",
        "set up",
        "body",
        "tear down",
        "--- PASS: test_fixture",
    ]


def test_the_report_of_a_failure_is_in_the_log_and_is_no_entry(suite: pytest.Pytester) -> None:
    run_tests(suite, "--raftlog", "raft.log", "-k", "test_wrong")
    header, *report, status = (suite.path / "raft.log").read_text(encoding="utf-8").splitlines()
    assert header == "=== RUN   test_wrong"
    assert any("leaked task" in line for line in report)
    assert not any(ENTRY_RE.search(line) or STATUS_RE.search(line) for line in report)
    assert re.fullmatch(r"--- FAIL: test_wrong \(\d+\.\d\ds\)", status)


def test_without_the_option_there_is_no_sink_and_no_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        from trioraft.logs import current_sink

        def test_quiet():
            assert current_sink() is None
        """
    )
    run_tests(pytester, in_process=False).assert_outcomes(passed=1)
    assert list(pytester.path.glob("*log*")) == []


def test_collecting_leaves_an_older_log_alone(suite: pytest.Pytester) -> None:
    log = suite.path / "raft.log"
    log.write_text("older", encoding="utf-8")
    run_tests(suite, "--raftlog=raft.log", "--collect-only")
    assert log.read_text(encoding="utf-8") == "older"


def test_a_crash_leaves_what_was_written(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
        import os
        from trioraft.logs import current_sink

        def test_fine():
            pass

        def test_crash():
            current_sink().test_line("before")
            os._exit(3)
        """
    )
    run_tests(pytester, "--raftlog=raft.log", in_process=False)
    written = (pytester.path / "raft.log").read_text(encoding="utf-8")
    assert outcomes(pytester.path / "raft.log") == [("PASS", "test_fine")]
    assert written.endswith("[TEST] before\n")


def test_an_interrupted_test_has_failed(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_stop(): raise KeyboardInterrupt")
    arguments = ("-p", "no:cacheprovider", "--raftlog=raft.log")
    pytester.inline_run(*arguments, no_reraise_ctrlc=True)
    assert outcomes(pytester.path / "raft.log") == [("FAIL", "test_stop")]


@pytest.mark.parametrize(
    ("path", "complaint"),
    [
        (".", "*ERROR: --raftlog *: that is a directory; name a file"),
        ("missing/raft.log", "*ERROR: --raftlog *: there is no directory *missing"),
    ],
)
def test_a_path_that_cannot_be_is_one_clear_error(
    suite: pytest.Pytester, path: str, complaint: str
) -> None:
    result = run_tests(suite, "--raftlog", path)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])
    result.stderr.no_fnmatch_line("*Traceback*")


def test_a_path_that_turns_out_bad_late_is_one_clear_error_too(suite: pytest.Pytester) -> None:
    suite.makeconftest(
        """
        from pathlib import Path

        def pytest_collection_finish():
            Path("raft.log").mkdir()
        """
    )
    result = run_tests(suite, "--raftlog=raft.log")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*ERROR: --raftlog *raft.log: Is a directory"])
    result.stderr.no_fnmatch_line("*Traceback*")
    result.stdout.no_fnmatch_line("*INTERNALERROR*")


def test_a_worker_of_xdist_writes_its_own_file(pytester: pytest.Pytester) -> None:
    pytester.makepyfile("def test_a(): pass\ndef test_b(): assert 0")
    run_tests(pytester, "--raftlog=raft.log", "-n2", in_process=False)
    written = sorted(pytester.path.glob("raft.log*"))
    assert {path.name for path in written} <= {"raft.log.gw0", "raft.log.gw1"}
    runs = [outcome for path in written for outcome in outcomes(path)]
    assert sorted(runs) == [("FAIL", "test_b"), ("PASS", "test_a")]


# --- pages ----------------------------------------------------------------------------------


def test_pages_of_the_tests_in_which_somebody_spoke(suite: pytest.Pytester) -> None:
    result = run_tests(suite, "--raftlog=raft.log", "--raftviz=pages", "-k", "test_no")
    result.assert_outcomes(passed=4, deselected=5)
    result.stdout.fnmatch_lines(["raftviz: 2 runs: *pages/index.html"])
    names = sorted(path.name for path in (suite.path / "pages").glob("*.html"))
    assert [name for name in names if "test_nodes" in name] == names[:-1]
    assert (len(names), names[-1]) == (3, "index.html")


def test_pages_that_cannot_be_made_change_no_outcome(suite: pytest.Pytester) -> None:
    result = run_tests(suite, "--raftlog=raft.log", "--raftviz=pages", "-k", "TestMore")
    assert result.ret == pytest.ExitCode.OK
    result.stdout.fnmatch_lines(["raftviz: no pages: *raft.log has no log entry*"])
    assert not (suite.path / "pages").exists()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--raftviz=pages",), "*ERROR: --raftviz *: give --raftlog FILE too"),
        (("--raftlog=raft.log", "--raftviz=file/in"), "*ERROR: --raftviz *file is not a directory"),
    ],
)
def test_pages_that_cannot_be_written_are_refused_early(
    suite: pytest.Pytester, options: tuple[str, ...], complaint: str
) -> None:
    (suite.path / "file").write_text("", encoding="utf-8")
    result = run_tests(suite, *options)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([complaint])
    assert not (suite.path / "raft.log").exists()
