"""`trioraft demo SCENARIO`: on real sockets here, and on servers.

Rules of this file: as of tests/test_demo.py. The laboratory's API is a small server that writes
down what it is told, and does nothing: what it should do is the laboratory's own business.
"""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import attrs
import pytest
from click.testing import CliRunner, Result

from benchmarks.processes import Process
from tests.serve import commands
from tests.serve.clusters import READY, started
from tests.test_demo import VERDICT, command, environment
from trioraft.cli.application import application
from trioraft.scenario import load, shipped_names
from trioraft.viz.analysis import analyse_log

FAILING = "# Nobody can lead alone.\n3 nodes\ndisconnect everyone\nexpect one leader within 300ms\n"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LINES", raising=False)


def demo(*arguments: str) -> Result:
    return commands.run("demo", *arguments, env={"NO_COLOR": "1", "COLUMNS": "80"})


def words(text: str) -> str:
    return " ".join(text.split())


# -- here ------------------------------------------------------------------------------------


def test_a_scenario_is_played_line_by_line_and_has_its_table_log_and_verdict(
    tmp_path: Path,
) -> None:
    result = demo("leader-disconnect", "--seed", "1")
    assert result.exit_code == 0, result.output
    assert load("leader-disconnect").about in result.stdout
    assert "line 3: when a leader is elected, disconnect leader" in result.stdout
    assert re.search(
        r"^line 4 +\d+ ms +expect another leader: node \d leads term", result.stdout, re.M
    )
    assert "the same timeouts again: --seed 1" in result.stdout
    assert VERDICT in result.stdout
    (run,) = analyse_log(tmp_path / "trioraft-demo.raftlog")
    assert run.status == "PASS"
    assert [term.leader is not None for term in run.terms].count(True) >= 2


def test_an_expectation_that_fails_says_line_and_picture_and_is_exit_code_1(tmp_path: Path) -> None:
    path = tmp_path / "mine.scenario"
    path.write_text(FAILING, encoding="utf-8")
    result = demo(str(path))
    assert result.exit_code == 1
    assert f"{path}:4: expect one leader within 300ms" in result.stdout
    assert "seen instead: nobody leads (waited for 0.3 s)" in result.stdout
    assert "picture: trioraft viz trioraft-demo.raftlog --open" in result.stdout
    assert "expect one leader within 300ms: FAILED" in words(result.stdout)
    assert VERDICT in result.stdout
    (run,) = analyse_log(tmp_path / "trioraft-demo.raftlog")
    assert run.status == "FAIL"


def test_nodes_that_crash_and_come_back_are_seen_and_told_in_json(tmp_path: Path) -> None:
    path = tmp_path / "mine.scenario"
    path.write_text("crash leader; expect another leader; restart; add node 3", encoding="utf-8")
    result = demo("mine.scenario", "--log-format", "json")
    assert result.exit_code == 0, result.output
    assert "node 3 follows node" in result.stdout
    lines = (tmp_path / "trioraft-demo.jsonl").read_text(encoding="utf-8").splitlines()
    told = [json.loads(line)["event"] for line in lines]
    assert [text.split()[0] for text in told if " " in text] == ["Crash", "Restart", "Join"]


def test_where_a_text_says_how_messages_fare_a_network_in_memory_carries_them(
    tmp_path: Path,
) -> None:
    text = "network delay 2ms to 3ms\nexpect one leader\nnetwork loss 1%\nexpect one leader\n"
    (tmp_path / "mine.scenario").write_text(text, encoding="utf-8")
    result = demo("mine.scenario", "--seed", "0")
    assert "over a network in memory" in result.stdout
    assert result.exit_code == 0, result.output


def test_slower_is_slower() -> None:
    result = demo("election-basic", "--slow", "3", "--seed", "0")
    assert "3 times as slow" in result.stdout
    silence = re.search(r"no contact for (\d+) ms", result.stdout)
    assert silence is not None
    assert int(silence[1]) >= 450


def test_all_are_listed_with_what_they_show_and_any_is_shown() -> None:
    listed = demo("--list").stdout
    for name in shipped_names():
        assert f"{name} " in listed
        assert load(name).about in listed
    assert demo("leader-disconnect", "--show").stdout == load("leader-disconnect").text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("leader-disconect",), "Did you mean 'leader-disconnect'?"),
        (("./nowhere.scenario",), "cannot read the scenario"),
        (("leader-disconnect", "--nodes", "5"), "says itself how many there are: 3"),
        (("--slow", "2"), "name a scenario"),
        (("--show",), "name a scenario"),
        (("--lab", "."), "name a scenario"),
        (("wrong.scenario",), "wrong.scenario:2:1: 'disconect' cannot stand here"),
        (("paused.scenario",), "which the demo has not"),
        (("leader-disconnect", "--lab", "."), "has no laboratory (lab.json is missing): start one"),
    ],
)
def test_a_mistake_is_said_before_anything_starts(
    arguments: tuple[str, ...], said: str, tmp_path: Path
) -> None:
    (tmp_path / "wrong.scenario").write_text("3 nodes\ndisconect leader\n", encoding="utf-8")
    (tmp_path / "paused.scenario").write_text("pause leader\n", encoding="utf-8")
    result = demo(*arguments)
    assert result.exit_code == 2
    assert said in words(result.stderr.replace("│", " "))
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "trioraft-demo.raftlog").exists()


