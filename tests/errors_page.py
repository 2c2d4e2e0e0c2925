"""The table of `docs/errors.md`, from the errors' own descriptions: `python -m tests.errors_page
--update` writes it, and without `--update` it says what differs."""

from __future__ import annotations

import inspect
import re
import sys

from tests import generated_page
from tests.public_names import ROOT, public_errors

PAGE = ROOT / "docs" / "errors.md"
HEAD = "| error | whose fault | what to do |\n|---|---|---|\n"
_TOLD = re.compile(
    r"^Fault: (?P<fault>.+(?:\n[ ]+.+)*)\nRemedy: (?P<remedy>.+(?:\n[ ]+.+)*)$", re.MULTILINE
)


def fault_and_remedy(error: type[BaseException]) -> tuple[str, str] | None:
    """What the class's description says after "Fault:" and "Remedy:"."""
    found = _TOLD.search(inspect.cleandoc(error.__doc__ or ""))
    return None if found is None else (one_line(found["fault"]), one_line(found["remedy"]))


def one_line(text: str) -> str:
    return " ".join(text.split())


def rows() -> list[str]:
    """A line for each public error that says both."""
    return [
        f"| `{name.removeprefix('trioraft.')}` | {said[0]} | {said[1]} |"
        for name, error in public_errors().items()
        if (said := fault_and_remedy(error)) is not None
    ]


def updated(page: str) -> str:
    """The page with the table as it should be, which is the last thing on it."""
    before, _, _ = page.partition(HEAD)
    return before + HEAD + "".join(f"{row}\n" for row in rows())


if __name__ == "__main__":
    sys.exit(generated_page.run(PAGE, updated))
