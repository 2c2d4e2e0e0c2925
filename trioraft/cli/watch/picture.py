"""The picture: a scene as a table, with what happened last under it.

It is no larger than the terminal: what happened gives way, then columns do.
"""

from __future__ import annotations

from typing import Final

from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from ...core.escaping import escaped
from ...live.scene import Scene, ServerView, links_of
from ...net.addresses import host_port
from ..saying import shown_text

_LOOKS: Final = {
    "Leader": ("★", "bold green"),
    "Candidate": ("?", "bold yellow"),
    "PreCandidate": ("¿", "yellow"),
    "Follower": ("·", ""),
    "Dead": ("✝", "red"),
}
_ASCII: Final = {"★": "*", "¿": "?", "·": "-", "✝": "x", "✓": "+", "✗": "-"}
LAST: Final = "last role change"
_COLUMNS: Final = {
    "node": 0,
    "clients at": 120,
    "role": 0,
    "term": 0,
    "leader": 60,
    "commit": 0,
    "lag": 0,
    "links": 90,
    LAST: 0,
}
"""And how wide the terminal must be to show each."""
NUMBERS: Final = frozenset({"term", "commit", "lag"})


def picture(scene: Scene, console: Console, now_s: float) -> RenderableType:
    """The scene at this moment."""
    shown = [name for name, width_min in _COLUMNS.items() if console.width >= width_min]
    table = Table(*shown, box=None, pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
        column.justify = "right" if column.header in NUMBERS else "left"
        column.min_width = None if column.header == LAST else len(str(column.header))
    for server in scene.servers.values():
        cells = dict(zip(_COLUMNS, _cells(scene, server, console, now_s), strict=True))
        table.add_row(*(cells[name] for name in shown))
    room = max(0, console.height - len(scene.servers) - 4)
    recent = list(scene.happened)[-room:] if room else []
    lines = [_happened(each.at_s - now_s, each.node, each.text) for each in recent]
    return Group(_headline(scene), table, Text(), *lines)


def _headline(scene: Scene) -> Text:
    leader = scene.leader
    if leader is None:
        named = sorted({status.leader_id for status in scene.statuses() if status.leader_id})
        if named:
            return shown_text(f"{', '.join(named)} leads, and is not watched: name its address too")
        return Text("no leader is known", style="bold red")
    configuration = leader.configuration
    parts = [f"cluster {leader.cluster_id}", f"voters {', '.join(configuration.voters)}"]
    if configuration.outgoing:
        parts.append(f"outgoing {', '.join(configuration.outgoing)}")
    if configuration.learners:
        parts.append(f"learners {', '.join(configuration.learners)}")
    if leader.change is not None:
        parts.append(f"changing to {', '.join(leader.change.voters)} ({leader.change.stage})")
    headline = shown_text("; ".join(parts), style="bold")
    headline.no_wrap, headline.overflow = True, "ellipsis"
    return headline


def _cells(scene: Scene, server: ServerView, console: Console, now_s: float) -> list[Text]:
    status = server.status
    where = host_port(server.address)
    if status is None or server.problem is not None:
        silent_s = 0.0 if server.silent_since_s is None else now_s - server.silent_since_s
        name = "?" if status is None else status.node_id
        texts = [name, where, f"silent for {silent_s:.0f} s", *[""] * 5, server.problem or ""]
        return [shown_text(text, style="red") for text in texts]
    sign, style = _LOOKS.get(status.role, ("", ""))
    lag = scene.lag_of(status)
    role = "removed" if status.is_removed else status.role
    texts = [
        status.node_id,
        where,
        f"{_sign(sign, console)} {role}",
        str(status.term),
        status.leader_id or "none",
        str(status.commit_index),
        "" if lag is None else str(lag),
        " ".join(f"{peer}{_sign('✓' if up else '✗', console)}" for peer, up in links_of(status)),
        status.last_role_change,
    ]
    return [shown_text(text, style=style) for text in texts]


def _sign(sign: str, console: Console) -> str:
    return sign if console.encoding.startswith("utf") else _ASCII.get(sign, sign)


def _happened(since_s: float, node: str, text: str) -> Text:
    line = Text(f"{since_s:8.1f} s  ", style="dim", no_wrap=True, overflow="ellipsis")
    line.append(escaped(f"{node}  {text}"), style="")
    return line
