"""`trioraft admin switch-on`, and what `admin status` says of features, with a real server."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.processes import ServerProcesses, shown
from tests.serve.commands import lines, run


def test_it_is_switched_on_once_and_shown(tmp_path: Path) -> None:
    with ServerProcesses(tmp_path, size=1) as servers:
        servers.start()
        environment = {"TRIORAFT_ADDRESSES": shown(servers.addresses[0])}

        def admin(*words: str) -> list[str]:
            return lines(run("admin", *words, env=environment))

        assert lines(run("kv", "put", "before", "it", env=environment))  # somebody leads
        assert "not switched on: entry-checksums (all can)" in admin("status")
        wrong = run("admin", "switch-on", "sliced-bread", env=environment)
        assert wrong.exit_code == 2
        assert "sliced-bread is no feature of those that this node can do" in wrong.output
        (said,) = admin("switch-on")
        assert said.startswith("entry-checksums: on since index ")
        assert "switched on: entry-checksums" in admin("status")
        assert admin("switch-on", "entry-checksums") == [
            "entry-checksums: on already: nothing was changed"
        ]
        (told,) = json.loads("\n".join(admin("status", "--json")))["servers"].values()
        assert told["configuration"]["features"] == ["entry-checksums"]
        assert told["can"] == {told["node_id"]: ["entry-checksums"]}
        assert lines(run("kv", "put", "after", "it", env=environment))
        assert lines(run("kv", "get", "after", env=environment)) == ["it"]
