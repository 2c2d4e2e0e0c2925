"""Settings: where they come from, what wins, and every problem at once."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from benchmarks.processes import free_ports, shown
from trioraft.cli.serve.options import OPTIONS
from trioraft.cli.serve.preflight import prepare
from trioraft.cli.serve.run import open_log, suited_lines, who_may_what
from trioraft.cli.serve.settings import Settings, SettingsReader, gather
from trioraft.logs import RepeatFilter, configure
from trioraft.service.roles import Roles

SOUND: dict[str, Any] = {
    "id": "0",
    "listen": "127.0.0.1:7000",
    "client-listen": "127.0.0.1:8000",
    "peer": ["1=127.0.0.1:7001", "2=127.0.0.1:7002"],
    "data": "data",
}


def read(
    flags: Mapping[str, Any], environment: Mapping[str, str] | None = None
) -> tuple[Settings | None, list[str]]:
    problems: list[str] = []
    settings = SettingsReader(gather(flags, environment or {}, problems), problems).settings()
    return settings, problems


def sound(**changes: Any) -> Settings:
    settings, problems = read(
        SOUND | {name.replace("_", "-"): value for name, value in changes.items()}
    )
    assert problems == []
    assert settings is not None
    return settings


def only_problem(**changes: Any) -> str:
    settings, problems = read(
        SOUND | {name.replace("_", "-"): value for name, value in changes.items()}
    )
    assert settings is None
    assert len(problems) == 1, problems
    return problems[0]


# -- values --------------------------------------------------------------------------------


def test_the_least_that_is_needed() -> None:
    settings = sound()
    assert settings.id == "0"
    assert settings.peers == {"1": ("127.0.0.1", 7001), "2": ("127.0.0.1", 7002)}
    assert settings.voters == ("0", "1", "2")
    assert settings.data == Path("data").absolute()
    assert settings.timing.election_timeout_s == (0.15, 0.3)
    assert settings.limits.snapshot_bytes == 64 * 2**20
    assert settings.log_format == "console"


def test_every_value_arrives() -> None:
    settings = sound(
        election_timeout="1s-2s",
        heartbeat="200ms",
        fast_failover="false",
        lease_clock_drift_max="0.01",
        snapshot_entries="7",
        snapshot_bytes="1MiB",
        log_bytes_max="2GiB",
        command_bytes_max="1000000",
        client_connections_max="5",
        watch_changes="9",
        log_format="json",
        log_level="debug",
        cluster_id="mine",
        advertise="localhost:7000",
        create_data=True,
    )
    assert settings.timing.election_timeout_s == (1.0, 2.0)
    assert settings.timing.heartbeat_interval_s == 0.2
    assert not settings.timing.fast_failover
    assert settings.timing.lease_clock_drift_max == 0.01
    assert settings.limits.snapshot_entries == 7
    assert settings.limits.snapshot_bytes == 2**20
    assert settings.limits.command_bytes_max == 1_000_000
    assert (settings.log_bytes_max, settings.client_connections_max) == (2**31, 5)
    assert (settings.watch_changes, settings.log_format, settings.log_level) == (9, "json", "debug")
    assert (settings.cluster_id, settings.create_data) == ("mine", True)
    assert settings.advertise == ("localhost", 7000)


def test_a_joining_node_has_no_voters() -> None:
    assert sound(join=True).voters == ()
    assert sound(join=True, peer=[]).voters == ()


def test_all_nodes_may_share_one_list_of_peers() -> None:
    settings = sound(
        listen="0.0.0.0:7000", peer=["0=a:7000", "1=b:7000"], client_listen="0.0.0.0:8000",
        insecure=True,
    )  # fmt: skip
    assert settings.peers == {"1": ("b", 7000)}
    assert settings.voters == ("0", "1")
    assert settings.advertise == ("a", 7000)


def test_an_ipv6_address() -> None:
    assert sound(listen="[::1]:7000").listen == ("::1", 7000)


# -- sources -------------------------------------------------------------------------------


def file_with(tmp_path: Path, content: str) -> str:
    path = tmp_path / "node.toml"
    path.write_text(content, encoding="utf-8")
    return str(path)


def test_srv_records_say_where_peers_are(tmp_path: Path) -> None:
    peers = [f"{number}=srv+_node-{number}._tcp.example" for number in range(3)]
    settings = sound(peer=peers, insecure=True)
    assert settings.peers == {
        str(number): (f"srv+_node-{number}._tcp.example", 0) for number in (1, 2)
    }
    assert settings.advertise is None  # its own entry is for the others
    for wrong in ("1=srv+", "1=srv+_a._tcp.example:7000", "1=srv+ a"):
        assert "give srv+NAME without a port" in only_problem(peer=[wrong], insecure=True)
    for option in ("listen", "client_listen", "advertise", "client_advertise"):
        said = only_problem(**{option: "srv+_a._tcp.example"}, insecure=True)
        assert "give HOST:PORT" in said
    path = tmp_path / "node.toml"
    path.write_text('[peers]\n1 = "[::1]:7001"\n2 = "srv+_node-2._tcp.example"\n', encoding="utf-8")
    settings = sound(peer=None, config=str(path), insecure=True)
    assert settings.peers == {"1": ("::1", 7001), "2": ("srv+_node-2._tcp.example", 0)}


def test_everything_from_a_file(tmp_path: Path) -> None:
    config = file_with(
        tmp_path,
        """
        id = 0
        listen = "127.0.0.1:7000"
        client-listen = "127.0.0.1:8000"
        data = "data"
        create-data = true
        snapshot-entries = 500
        [peers]
        1 = "127.0.0.1:7001"
        """,
    )
    settings, problems = read({"config": config})
    assert problems == []
    assert settings is not None
    assert settings.id == "0"
    assert settings.create_data
    assert settings.limits.snapshot_entries == 500
    assert settings.peers == {"1": ("127.0.0.1", 7001)}


def test_everything_from_the_environment() -> None:
    settings, problems = read(
        {},
        {
            "TRIORAFT_ID": "0",
            "TRIORAFT_LISTEN": "127.0.0.1:7000",
            "TRIORAFT_CLIENT_LISTEN": "127.0.0.1:8000",
            "TRIORAFT_PEERS": "1=127.0.0.1:7001, 2=127.0.0.1:7002",
            "TRIORAFT_DATA": "data",
            "TRIORAFT_CREATE_DATA": "yes",
        },
    )
    assert problems == []
    assert settings is not None
    assert settings.voters == ("0", "1", "2")
    assert settings.create_data


def test_flags_win_over_environment_over_file(tmp_path: Path) -> None:
    config = file_with(tmp_path, 'cluster-id = "file"\nheartbeat = "40ms"\nwatch-changes = 7\n')
    environment = {"TRIORAFT_CLUSTER_ID": "environment", "TRIORAFT_HEARTBEAT": "30ms"}
    settings, _ = read(SOUND | {"config": config, "cluster-id": "flag"}, environment)
    assert settings is not None
    assert settings.cluster_id == "flag"
    assert settings.timing.heartbeat_interval_s == 0.03
    assert settings.watch_changes == 7


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    config = file_with(tmp_path, 'cluster-id = "file"\n')
    settings, _ = read(SOUND, {"TRIORAFT_CONFIG": config})
    assert settings is not None
    assert settings.cluster_id == "file"


def test_what_kubernetes_puts_into_the_environment_is_no_problem() -> None:
    links = {
        "TRIORAFT_SERVICE_HOST": "10.0.0.1",
        "TRIORAFT_SERVICE_PORT": "7000",
        "TRIORAFT_PORT": "tcp://10.0.0.1:7000",
        "TRIORAFT_PORT_7000_TCP_ADDR": "10.0.0.1",
        "TRIORAFT_CLIENT_SERVICE_HOST": "10.0.0.1",
        "TRIORAFT_ADDRESSES": "127.0.0.1:8000",
        "TRIORAFT_DEPLOYMENT_OWNER": "somebody",
    }
    assert read(SOUND, links)[1] == []


# -- problems ------------------------------------------------------------------------------


def test_every_problem_is_told_at_once() -> None:
    settings, problems = read(
        {
            "listen": "nowhere",
            "client-listen": "127.0.0.1:99999",
            "peer": ["1=127.0.0.1:7001", "1=127.0.0.1:7002", "2"],
            "heartbeat": "fast",
            "log-format": "xml",
        },
        {"TRIORAFT_CLUSTERID": "x", "TRIORAFT_SNAPSHOT_BYTES": "0"},
    )
    assert settings is None
    told = "\n".join(problems)
    for expected in (
        "TRIORAFT_CLUSTERID is no setting: did you mean TRIORAFT_CLUSTER_ID?",
        "id is missing: give it with --id NAME, TRIORAFT_ID or 'id' in the file",
        "--listen is 'nowhere': give HOST:PORT",
        "--client-listen is '127.0.0.1:99999': the port is '99999'",
        "--peer is '2': give ID=HOST:PORT",
        "--peer names node '1' twice, at 127.0.0.1:7001 and at 127.0.0.1:7002",
        "data is missing",
        "--heartbeat is 'fast': give a time with its unit",
        "TRIORAFT_SNAPSHOT_BYTES is '0': give a size",
        "--log-format is 'xml': give one of json, console, raftlog",
    ):
        assert expected in told
    assert len(problems) == 10


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"listen": "127.0.0.1"}, "--listen is '127.0.0.1': give HOST:PORT"),
        ({"listen": "::1:7000"}, "an IPv6 address in brackets"),
        ({"listen": ":7000"}, "give HOST:PORT"),
        ({"listen": "127.0.0.1:0"}, "the port is '0'"),
        ({"listen": "127.0.0.1:x"}, "the port is 'x'"),
        ({"listen": "http://127.0.0.1:7000"}, "give HOST:PORT"),
        ({"id": " "}, "--id is ' ': give a name"),
        ({"id": "1"}, "--peer puts node '1' at 127.0.0.1:7001, but that is this node"),
        ({"peer": ["1=127.0.0.1:7000"]}, "which is this node's own address"),
        ({"peer": ["1=127.0.0.1:8000"]}, "which is this node's own address"),
        ({"peer": ["1=127.0.0.1:7001", "2=127.0.0.1:7001"]}, "nodes '1' and '2' both at"),
        ({"client_listen": "127.0.0.1:7000"}, "both port 7000"),
        ({"heartbeat": "100ms"}, "timing: heartbeat_interval_s is 0.1 s"),
        ({"election_timeout": "300ms"}, "give two times"),
        ({"election_timeout": "300ms-150ms"}, "the lower bound is above the upper"),
        ({"lease_clock_drift_max": "0.1"}, "needs fast_failover=False"),
        ({"fast_failover": "perhaps"}, "give true or false"),
        ({"snapshot_entries": "0"}, "give a whole number of at least 1"),
        ({"command_bytes_max": "64MiB"}, "limits: "),
        ({"log_bytes_max": "1 GB"}, "give a size"),
        ({"data": ""}, "--data is '': give a path"),
        ({"tls_cert": "a.pem"}, "--tls-cert is not enough for TLS: give --tls-key and --tls-ca"),
        ({"client_tls_ca": "a.pem"}, "give --client-tls-cert and --client-tls-key"),
        ({"listen": "10.0.0.1:7000"}, "without TLS whoever reaches the port can pose as a node"),
        ({"peer": ["1=10.0.0.1:7000"]}, "--peer is 10.0.0.1:7000, beyond this machine"),
        ({"client_listen": "0.0.0.0:8000"}, "--client-tls-cert and --client-tls-key, or say"),
    ],
)
def test_each_problem_says_where_and_what(changes: dict[str, Any], said: str) -> None:
    assert said in only_problem(**changes)


def test_tls_and_insecure_let_it_leave_the_machine() -> None:
    far = {"listen": "10.0.0.1:7000", "client_listen": "10.0.0.1:8000", "peer": ["b=10.0.0.2:7000"]}
    assert sound(**far, insecure=True).tls is None
    files = {f"{prefix}_{name}": "x.pem" for prefix in ("tls", "client_tls") for name in
             ("cert", "key", "ca")}  # fmt: skip
    settings = sound(**far | {"id": "a"}, **files)
    assert settings.tls is not None
    assert settings.client_tls is not None


def test_an_id_that_no_certificate_can_bear() -> None:
    files = {"tls_cert": "x", "tls_key": "x", "tls_ca": "x"}
    assert "cannot be a DNS name" in only_problem(id="a b", **files)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('client_listen = "127.0.0.1:1"', "'client_listen' is no setting: did you mean 'client-l"),
        ("colour = 1", "'colour' is no setting; docs/serve.md lists them all"),
        ("peers = 7", "peers is 7: give a table"),
        ("heartbeat = [1]", "heartbeat is [1]: give one value"),
        ("heartbeat = 50", "heartbeat is '50': give a time with its unit"),
        ("what is this", "is not a TOML file"),
    ],
)
def test_problems_of_a_file_name_it(tmp_path: Path, content: str, said: str) -> None:
    problem = only_problem(config=file_with(tmp_path, content))
    assert said in problem
    assert "node.toml" in problem


def test_a_file_that_is_not_there() -> None:
    problem = only_problem(config="missing.toml")
    assert problem == "--config 'missing.toml' cannot be read: No such file or directory"


# -- docs ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", OPTIONS)
def test_the_documentation_lists_every_option(name: str) -> None:
    docs = Path(__file__).parents[2].joinpath("docs", "serve.md").read_text(encoding="utf-8")
    option = OPTIONS[name]
    rows = [line for line in docs.splitlines() if line.startswith(f"| `{option.flag}")]
    assert len(rows) == 1
    assert f"`{option.variable}`" in rows[0]
    if option.default is not None and option.kind == "one":
        assert f"`{option.default}`" in rows[0]


@pytest.mark.parametrize(
    ("log_format", "log_level", "is_spared"),
    [
        ("json", "info", True),
        ("console", "warning", True),
        ("raftlog", "info", False),
        ("json", "debug", False),
    ],
)
async def test_a_log_for_people_is_spared_repeats(
    log_format: str, log_level: str, is_spared: bool
) -> None:
    logger = configure("json")
    async with open_log(sound(log_format=log_format, log_level=log_level), logger) as log:
        assert isinstance(log, RepeatFilter) == is_spared


def test_it_says_for_which_lines_its_timing_is_good() -> None:
    said = suited_lines(sound(election_timeout="400ms-800ms", heartbeat="100ms").timing)
    assert said == (
        "election timeouts of 400-800 ms suit round trips of up to 100 ms, where nothing is lost"
    )
    assert "150-300 ms suit round trips of up to 37 ms" in suited_lines(sound().timing)


# -- roles ---------------------------------------------------------------------------------


def test_roles_spare_clients_a_certificate_and_are_read_before_anything_starts(
    tmp_path: Path,
) -> None:
    roles = tmp_path / "roles.toml"
    roles.write_text('[certificates.alice]\nrole = "admin"\n', encoding="utf-8")
    settings = sound(client_tls_cert="c.pem", client_tls_key="k.pem", client_roles=str(roles))
    assert settings.client_roles == roles
    assert settings.client_tls is not None
    assert settings.client_tls.authority is None
    problems: list[str] = []
    plain = sound(client_roles=str(roles), data=str(tmp_path), found_alone=None)
    assert prepare(plain, problems) is None
    assert any("names certificates, but no client shows one" in each for each in problems)
    roles.write_text("role", encoding="utf-8")
    problems.clear()
    assert prepare(plain, problems) is None
    assert any("is not a TOML file" in each for each in problems)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, "everybody on this machine may read, write and change the cluster"),
        (
            {"client_listen": "10.0.0.1:8000", "insecure": True},
            "everybody who reaches 10.0.0.1:8000 may",
        ),
        (
            {
                "client_tls_cert": "c.pem",
                "client_tls_key": "k.pem",
                "client_tls_ca": "/ca.pem",
            },
            "every certificate of --client-tls-ca '/ca.pem' may",
        ),
    ],
)
def test_a_start_says_who_may_do_what(changes: dict[str, Any], said: str) -> None:
    text = who_may_what(sound(**changes), None)
    assert said in text
    assert "give --client-roles to part them" in text


def test_a_start_with_roles_says_where_they_are(tmp_path: Path) -> None:
    path = tmp_path / "roles.toml"
    path.write_text('[certificates.alice]\nrole = "admin"\n', encoding="utf-8")
    assert who_may_what(sound(), Roles(path)).endswith(
        f"what their roles say: {path} (1 of certificates, 0 of tokens)"
    )


# -- HTTP ----------------------------------------------------------------------------------


def test_http_is_off_unless_it_is_asked_for() -> None:
    assert sound().http_listen is None
    assert sound(http_listen="127.0.0.1:9000").http_listen == ("127.0.0.1", 9000)
    assert sound(http_listen="localhost:9000").http_tls is None


def test_http_beyond_this_machine_needs_a_word_of_its_own_or_tls() -> None:
    problem = only_problem(http_listen="0.0.0.0:9000")
    assert problem.startswith("--http-listen is 0.0.0.0:9000, beyond this machine, and without TLS")
    assert "--http-insecure" in problem
    assert sound(http_listen="0.0.0.0:9000", http_insecure=True).http_insecure
    assert sound(http_listen="0.0.0.0:9000", insecure=True).http_listen is not None
    files = {"http_tls_cert": "a.pem", "http_tls_key": "a.key"}
    assert sound(http_listen="0.0.0.0:9000", **files).http_tls is not None
    assert "--http-tls-key as well" in only_problem(
        http_listen="127.0.0.1:9000", http_tls_cert="a.pem"
    )


def test_http_has_a_port_of_its_own() -> None:
    for port in (7000, 8000):
        problem = only_problem(http_listen=f"127.0.0.1:{port}")
        assert problem.endswith(f"and --http-listen are both port {port}: HTTP has one of its own")


def test_what_is_for_http_without_http_is_a_slip() -> None:
    problem = only_problem(http_insecure=True)
    assert problem == "--http-insecure is for --http-listen, which is not given"


def test_http_without_its_packages_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trioraft.http.port.find_spec", lambda name: None)
    with free_ports(3) as found:
        ports = [shown(address) for address in found]
    problems: list[str] = []
    settings = sound(
        listen=ports[0],
        client_listen=ports[1],
        http_listen=ports[2],
        data=str(tmp_path / "data"),
        create_data=True,
    )
    assert prepare(settings, problems) is None
    assert problems == [
        "--http-listen needs starlette, h11, prometheus_client; install it with: "
        "pip install 'trioraft[http]'"
    ]
