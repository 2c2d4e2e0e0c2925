"""Metrics: one table of what is told at `/metrics`, and its text for Prometheus.

Rules of this file:

* A metric stands here once: its name, what it is, and where it comes from. docs/metrics.md is made
  from this table, and a test compares.
* Names follow Prometheus' conventions (base units, units last, `_total` for counters) and, where
  etcd has the same thing, etcd's.
* Reading the table costs the node nothing: all is in the figures that it was asked for once.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import metadata
from typing import Final, Literal, TypeAlias, final

import attrs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.core import (
    Metric as Family,
)
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from ..core.types import Role
from ..node.figures import Figures
from ..node.meter import Distribution, Meter
from ..rpc.protocol import ServerStatus
from . import health
from .disk import DiskFigures

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
Kind: TypeAlias = Literal["counter", "gauge", "histogram", "info"]
Sample: TypeAlias = tuple[tuple[str, ...], float | Distribution]
"""The labels' values, and the value."""


@final
@attrs.frozen
class Scene:
    """All that there is to be told at one moment."""

    figures: Figures
    meter: Meter
    service: ServerStatus | None = None
    """Of the port for clients; None: there is none, or it is not known."""
    disk: DiskFigures | None = None
    certificates_s: Mapping[str, float] = attrs.field(factory=dict)
    """Until when each port's certificates are good, in seconds since the epoch."""


@final
@attrs.frozen
class OwnScene:
    """What the HTTP port tells of itself, and of the node's event loop as seen from there."""

    lag: Distribution
    silent_s: float
    connections: int
    answers: Mapping[tuple[str, int], int]
    refused: int
    paused_s: float


@final
@attrs.frozen
class Metric:
    """A row of the table."""

    name: str
    kind: Kind
    help: str
    read: Callable[[Scene], Iterable[Sample]] | None
    labels: tuple[str, ...] = ()
    read_own: Callable[[OwnScene], Iterable[Sample]] | None = None
    """Instead of `read`, of what the HTTP port tells of itself."""

    @property
    def exposed(self) -> str:
        """Its name as it is asked for; a histogram's with `_bucket`, `_sum` and `_count`."""
        return f"{self.name}_info" if self.kind == "info" else self.name


def _one(read: Callable[[Scene], float]) -> Callable[[Scene], Iterable[Sample]]:
    return lambda scene: [((), read(scene))]


def _distribution(read: Callable[[Meter], Distribution]) -> Callable[[Scene], Iterable[Sample]]:
    return lambda scene: [((), read(scene.meter))]


def _by(counts: Mapping[str, float]) -> list[Sample]:
    return [((name,), value) for name, value in counts.items()]


# -- the server --------------------------------------------------------------------------------


def _info(scene: Scene) -> Iterable[Sample]:
    status = scene.figures.status
    return [((status.node_id, scene.figures.cluster_id, status.uuid or "", _version()), 1.0)]


def _version() -> str:
    try:
        return metadata.version("trioraft")
    except metadata.PackageNotFoundError:
        return "0+unknown"


def _checks(scene: Scene) -> Iterable[Sample]:
    found = health.checks(scene.figures, 0.0)
    return [((check.name,), float(not check.problem)) for check in found]


def _is_ready(scene: Scene) -> float:
    return float(not any(health.problems(health.checks(scene.figures, 0.0))))


def _roles(scene: Scene) -> Iterable[Sample]:
    return [((_snake(role.value),), float(scene.figures.status.role is role)) for role in Role]


def _role_changes(scene: Scene) -> Iterable[Sample]:
    found: Counter[tuple[str, str]] = Counter()
    for (_, role, reason), count in scene.meter.roles.items():
        found[_snake(role.value), _snake(reason)] += count
    return list(found.items())


CAMPAIGNING: Final = (Role.PRE_CANDIDATE, Role.CANDIDATE)


def _elections(scene: Scene) -> Iterable[Sample]:
    """A campaign begins, or begins anew; that a pre-vote was won is its second half."""
    found: Counter[str] = Counter(dict.fromkeys(ELECTION_REASONS, 0))
    for (_, role, reason), count in scene.meter.roles.items():
        if role in CAMPAIGNING and reason != "PreVoteWon":
            found[_snake(reason)] += count
    return _by(found)


ELECTION_REASONS: Final = ("no_contact", "no_winner", "peer_lost", "transfer_from")


