"""Compare or rewrite the golden files; see the package's own docstring."""

from __future__ import annotations

import argparse
import sys

from .examples import EXAMPLES, RAFTLOG, raftlog
from .files import FOLDER, differences, text_of


def present_files() -> dict[str, str]:
    """Every golden file as the code as it is would write it."""
    return {RAFTLOG: raftlog()} | {name: text_of(make()) for name, make in EXAMPLES.items()}


def main(words: list[str]) -> int:
    """Run the command; its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("--update", action="store_true", help="write the files anew")
    options = parser.parse_args(words)
    differing = 0
    for name, text in present_files().items():
        path = FOLDER / name
        golden = path.read_text(encoding="utf-8") if path.exists() else ""
        if golden == text:
            continue
        differing += 1
        print(f"{name} {'is new' if not golden else 'differs'}")
        if name != RAFTLOG:
            print("\n".join(f"  {line}" for line in differences(golden, text)))
        if options.update:
            path.write_text(text, encoding="utf-8")
    if differing and options.update:
        print(f"wrote {differing} files; say in the commit why their formats changed")
    return 1 if differing and not options.update else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
