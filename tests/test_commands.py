"""The project's own commands for its developers: what they run is there, and what they say is so.

Rules of this file: nothing long is run; the commands that they start are looked at.
"""

from __future__ import annotations

import importlib.util
import re
import tomllib
from pathlib import Path

import attrs
import pytest

from tests import long, odd_environments, quick
from tests.long import LongRun, Verdict

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("run", long.RUNS, ids=lambda run: run.name)
def test_a_long_run_is_a_module_that_exists(run: LongRun) -> None:
    spec = importlib.util.find_spec(run.words[0])
    assert spec is not None
    if spec.submodule_search_locations is not None:
        assert importlib.util.find_spec(f"{run.words[0]}.__main__") is not None


def test_every_test_that_is_named_is_there() -> None:
    for test in (*quick.TESTS, *odd_environments.PARTS):
        assert (ROOT / test).exists(), test


def test_a_run_that_fails_does_not_stop_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    carried_out: list[str] = []

    def carry_out(run: LongRun) -> Verdict:
        carried_out.append(run.name)
        return Verdict(run.name, 3 if run.name == "kill-nine" else 0, 61.0)

    monkeypatch.setattr(long, "carry_out", carry_out)
    assert long.main(["nemesis", "kill-nine"]) == 1
    assert carried_out == ["kill-nine", "nemesis"]
    out = capsys.readouterr().out
    assert re.search(r"kill-nine +FAILED \(exit code 3\), 1.0 min", out)
    assert re.search(r"nemesis +well, 1.0 min", out)
    assert long.main(["nemesis"]) == 0


def test_ctrl_c_tells_what_was_done(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def carry_out(run: LongRun) -> Verdict:
        if run.name == "nemesis":
            raise KeyboardInterrupt
        return Verdict(run.name, 0, 1.0)

    monkeypatch.setattr(long, "carry_out", carry_out)
    assert long.main(["kill-nine", "nemesis"]) == long.EXIT_INTERRUPTED
    assert "kill-nine    well" in capsys.readouterr().out


def test_a_name_that_is_none_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_info:
        long.main(["everything"])
    assert exit_info.value.code == 2
    assert "there is no everything: give some of digests, sim" in capsys.readouterr().err


def test_the_exit_code_of_a_long_run_is_that_of_its_command() -> None:
    run = attrs.evolve(long.RUNS[0], words=("tests.long", "nothing"))
    assert long.carry_out(run).code == 2


def test_contributing_lists_every_long_run_and_every_stage_of_ci() -> None:
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"^\| `([\w-]+)` \|", page, re.MULTILINE))
    assert set(long.BY_NAME) - listed == set()
    stages = re.findall(r'^echo "== ([^,"$]+)', (ROOT / ".ci/run").read_text("utf-8"), re.MULTILINE)
    assert len(stages) >= 5
    assert [stage for stage in stages if f"| {stage.strip()} |" not in page] == []


@pytest.mark.parametrize("odd", odd_environments.ODD, ids=lambda odd: odd.name)
def test_an_odd_environment_is_odd(odd: odd_environments.Odd) -> None:
    plain = odd_environments.Odd(odd.name, odd.what)
    assert odd != plain
    assert odd.what


def test_the_lowest_versions_are_those_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    wanted = {}
    for bound in [
        *project["dependencies"],
        *extras["cli"],
        *extras["tls"],
        *extras["test"],
        *extras["bench"],
    ]:
        name, at_least, version = bound.partition(";")[0].strip().partition(">=")
        if at_least and name not in ("ruff", "mypy", "types-PyYAML"):
            wanted[name.lower()] = tuple(map(int, version.split(".")))
    pinned = {}
    for line in (ROOT / "tests/lowest.txt").read_text(encoding="utf-8").splitlines():
        name, exactly, version = line.partition("#")[0].strip().partition("==")
        if exactly:
            pinned[name] = tuple(map(int, version.split(".")))
    for name, version in wanted.items():
        assert pinned[name][: len(version)] == version, name
        assert set(pinned[name][len(version) :]) <= {0}, name