def _won(scene: Scene) -> float:
    return sum(count for (_, to, _), count in scene.meter.roles.items() if to is Role.LEADER)


def _lost(scene: Scene) -> Iterable[Sample]:
    found: Counter[str] = Counter()
    for (before, role, reason), count in scene.meter.roles.items():
        if before is Role.LEADER and role is not Role.LEADER:
            found[_snake(reason)] += count
    return _by(found)


def _members(scene: Scene) -> Iterable[Sample]:
    configuration = scene.figures.status.configuration
    voters = len(configuration.voters)
    return _by({"voter": voters, "learner": len(configuration.members) - voters})


def _failed(scene: Scene) -> Iterable[Sample]:
    counts = scene.meter.failed + scene.meter.refused
    known = dict.fromkeys(("NotLeader", "Overloaded", "ProposalDropped"), 0)
    return _by({_snake(name): count for name, count in {**known, **counts}.items()})


EVENTS: Final = (
    *("AcknowledgedLost", "ConfigurationChanged", "ConnectionRejected", "DiskIsFull"),
    *("ForeignDisk", "LinkDown", "LinkReplaced", "LinkUp", "MessagesDropped", "ResultsDiffer"),
    *("SnapshotDamaged", "SnapshotInstalled", "SnapshotRotten", "SnapshotSaved"),
    *("StorageWaits", "TermJumped", "TimeoutsWidened", "TimingTooShort", "TransferGivenUp"),
    "TransferStarted",
)
"""What is told of rare events; the names are those of `trioraft.events`."""


def _events(scene: Scene) -> Iterable[Sample]:
    counts = {kind.__name__: count for kind, count in scene.meter.events.items()}
    return _by({_snake(name): counts.get(name, 0) for name in EVENTS})


def _sessions(scene: Scene) -> Iterable[Sample]:
    used = scene.figures.budgets.get("sessions")
    return [] if used is None else [((), used[0])]


# -- the network, and bounds -------------------------------------------------------------------


def _connected(scene: Scene) -> Iterable[Sample]:
    return _by({peer: float(is_up) for peer, is_up in scene.figures.status.links.items()})


def _lag(scene: Scene) -> Iterable[Sample]:
    status = scene.figures.status
    return [
        ((peer,), max(status.last_index - progress.match_index, 0))
        for peer, progress in status.progress.items()
    ]


def _states(scene: Scene) -> Iterable[Sample]:
    return [
        ((peer, state), float(progress.state == state))
        for peer, progress in scene.figures.status.progress.items()
        for state in ("probe", "replicate", "snapshot")
    ]


def _contacts(scene: Scene) -> Iterable[Sample]:
    return _by({peer: max(age_s, 0.0) for peer, age_s in scene.figures.contacts_s.items()})


def _round_trips(scene: Scene) -> Iterable[Sample]:
    return [((peer,), trips) for peer, trips in scene.meter.round_trips.items()]


def _clients(scene: Scene) -> Iterable[Sample]:
    if scene.service is None:
        return []
    strangers = scene.service.budgets.get("strangers", (0, None))[0]
    return _by({"admitted": scene.service.connections, "stranger": strangers})


def _of_service(read: Callable[[ServerStatus], float]) -> Callable[[Scene], Iterable[Sample]]:
    return lambda scene: [] if scene.service is None else [((), read(scene.service))]


def _budgets(scene: Scene) -> dict[str, tuple[int, int | None]]:
    of_service = {} if scene.service is None else dict(scene.service.budgets)
    return {**of_service, **scene.figures.budgets}


def _bounded(ending: str, which: int, per: float = 1.0) -> Callable[[Scene], Iterable[Sample]]:
    """Of budgets whose names end so: what is used (0), or the bound (1)."""

    def read(scene: Scene) -> Iterator[Sample]:
        for name, used in _budgets(scene).items():
            value = used[which]
            if _ending(name) == ending and value is not None:
                yield (name.removesuffix(ending).rstrip("_"),), value / per

    return read


_ENDINGS: Final = ("_bytes", "_cpu_ms")


def _ending(name: str) -> str:
    return next((ending for ending in _ENDINGS if name.endswith(ending)), "")


def _certificates(scene: Scene) -> Iterable[Sample]:
    return _by(scene.certificates_s)


# -- the disk ----------------------------------------------------------------------------------