def test_ctrl_c_ends_a_scenario_with_a_true_verdict(tmp_path: Path) -> None:
    path = tmp_path / "long.scenario"
    path.write_text("expect one leader\nafter 10min\n", encoding="utf-8")
    with Process(command(str(path)), directory=tmp_path, environment=environment()) as process:
        while "leads term" not in process.next_line():
            pass
        process.signal(signal.SIGINT)
        rest = process.rest()
        assert process.wait() == 130
    assert "interrupted by SIGINT" in rest
    assert VERDICT in rest


# -- completion ------------------------------------------------------------------------------


def completed(line: str) -> set[str]:
    env = {"_TRIORAFT_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": "2"}
    if "--scenario" in line:
        env["COMP_CWORD"] = "3"
    output = CliRunner().invoke(application(), [], env=env, prog_name="trioraft").stdout
    return {each.partition(",")[2] for each in output.splitlines() if each.startswith("plain,")}


def test_a_shell_completes_names_of_scenarios() -> None:
    expected = {name for name in shipped_names() if name.startswith("why-")}
    assert completed("trioraft demo why-") == expected
    assert completed("trioraft sim --scenario why-") == expected


# -- on servers ------------------------------------------------------------------------------


@attrs.define
class Told:
    """What a laboratory was told."""

    orders: list[str] = attrs.field(factory=list)
    refuses: str = ""


@contextmanager
def laboratory(directory: Path, told: Told) -> Iterator[None]:
    """One that only writes down."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            members = [{"id": "0", "state": "paused"}, {"id": "1", "state": "dead"}]
            self._answer(200, json.dumps({"members": members, "pre_vote": True}))

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"])).decode()
            assert self.headers["Authorization"] == "Bearer secret"
            told.orders += text.splitlines()
            refused = told.refuses != "" and told.refuses in text
            self._answer(409 if refused else 200, '{"problem": "it has gone"}')

        def _answer(self, code: int, text: str) -> None:
            self.send_response(code)
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text.encode())

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        kept = {"url": f"http://127.0.0.1:{server.server_port}", "token": "secret", "pid": 1}
        (directory / "lab.json").write_text(json.dumps(kept), encoding="utf-8")
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cluster of one server, and its directory."""
    folder = tmp_path_factory.mktemp("lab")
    with started("1", "--data", "here", cwd=folder) as cluster:
        cluster.wait_for(READY)
        yield folder / "here"


ON_SERVERS = """\
1 node
pre-vote off
put x 1
expect answer is nothing
append x 2
expect answer is 1
expect get x is 12 as another
swap x from 12 to 3
expect answer is done
expect value of x is 3 on 1 node
expect leader is leader
disconnect 0
reconnect
pause 0
resume it
"""


def test_a_scenario_on_servers_tells_the_laboratory_and_asks_the_servers(
    servers: Path, tmp_path: Path
) -> None:
    path, told = tmp_path / "mine.scenario", Told()
    path.write_text(ON_SERVERS, encoding="utf-8")
    with laboratory(servers, told):
        for _ in range(2):  # the second time the keys are others
            result = demo(str(path), "--lab", str(servers))
            assert result.exit_code == 0, result.output
    assert "line 10: expect value of x is 3 on 1 node" in result.stdout
    assert result.stdout.endswith("all of it came true\n")
    assert told.orders[: len(told.orders) // 2] == [
        *("heal", "restart 1", "resume 0", "pre-vote off"),
        *("disconnect 0", "reconnect 0", "pause 0", "resume 0"),
    ]


@pytest.mark.parametrize(
    ("text", "code", "said"),
    [
        ("1 node\nput x 1\nexpect get x is 2", 1, "seen instead: client reads '1'"),
        ("1 node\nexpect no leader for 1s", 1, "node 0 leads term"),
        ("1 node\ndisconnect 0", 1, "the laboratory refuses 'disconnect 0' (409)"),
        ("3 nodes\nexpect one leader", 2, "is about 3 nodes, and the laboratory"),
        ("1 node\npropose x", 2, "which a laboratory of servers has not"),
    ],
)
def test_what_goes_wrong_on_servers_is_said(
    text: str, code: int, said: str, servers: Path, tmp_path: Path
) -> None:
    path = tmp_path / "mine.scenario"
    path.write_text(text, encoding="utf-8")
    with laboratory(servers, Told(refuses="disconnect")):
        result = demo(str(path), "--lab", str(servers))
    assert result.exit_code == code
    assert said in words(result.output)


def test_a_laboratory_that_has_gone_is_said(servers: Path, tmp_path: Path) -> None:
    with laboratory(servers, Told()):
        pass
    (tmp_path / "mine.scenario").write_text("1 node\nexpect one leader", encoding="utf-8")
    result = demo("mine.scenario", "--lab", str(servers))
    assert result.exit_code == 1
    assert "does not answer" in result.stderr
