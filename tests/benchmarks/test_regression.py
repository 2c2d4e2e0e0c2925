"""benchmarks.regression: what has become slower since the last commit.

Rules of this file: the trees are repositories of our own, with a trioraft as slow as we say;
what it does is a number of steps, and three times as many are found on any machine.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest

from benchmarks.commands import EXIT_FAILED, EXIT_USAGE
from benchmarks.regression import command
from benchmarks.regression.command import Compared, base_of, row, tree_of

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")

STEPS = 200


def git(tree: Path, *arguments: str) -> str:
    names = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    done = subprocess.run(
        ["git", "-C", str(tree), *names, *arguments],
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    return done.stdout


def write(tree: Path, steps: int) -> None:
    """A trioraft whose only command takes so many steps."""
    kv = tree / "trioraft" / "kv"
    kv.mkdir(parents=True, exist_ok=True)
    (tree / "trioraft/__init__.py").touch()
    (kv / "__init__.py").touch()
    (kv / "commands.py").write_text(
        "Put = lambda key, value: key\nencode = lambda put: put\n", encoding="utf-8"
    )
    (kv / "machine.py").write_text(
        "class KvMachine:\n"
        "    def apply(self, index, command):\n"
        f"        for _ in range({steps}):\n"
        "            pass\n",
        encoding="utf-8",
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A repository with one commit."""
    write(tmp_path, STEPS)
    (tmp_path / ".gitignore").write_text("__pycache__\n", encoding="utf-8")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "first")
    return tmp_path


OPTIONS = ["--only", "apply", "--rounds", "6", "--seconds", "0.02"]


# -- what is told ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ratios", "is_worse", "is_better"),
    [
        ((1.3, 1.4, 1.5, 1.3, 1.4, 1.5), True, False),
        ((1.3, 1.4, 1.5, 0.9, 1.4, 1.5), False, False),  # as likely noise
        ((1.1, 1.2, 1.1, 1.2, 1.1, 1.2), False, False),  # slower, but tolerated
        ((0.5, 0.6, 0.5, 0.6, 0.5, 0.6), False, True),
    ],
)
def test_worse_is_what_is_slower_than_tolerated_and_not_by_chance(
    ratios: tuple[float, ...], is_worse: bool, is_better: bool
) -> None:
    compared = Compared("apply", [10.0] * 6, [10 * ratio for ratio in ratios])
    assert compared.is_worse(1.25) is is_worse
    assert compared.is_better(1.25) is is_better
    assert ("WORSE" in row(compared, 1.25)) is is_worse


def test_a_case_that_a_tree_has_not_got_is_no_regression() -> None:
    compared = Compared("apply", missing="before: ImportError: no")
    assert not compared.is_worse(1.25)
    assert "not compared, before: ImportError" in row(compared, 1.25)


# -- trees -------------------------------------------------------------------------------------


def test_what_was_changed_is_compared_with_the_last_commit_and_else_that_with_the_one_before(
    tree: Path,
) -> None:
    assert base_of(tree) == "HEAD~1"
    write(tree, 1)
    assert base_of(tree) == "HEAD"


def test_the_other_tree_is_gone_at_the_end_however_it_ends(tree: Path) -> None:
    with pytest.raises(KeyboardInterrupt), tree_of("HEAD", tree) as base:  # noqa: PT012
        assert (base / "trioraft/kv/machine.py").is_file()
        raise KeyboardInterrupt
    assert not base.parent.exists()
    assert git(tree, "worktree", "list").count("\n") == 1


# -- the whole ---------------------------------------------------------------------------------


def test_a_slowdown_that_was_planted_is_found(
    tree: Path, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tree, 3 * STEPS)
    file = tmp_path_factory.mktemp("out") / "r.json"
    assert command.main([*OPTIONS, "--json", str(file)], tree=tree) == EXIT_FAILED
    assert "WORSE" in capsys.readouterr().out
    (case,) = json.loads(file.read_text(encoding="utf-8"))["cases"]
    assert len(case["before"]) == len(case["after"]) == 6
    assert git(tree, "worktree", "list").count("\n") == 1


def test_where_nothing_has_changed_nothing_is_found(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tree / "README").write_text("as quick as ever", encoding="utf-8")
    arguments = ["--only", "apply", "sim", *OPTIONS[2:], "--tolerance", "2"]
    assert command.main(arguments, tree=tree) == 0
    out = capsys.readouterr().out
    assert "WORSE" not in out
    assert "not compared, before: ModuleNotFoundError" in out


def test_what_became_quicker_is_no_fault(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tree, STEPS // 4)
    git(tree, "commit", "--quiet", "-a", "-m", "second")
    assert command.main(OPTIONS, tree=tree) == 0
    assert "better" in capsys.readouterr().out


def test_a_revision_that_is_none_is_said(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main([*OPTIONS, "--base", "no-such-one"], tree=tree) == EXIT_USAGE
    assert "no-such-one" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["--only", "nothing"], ["--rounds", "3"], ["--tolerance", "1"]]
)
def test_what_cannot_work_is_said_before_anything_is_measured(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(arguments)
    assert caught.value.code == EXIT_USAGE