def _of_disk(read: Callable[[DiskFigures], float | None]) -> Callable[[Scene], Iterable[Sample]]:
    def samples(scene: Scene) -> Iterable[Sample]:
        value = None if scene.disk is None else read(scene.disk)
        return [] if value is None else [((), value)]

    return samples


def _of_snapshot(scene: Scene) -> Iterable[Sample]:
    snapshot = scene.figures.snapshot
    return [] if snapshot is None else [((), snapshot.size_bytes)]


METRICS: Final[tuple[Metric, ...]] = (
    Metric(
        "trioraft", "info", "What this is: always 1.", _info,
        ("node", "cluster", "uuid", "version"),
    ),
    Metric(
        "trioraft_server_ready", "gauge",
        "Whether this node is ready, as /readyz says (1) or not (0).", _one(_is_ready),
    ),
    Metric(
        "trioraft_server_check_ok", "gauge",
        "Whether each of the things is well that make a node ready.", _checks, ("check",),
    ),
    Metric(
        "trioraft_server_has_leader", "gauge", "Whether this node knows who leads.",
        _one(lambda scene: float(scene.figures.status.leader_id is not None)),
    ),
    Metric(
        "trioraft_server_is_leader", "gauge", "Whether this node leads.",
        _one(lambda scene: float(scene.figures.status.role is Role.LEADER)),
    ),
    Metric(
        "trioraft_server_role", "gauge", "1 for the role that this node has, 0 for all others.",
        _roles, ("role",),
    ),
    Metric(
        "trioraft_server_term", "gauge", "The current term.",
        _one(lambda scene: scene.figures.status.term),
    ),
    Metric(
        "trioraft_server_leader_changes_seen_total", "counter",
        "How often a leader of a new term came to be known here.",
        _one(lambda scene: scene.meter.leaders),
    ),
    Metric(
        "trioraft_server_role_changes_total", "counter",
        "Changes of this node's role, by the new one and why.", _role_changes, ("role", "reason"),
    ),
    Metric(
        "trioraft_server_elections_started_total", "counter",
        "Campaigns that this node began, pre-votes included, by why.", _elections, ("reason",),
    ),
    Metric(
        "trioraft_server_elections_won_total", "counter", "Elections that this node has won.",
        _one(_won),
    ),
    Metric(
        "trioraft_server_leaderships_lost_total", "counter",
        "How often this node ceased to lead, by why.", _lost, ("reason",),
    ),
    Metric(
        "trioraft_server_members", "gauge",
        "Members of the configuration that counts here, by kind.", _members, ("kind",),
    ),
    Metric(
        "trioraft_server_differing_members", "gauge",
        "On a leader: members whose results were others than its own. Anything but 0 is a bug, or "
        "damage.",
        _one(lambda scene: len(scene.figures.status.differing)),
    ),
    Metric(
        "trioraft_server_last_index", "gauge", "The last entry of this node's log.",
        _one(lambda scene: scene.figures.status.last_index),
    ),
    Metric(
        "trioraft_server_commit_index", "gauge", "The last entry known here to be committed.",
        _one(lambda scene: scene.figures.status.commit_index),
    ),
    Metric(
        "trioraft_server_applied_index", "gauge", "The last entry applied here.",
        _one(lambda scene: scene.figures.status.applied_index),
    ),
    Metric(
        "trioraft_server_log_entries", "gauge", "Entries that the log holds.",
        _one(lambda scene: scene.figures.status.last_index - scene.figures.base_index),
    ),
    Metric(
        "trioraft_server_proposals_taken_total", "counter",
        "Commands that callers brought to this node, and that it proposed or forwarded.",
        _one(lambda scene: scene.meter.taken),
    ),
    Metric(
        "trioraft_server_proposals_applied_total", "counter",
        "Of these, applied here, with a result or an error of their own.",
        _one(lambda scene: scene.meter.applied),
    ),
    Metric(
        "trioraft_server_proposals_failed_total", "counter",
        "Commands that certainly are not in the log, by why: refused, or dropped.", _failed,
        ("reason",),
    ),
    Metric(
        "trioraft_server_proposals_unknown_total", "counter",
        "Commands of which nobody could say whether they are applied.",
        _one(lambda scene: scene.meter.unknown),
    ),
    Metric(
        "trioraft_server_proposals_pending", "gauge",
        "Commands of this node's callers that have no outcome yet.",
        _one(lambda scene: scene.figures.pending),
    ),
    Metric(
        "trioraft_server_proposal_duration_seconds", "histogram",
        "From taking a command to its outcome.", _distribution(lambda meter: meter.outcome),
    ),
    Metric(
        "trioraft_server_commit_duration_seconds", "histogram",
        "On a leader: from an entry's append to its commit; once for each entry.",
        _distribution(lambda meter: meter.commit),
    ),
    Metric(
        "trioraft_server_apply_duration_seconds", "histogram",
        "A slice of up to 512 entries into the state machine: so long it held the event loop.",
        _distribution(lambda meter: meter.apply),
    ),
    Metric(
        "trioraft_server_read_barrier_duration_seconds", "histogram",
        "A linearizable read's wait until what was committed before is applied here.",
        _distribution(lambda meter: meter.read),
    ),
    Metric(
        "trioraft_server_sessions", "gauge", "Clients' sessions in the state machine.", _sessions,
    ),
    Metric(
        "trioraft_server_events_total", "counter",
        "Rare events, by kind; the log has each with its reason.", _events, ("event",),
    ),
    Metric(
        "trioraft_server_event_loop_lag_seconds", "histogram",
        "How late the node's event loop did what it was asked to do at once; asked each second.",
        None, read_own=lambda own: [((), own.lag)],
    ),
    Metric(
        "trioraft_server_event_loop_silent_seconds", "gauge",
        "For how long the node's event loop has not answered.",
        None, read_own=lambda own: [((), own.silent_s)],
    ),
    Metric(
        "trioraft_disk_wal_fsync_duration_seconds", "histogram",
        "A durable write of the log, sync included.", _distribution(lambda meter: meter.write),
    ),
    Metric(
        "trioraft_disk_full", "gauge",
        "Whether the last write found no room (or no descriptors, or threads) and is tried again.",
        _one(lambda scene: float(scene.figures.disk_is_full)),
    ),
    Metric(
        "trioraft_disk_write_waiting_seconds", "gauge",
        "For how long the write has waited that waits longest; 0: none does.",
        _one(lambda scene: scene.figures.disk_waits_s),
    ),
    Metric(
        "trioraft_disk_database_size_bytes", "gauge",
        "The log's database, its write-ahead log included.",
        _of_disk(lambda disk: disk.database_bytes),
    ),
    Metric(
        "trioraft_disk_snapshots_size_bytes", "gauge", "All snapshots that are stored.",
        _of_disk(lambda disk: disk.snapshots_bytes),
    ),
    Metric(
        "trioraft_disk_free_bytes", "gauge", "What the data directory's file system has left.",
        _of_disk(lambda disk: disk.free_bytes),
    ),
    Metric(
        "trioraft_disk_snapshot_size_bytes", "gauge", "The newest snapshot.", _of_snapshot,
    ),
    Metric(
        "trioraft_disk_snapshot_duration_seconds", "histogram",
        "Writing a snapshot of this node's own.", _distribution(lambda meter: meter.snapshot),
    ),
    Metric(
        "trioraft_disk_snapshot_saved_timestamp_seconds", "gauge",
        "When the newest snapshot was stored, in seconds since the epoch.",
        _of_disk(lambda disk: disk.snapshot_s),
    ),
    Metric(
        "trioraft_network_peer_connected", "gauge",
        "Whether this node's own connection to each other member is up.", _connected, ("peer",),
    ),
    Metric(
        "trioraft_network_peer_lag_entries", "gauge",
        "On a leader: entries that each other member is not known to have.", _lag, ("peer",),
    ),
    Metric(
        "trioraft_network_peer_state", "gauge",
        "On a leader: 1 for how each other member is sent entries, 0 for the other ways.", _states,
        ("peer", "state"),
    ),
    Metric(
        "trioraft_network_peer_contact_age_seconds", "gauge",
        "On a leader: how long ago each other member has answered.", _contacts, ("peer",),
    ),
    Metric(
        "trioraft_network_peer_round_trip_duration_seconds", "histogram",
        "On a leader: from a heartbeat's leaving to each other member's answer.", _round_trips,
        ("peer",),
    ),
    Metric(
        "trioraft_network_client_connections", "gauge",
        "Connections at the port for clients, by state.", _clients, ("state",),
    ),
    Metric(
        "trioraft_network_clients_turned_away_total", "counter",
        "Clients' connections that had to go, or were not looked at, because there were too many.",
        _of_service(lambda status: status.turned_away),
    ),
    Metric(
        "trioraft_network_clients_rejected_total", "counter",
        "Clients' connections that were refused or ended for what they did.",
        _of_service(lambda status: status.rejected),
    ),
    Metric(
        "trioraft_network_certificate_expiry_timestamp_seconds", "gauge",
        "When each port's certificates cannot be used any more, in seconds since the epoch.",
        _certificates, ("port",),
    ),
    Metric(
        "trioraft_server_queue_bytes", "gauge",
        "Bytes that wait, or are kept, by what they are bounded as.", _bounded("_bytes", 0),
        ("queue",),
    ),
    Metric(
        "trioraft_server_queue_limit_bytes", "gauge", "The bound on each of these.",
        _bounded("_bytes", 1), ("queue",),
    ),
    Metric(
        "trioraft_server_budget_used", "gauge", "What is used of each bound on a number.",
        _bounded("", 0), ("budget",),
    ),
    Metric(
        "trioraft_server_budget_limit", "gauge", "Each of these bounds.", _bounded("", 1),
        ("budget",),
    ),
    Metric(
        "trioraft_server_strangers_cpu_seconds", "gauge",
        "CPU time that connections cost lately before they said who they were, of what they may.",
        _bounded("_cpu_ms", 0, 1000.0), ("port",),
    ),
    Metric(
        "trioraft_server_strangers_cpu_limit_seconds", "gauge", "The bound on each of these.",
        _bounded("_cpu_ms", 1, 1000.0), ("port",),
    ),
    Metric(
        "trioraft_http_connections", "gauge", "Connections at the HTTP port.", None,
        read_own=lambda own: [((), own.connections)],
    ),
    Metric(
        "trioraft_http_connections_refused_total", "counter",
        "Connections that the HTTP port closed because there were too many.", None,
        read_own=lambda own: [((), own.refused)],
    ),
    Metric(
        "trioraft_http_answers_total", "counter", "Answers of the HTTP port.", None,
        ("path", "code"),
        read_own=lambda own: [((path, str(code)), n) for (path, code), n in own.answers.items()],
    ),
    Metric(
        "trioraft_http_paused_seconds_total", "counter",
        "For how long the HTTP port was held to its share of a processor.", None,
        read_own=lambda own: [((), own.paused_s)],
    ),
)  # fmt: skip
"""What is told, in the order of the docs."""


