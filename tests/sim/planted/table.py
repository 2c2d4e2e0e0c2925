"""Table: what the hunts found, as `docs/planted-bugs.md`.

Rules of this file: the page is made by `python -m tests.sim.planted --markdown`, and not by hand.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from .bug import Bug
from .hunt import Hunt

PAGE: Final = Path(__file__).parents[3] / "docs" / "planted-bugs.md"
RULES: Final = {
    "_check_voted": "a vote leaves once it is durable",
    "_check_holds": "what is acknowledged is durable",
    "_check_was_sent": "an acknowledgement covers no more than was sent",
    "_check_elected": "whoever leads has the votes of a majority",
    "_check_term_has_begun": "only a candidate begins a term",
    "_check_matches": "what is known of a follower never becomes less",
    "_check_stable_is_durable": "what a node takes for durable is on its disk",
    "_check_commit_is_durable": "what is committed is on the disks of a majority",
    "_check_configuration": "the newest configuration in the log counts",
    "_check_leading": "what a leader may commit and append",
    "_fail": "figure 3 of the paper, and nothing regresses",
    "check_recovered": "a node comes back with what was durable",
    "on_applied": "the core's own bounds",
    "on_apply": "only durable entries are applied",
    "_check_asked": "a command stands in the log as often as it was asked for",
    "on_executed": "exactly once, at one index everywhere",
    "on_state": "equal indexes have equal states",
    "on_read": "no stale read",
    "apply": "entries are applied in order",
    "on_outcome": "one outcome for each proposal",
    "_check_outcomes": "an outcome is true",
    "check_waiting": "nobody waits for ever",
    "on_failed": "a node ends only for a reason",
    "fail": "unknown only when it truly is",
    "_tell_once": "one outcome for each proposal",
    "_hear": "a session lasts",
    "start": "a damaged disk is refused",
    "_recover": "progress after healing",
    "_await_progress": "progress within its bound",
    "_await_read": "a read within its bound, whatever bulk is on its way",
    "_await_joined": "who comes back catches up within its bound",
    "_await_learnt": "who was taken out learns it within its bound",
    "_check_steady": "nobody disturbs a healed cluster",
    "_check_history": "linearizability",
    "_warm_up": "progress while nothing is wrong",
    "check_roles": "a role has its tasks, and no others",
    "__aexit__": "nothing is left of a node (leak check)",
    "watch_its_end": "a node that ends is gone at once",
    "carry_out": "a result comes from the state machine",
    "step": "correct nodes take nobody for broken",
    "restart_from": "the core's own bounds",
    "truncate": "nothing committed is cut",
    "entries": "the core's own bounds",
    "append": "the core's own bounds",
}
"""What the function that failed checks."""

HEAD: Final = """\
# Planted bugs

A simulator that finds nothing proves nothing. So mistakes that shipped elsewhere are put into the
core, the node, the disk or the sessions, one at a time, and the simulator has to find each of them.
The code as it is passes the same seeds. The mistakes live in `tests/sim/planted/`; what is checked
is described in [simulation.md](simulation.md).

```
{command}
```

"Found in" counts the first {rated} seeds. Where that is 0, later seeds find it: see "first seed".

| hazard | what is wrong | name | caught by | first seed | found in |
|---|---|---|---|---|---|
"""


def page(bugs: Sequence[Bug], hunts: Sequence[Hunt], command: str) -> str:
    """The page, from all hunts."""
    by_name = {hunt.name: hunt for hunt in hunts}
    rated = max(hunt.rated for hunt in hunts)
    head = HEAD.replace("{command}", command).replace("{rated}", str(rated))
    return head + "\n".join(_rows(bugs, by_name)) + "\n"


def caught_by(hunt: Hunt) -> str:
    """In words: the check that found most, and the runner-up."""
    rules = list(dict.fromkeys(_rule(kind) for kind in hunt.caught_by))
    return "; ".join(rules[:2]) if rules else "-"


def _rule(kind: str) -> str:
    error, _, function = kind.rpartition(" in ")
    return RULES.get(function, f"`{error}` in `{function}`")


def _rows(bugs: Sequence[Bug], by_name: dict[str, Hunt]) -> Iterable[str]:
    for bug in bugs:
        hunt = by_name.get(bug.name)
        if hunt is None:
            continue
        hazard = bug.hazard if bug.tier == 1 else f"{bug.hazard} (tier 2)"
        hazard += "" if bug.directed is None else f" ({bug.directed})"
        first = "not found" if hunt.first_seed is None else str(hunt.first_seed)
        yield (
            f"| {hazard} | {bug.what} | `{bug.name}` | {caught_by(hunt)} | {first} | "
            f"{hunt.found} of {hunt.rated} |"
        )
