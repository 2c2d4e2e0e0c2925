"""The options of `trioraft serve`: one table, for the command line, the environment and the file.

Rules of this file:

* An option has one name, as `client-listen`. It is `--client-listen` on the command line,
  `TRIORAFT_CLIENT_LISTEN` in the environment, and `client-listen = "…"` in a TOML file.
* Its value is text everywhere, with one parser; a file may also say numbers and true or false.
* docs/serve.md lists the same table; a test compares.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

import attrs

from .. import values
from ..values import Parser

ENVIRONMENT_PREFIX: Final = "TRIORAFT_"

Kind: TypeAlias = Literal["one", "flag", "many"]
"""Said once with a value; said without one; said any number of times, as ID=HOST:PORT."""


@attrs.frozen
class Option:
    """One thing that can be set."""

    name: str
    parse: Parser
    metavar: str
    help: str
    group: str
    kind: Kind = "one"
    default: str | None = None
    """As it would be given; None: there is none."""
    required: bool = False

    @property
    def field(self) -> str:
        """Its name in `Settings`."""
        return self.name.replace("-", "_")

    @property
    def flag(self) -> str:
        """Its name on the command line."""
        return f"--{self.name}"

    @property
    def variable(self) -> str:
        """Its name in the environment."""
        return ENVIRONMENT_PREFIX + self.field.upper() + ("S" if self.kind == "many" else "")

    @property
    def key(self) -> str:
        """Its name in a file."""
        return self.name + ("s" if self.kind == "many" else "")


_NODE: Final = "Who and where"
_TLS: Final = "TLS"
_TIMING: Final = "Timing"
_LIMITS: Final = "Limits"
_LOG: Final = "Log"

_PARSED: Final = (
    Option(
        "id", values.parse_name, "NAME", "This node's name, unique in its cluster.", _NODE,
        required=True,
    ),
    Option(
        "listen", values.parse_address, "HOST:PORT", "Where the other nodes connect to this one.",
        _NODE, required=True,
    ),
    Option(
        "client-listen", values.parse_address, "HOST:PORT",
        "Where clients connect; never the peers' port.", _NODE, required=True,
    ),
    Option(
        "peer", values.parse_named_seed, "ID=HOST:PORT",
        "Another node, and where it is reached; once for each. All nodes of a new cluster are "
        "given the same ones. This node's own may be among them. A host may be a name, all of "
        "whose addresses are tried; ID=srv+NAME stands for SRV records.", _NODE, kind="many",
    ),
    Option(
        "client-peer", values.parse_peer, "ID=HOST:PORT",
        "Where clients reach another node, if it does not say so itself by its --client-advertise "
        "or --client-listen; once for each. Told to clients.", _NODE, kind="many",
    ),
    Option(
        "data", values.parse_path, "DIR",
        "This node's data directory. It must exist: a volume that is not mounted must not look "
        "like a new node.", _NODE, required=True,
    ),
    Option(
        "create-data", values.parse_bool, "", "Create the data directory if it is missing.", _NODE,
        kind="flag", default="false",
    ),
    Option(
        "join", values.parse_bool, "",
        "Join a cluster that runs: wait until `trioraft admin add-learner` adds this node. Ignored "
        "once it was added.", _NODE, kind="flag", default="false",
    ),
    Option(
        "found-alone", values.parse_bool, "",
        "Found a new cluster of this node alone, which takes others later. Only at its first "
        "start, never in a unit file: with an emptied directory it would found another one.", _NODE,
        kind="flag", default="false",
    ),
    Option(
        "cluster-id", values.parse_name, "NAME", "Nodes and clients of another name are refused.",
        _NODE, default="trioraft",
    ),
    Option(
        "advertise", values.parse_address, "HOST:PORT",
        "Where the other nodes reach this one, if not at --listen.", _NODE,
    ),
    Option(
        "client-advertise", values.parse_address, "HOST:PORT",
        "Where clients reach this node, if not at --client-listen.", _NODE,
    ),
    Option(
        "http-listen", values.parse_address, "HOST:PORT",
        "Where to serve probes and metrics over HTTP: /livez, /readyz, /metrics "
        "(pip install 'trioraft[http]'). Default: nowhere.", _NODE,
    ),
    Option(
        "insecure", values.parse_bool, "",
        "Allow plain TCP beyond this machine: whoever reaches a port can vote, read and write.",
        _TLS, kind="flag", default="false",
    ),
    Option(
        "tls-cert", values.parse_path, "FILE",
        "This node's certificate (PEM) for peers; it bears the node's id as a DNS name, and is "
        "made for serverAuth and clientAuth.", _TLS,
    ),
    Option("tls-key", values.parse_path, "FILE", "Its private key.", _TLS),
    Option(
        "tls-ca", values.parse_path, "FILE", "Who must have signed the other nodes' certificates.",
        _TLS,
    ),
    Option(
        "tls-peer-names", values.parse_peer_names, "NAMES",
        "Names that peers have, with commas; * stands for anything within one label. Others need "
        "an invitation. Default: any name that --tls-ca has signed in a peer's certificate.", _TLS,
    ),
    Option(
        "invite-key", values.parse_path, "FILE",
        "The cluster's invitation key, 16 bytes or more, the same on all members: with it, "
        "`trioraft admin invite` writes invitations and this node takes them.", _TLS,
    ),
    Option(
        "invitation", values.parse_path, "FILE",
        "What `trioraft admin invite` wrote for this node, to join with.", _TLS,
    ),
    Option(
        "client-tls-cert", values.parse_path, "FILE",
        "The certificate (PEM) that clients are shown.", _TLS,
    ),
    Option("client-tls-key", values.parse_path, "FILE", "Its private key.", _TLS),
    Option(
        "client-tls-ca", values.parse_path, "FILE",
        "Who must have signed the clients' certificates; needed unless --insecure or "
        "--client-roles.", _TLS,
    ),
    Option(
        "client-roles", values.parse_path, "FILE",
        "Which clients may read, write and change the cluster (TOML): by the names in their "
        "certificates, or by tokens. Without it, all that get in may do everything.", _TLS,
    ),
    Option(
        "http-insecure", values.parse_bool, "",
        "Allow plain HTTP beyond this machine at --http-listen: whoever reaches that port can read "
        "this node's metrics and watch its cluster's live page, and change nothing.", _TLS,
        kind="flag", default="false",
    ),
    Option(
        "http-tls-cert", values.parse_path, "FILE",
        "The certificate (PEM) that is shown at --http-listen.", _TLS,
    ),
    Option("http-tls-key", values.parse_path, "FILE", "Its private key.", _TLS),
    Option(
        "http-tls-ca", values.parse_path, "FILE",
        "Who must have signed the certificates of those who ask at --http-listen; without it, "
        "nobody need show one.", _TLS,
    ),
    Option(
        "election-timeout", values.parse_duration_range_s, "LOW-HIGH",
        "How long a node waits for its leader, drawn from this range; the same on every node.",
        _TIMING, default="150ms-300ms",
    ),
    Option(
        "heartbeat", values.parse_duration_s, "TIME",
        "How often a leader is heard; at most half of the lower election timeout.", _TIMING,
        default="50ms",
    ),
    Option(
        "fast-failover", values.parse_bool, "true|false",
        "Whether a closed connection to the leader brings an election forward.", _TIMING,
        default="true",
    ),
    Option(
        "lease-clock-drift-max", values.parse_fraction, "FRACTION",
        "Allow lease reads if the nodes' clocks part by no more than this; needs "
        "--fast-failover false.", _TIMING,
    ),
    Option(
        "snapshot-entries", values.parse_count, "COUNT",
        "Commands after which a snapshot is taken.", _LIMITS, default="100000",
    ),
    Option(
        "snapshot-bytes", values.parse_bytes, "SIZE",
        "Bytes of commands after which a snapshot is taken.", _LIMITS, default="64MiB",
    ),
    Option(
        "log-bytes-max", values.parse_bytes, "SIZE",
        "Bound on the log's file; by default as much as the disk has.", _LIMITS,
    ),
    Option(
        "command-bytes-max", values.parse_bytes, "SIZE",
        "Largest command; the same on every node.", _LIMITS, default="8MiB",
    ),
    Option(
        "client-connections-max", values.parse_count, "COUNT",
        "Clients that may be connected at the same time: for one more, the one that was idle "
        "longest goes. By default 1024, or as many as this process may have descriptors for.",
        _LIMITS,
    ),
    Option(
        "watch-changes", values.parse_count, "COUNT",
        "Latest changes that are kept for `trioraft kv watch --from`.", _LIMITS, default="10000",
    ),
    Option(
        "log-format", values.parse_format, "json|console|raftlog",
        "What the log on standard error looks like.", _LOG, default="console",
    ),
    Option(
        "log-level", values.parse_level, "LEVEL",
        "Least level that is logged: debug, info, warning, error or critical.", _LOG,
        default="info",
    ),
    # Not "trace": opentelemetry-instrument takes that for an abbreviation of an option of its own.
    Option(
        "tracing", values.parse_bool, "",
        "Give what traced clients ask for to OpenTelemetry, as spans; start it by "
        "opentelemetry-instrument, which brings the exporter.", _LOG, kind="flag", default="false",
    ),
)  # fmt: skip

OPTIONS: Final[dict[str, Option]] = {option.name: option for option in _PARSED}
"""Every option but --config, by name."""

CONFIG_FLAG: Final = "--config"
CONFIG_VARIABLE: Final = ENVIRONMENT_PREFIX + "CONFIG"