@final
class Metrics:
    """What one HTTP port tells, beside what Prometheus' client tells of any process."""

    content_type: Final = CONTENT_TYPE

    def __init__(self) -> None:
        self._scenes: tuple[Scene | None, OwnScene] | None = None
        self._registry = CollectorRegistry(auto_describe=False)
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        GCCollector(registry=self._registry)
        self._registry.register(self)

    def exposition(self, scene: Scene | None, own: OwnScene) -> bytes:
        """In Prometheus' text format.

        Args:
            scene: of the node; None: its event loop does not answer, so only what can be seen from
                outside is told.
            own: of the port.
        """
        self._scenes = scene, own
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Family]:
        """For the registry."""
        if self._scenes is None:
            return
        scene, own = self._scenes
        for metric in METRICS:
            if metric.read_own is not None:
                yield _family(metric, metric.read_own(own))
            elif metric.read is not None and scene is not None:
                yield _family(metric, metric.read(scene))


def _family(metric: Metric, samples: Iterable[Sample]) -> Family:
    name, told, labels = metric.name, metric.help, metric.labels
    match metric.kind:
        case "counter":
            counter = CounterMetricFamily(name, told, labels=labels)
            for values, value in samples:
                counter.add_metric(values, _number(value))
            return counter
        case "gauge":
            gauge = GaugeMetricFamily(name, told, labels=labels)
            for values, value in samples:
                gauge.add_metric(values, _number(value))
            return gauge
        case "info":
            info = InfoMetricFamily(name, told)
            for values, _ in samples:
                info.add_metric((), dict(zip(labels, values, strict=True)))
            return info
        case "histogram":
            histogram = HistogramMetricFamily(name, told, labels=labels)
            for values, value in samples:
                if isinstance(value, Distribution):
                    histogram.add_metric(values, value.cumulated(), value.sum_s)
            return histogram


def _number(value: float | Distribution) -> float:
    return math.nan if isinstance(value, Distribution) else float(value)


def _snake(name: str) -> str:
    """A type's name as a label's value."""
    found = "".join(f"_{each.lower()}" if each.isupper() else each for each in name)
    return found.lstrip("_")
