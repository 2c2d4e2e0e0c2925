"""The manifests in `deploy/`: they use documented options only, and what they start serves.

Rules of this file: a container becomes a process on the loopback. Host names become 127.0.0.1,
ports free ones, and what is mounted directories and files; nothing else of what the manifest says
is changed. Certificates are made with the commands that the manifests and the docs give.
"""

from __future__ import annotations

import json
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from http.client import HTTPSConnection
from pathlib import Path
from typing import Any

import attrs
import pytest
import yaml

from benchmarks.processes import ServerProcess, free_ports, shown
from tests.serve.commands import lines, run
from trioraft.cli.serve.options import OPTIONS
from trioraft.cli.serve.settings import SettingsReader, gather
from trioraft.net.addresses import is_loopback
from trioraft.service.roles import ClientRole, Credentials, Roles

HTTP_PORT = 9000
DEPLOY = Path(__file__).parents[2] / "deploy"


@attrs.frozen
class Probe:
    """How somebody looks whether it is well."""

    command: tuple[str, ...] = ()
    """In the container; or else"""
    path: str = ""
    """of a GET over HTTPS, whatever certificate is shown."""


@attrs.frozen
class Container:
    """What a manifest starts once."""

    name: str
    command: tuple[str, ...]
    """After `trioraft`, the image's entry point."""
    environment: dict[str, str]
    probes: tuple[Probe, ...]
    volume: str
    mounts: dict[str, str]
    """What else is mounted: by its path in the container, where it comes from."""


def of_compose() -> list[Container]:
    content = yaml.safe_load(DEPLOY.joinpath("compose.yaml").read_text(encoding="utf-8"))
    containers = []
    for name, service in content["services"].items():
        kind, *probe = service["healthcheck"]["test"]
        assert kind == "CMD"
        volume, *others = service["volumes"]
        assert volume.partition(":")[0] in content["volumes"]
        mounts = {}
        for each in others:
            source, target, mode = each.split(":")
            assert mode == "ro"
            mounts[target] = source
        containers.append(
            Container(
                name,
                tuple(service["command"]),
                service["environment"],
                (Probe(tuple(word.replace("$$", "$") for word in probe)),),
                volume.partition(":")[2],
                mounts,
            )
        )
    return containers


def documents() -> dict[str, dict[str, Any]]:
    found = yaml.safe_load_all(DEPLOY.joinpath("statefulset.yaml").read_text(encoding="utf-8"))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def _of_kubernetes(probe: dict[str, Any], container: dict[str, Any]) -> Probe:
    asks = probe["httpGet"]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    assert asks["scheme"] == "HTTPS"
    assert ports[asks["port"]] == HTTP_PORT
    return Probe(path=asks["path"])


def of_statefulset() -> list[Container]:
    stateful = documents()["StatefulSet/trioraft"]
    (container,) = stateful["spec"]["template"]["spec"]["containers"]
    probes = [container[f"{kind}Probe"] for kind in ("startup", "liveness", "readiness")]
    (mount,) = (each for each in container["volumeMounts"] if each["name"] == "data")
    containers = []
    for number in range(stateful["spec"]["replicas"]):
        pod = f"{stateful['metadata']['name']}-{number}"
        environment = {
            each["name"]: each.get("value", pod).replace("$(TRIORAFT_ID)", pod)
            for each in container["env"]
        }
        containers.append(
            Container(
                pod,
                tuple(container["args"]),
                environment,
                tuple(_of_kubernetes(probe, container) for probe in probes),
                mount["mountPath"],
                {"/run/secrets/trioraft": "secret"},
            )
        )
    return containers


MANIFESTS = {"compose": of_compose, "statefulset": of_statefulset}


# -- what they say -------------------------------------------------------------------------


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_only_documented_options_are_used(manifest: str) -> None:
    docs = Path(__file__).parents[2].joinpath("docs", "serve.md").read_text(encoding="utf-8")
    variables = {option.variable for option in OPTIONS.values()}
    for container in MANIFESTS[manifest]():
        assert set(container.environment) <= variables
        for word in container.command:
            if word.startswith("--"):
                assert f"`{word}" in docs or f" {word} " in docs, word
        for probe in container.probes:
            asked = probe.path or " ".join(probe.command)
            assert "/livez" in asked or "/readyz" in asked
            assert "trioraft" not in probe.command, "a Python process each time"


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_the_servers_form_one_cluster(manifest: str) -> None:
    voters = set()
    for container in MANIFESTS[manifest]():
        problems: list[str] = []
        given = gather(flags_of(container.command), container.environment, problems)
        settings = SettingsReader(given, problems).settings()
        assert problems == []
        assert settings is not None
        assert str(settings.data).startswith(container.volume)
        assert settings.advertise is not None
        voters.add(settings.voters)
        if container.environment.get("TRIORAFT_CLIENT_PEERS") is not None:
            assert settings.client_advertise is not None  # told to the others, too
    assert len(voters) == 1
    assert len(voters.pop()) == 3


def test_the_statefulset_fits_its_services() -> None:
    found = documents()
    stateful = found["StatefulSet/trioraft"]["spec"]
    peers = found[f"Service/{stateful['serviceName']}"]["spec"]
    assert peers["clusterIP"] == "None"
    assert peers["publishNotReadyAddresses"]
    labels = stateful["template"]["metadata"]["labels"]
    assert labels == stateful["selector"]["matchLabels"] == peers["selector"]
    ports = {
        port["containerPort"] for port in stateful["template"]["spec"]["containers"][0]["ports"]
    }
    clients = found["Service/trioraft"]["spec"]
    assert clients["clusterIP"] == "None", "its name leads to all members"
    assert {port["port"] for port in [*peers["ports"], *clients["ports"]]} == ports - {HTTP_PORT}
    for pod in of_statefulset():
        for entry in pod.environment["TRIORAFT_PEERS"].split():
            name, _, address = entry.rstrip(",").partition("=")
            assert address == f"{name}.{stateful['serviceName']}:7000"


# -- how little they may -------------------------------------------------------------------


def test_compose_gives_its_containers_nothing_they_do_not_need() -> None:
    content = yaml.safe_load(DEPLOY.joinpath("compose.yaml").read_text(encoding="utf-8"))
    for service in content["services"].values():
        assert service["user"] == "1000:1000"
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert [each.partition(":")[0] for each in service["tmpfs"]] == ["/tmp"]  # noqa: S108 - the container's
        assert {"pids_limit", "mem_limit", "cpus"} <= service.keys()
        assert service["networks"] == ["cluster"]
        assert "privileged" not in service
        assert all(port.startswith("127.0.0.1:") for port in service["ports"])


def pod() -> dict[str, Any]:
    found: dict[str, Any] = documents()["StatefulSet/trioraft"]["spec"]["template"]["spec"]
    return found


def test_a_pod_has_no_privileges_and_writes_to_its_volume_only() -> None:
    (container,) = pod()["containers"]
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    whole = pod()["securityContext"]
    assert whole["runAsNonRoot"] is True
    assert whole["runAsUser"] == whole["runAsGroup"] == whole["fsGroup"] == 1000
    assert whole["fsGroupChangePolicy"] == "OnRootMismatch", "the node's directory stays 0700"
    assert whole["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod()["automountServiceAccountToken"] is False
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}
    assert "memory" in container["resources"]["limits"]
    environment = {each["name"]: each.get("value") for each in container["env"]}
    mounts = {each["name"]: each for each in container["volumeMounts"]}
    data = mounts["data"]["mountPath"]
    assert environment["TRIORAFT_DATA"].startswith(f"{data}/"), "below the volume's root"
    assert mounts.keys() == {"data", "secrets", "tmp"}


def test_secrets_are_files_that_only_the_server_reads() -> None:
    (container,) = pod()["containers"]
    volumes = {each["name"]: each for each in pod()["volumes"]}
    assert volumes["secrets"]["secret"]["defaultMode"] == 0o400
    assert all(each["readOnly"] for each in container["volumeMounts"] if each["name"] == "secrets")
    assert volumes["tmp"]["emptyDir"].keys() == {"medium", "sizeLimit"}
    secret = ("KEY", "TOKEN", "PASSWORD", "SECRET")
    for each in container["env"]:
        if any(word in each["name"] for word in secret):
            assert each["value"].startswith("/run/secrets/trioraft/"), "the file, not what it holds"


def test_members_are_apart_and_leave_one_at_a_time() -> None:
    labels = {"matchLabels": {"app": "trioraft"}}
    (apart,) = pod()["affinity"]["podAntiAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]
    assert apart == {"topologyKey": "kubernetes.io/hostname", "labelSelector": labels}
    (spread,) = pod()["topologySpreadConstraints"]
    assert spread["labelSelector"] == labels
    assert spread["topologyKey"] == "topology.kubernetes.io/zone"
    budget = documents()["PodDisruptionBudget/trioraft"]["spec"]
    assert budget == {"maxUnavailable": 1, "selector": labels}
    assert pod()["terminationGracePeriodSeconds"] >= 10


def test_only_members_reach_the_peers_port() -> None:
    policy = documents()["NetworkPolicy/trioraft"]["spec"]
    assert policy["podSelector"] == {"matchLabels": {"app": "trioraft"}}
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    allowed = {}
    for rule in policy["ingress"]:
        (port,) = rule["ports"]
        (source,) = rule["from"]
        allowed[port["port"]] = source["podSelector"]["matchLabels"]
    assert allowed == {
        7000: {"app": "trioraft"},
        8000: {"trioraft-client": "true"},
        HTTP_PORT: {"trioraft-metrics": "true"},
    }
    assert {port["port"] for rule in policy["egress"] for port in rule["ports"]} == {7000, 53}


def test_the_image_has_what_was_installed_and_nothing_else() -> None:
    ignored = DEPLOY.parent.joinpath(".dockerignore").read_text(encoding="utf-8").split("\n")
    assert ignored[1] == "*", "what is not named is left out: .git, and whatever lies around"
    taken = {line[1:] for line in ignored if line.startswith("!")}
    steps = DEPLOY.joinpath("Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = set()
    for line in steps.splitlines():
        word, _, rest = line.partition(" ")
        if word in ("COPY", "ADD") and not rest.startswith("--from=build "):
            copied.update(rest.split()[:-1])
    assert copied == taken
    assert all(DEPLOY.parent.joinpath(name).exists() for name in copied)
    packages = re.search(r"^packages = \[(.*)\]", _project_text(), re.MULTILINE)
    assert packages is not None
    for package in re.findall(r'"(.*?)"', packages[1]):
        assert any(package == each or package.startswith(f"{each}/") for each in copied)
    assert re.search(r"^ARG BASE=python:3\.\d+-slim-\w+$", steps, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", steps, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert "\nUSER 1000:1000\n" in steps


def _project_text() -> str:
    return DEPLOY.parent.joinpath("pyproject.toml").read_text(encoding="utf-8")


COMPOSE_CERTS = re.compile(r"^#   (trioraft certs .*?\n#     --node .*)$", re.MULTILINE)
DOCS_CERTS = re.compile(r"```bash\n(?:# [^\n]*\n)?(trioraft certs certs .*?)```", re.DOTALL)


def make_certificates(directory: Path) -> None:
    """As the manifest of compose and the docs say, in a directory with the files of `deploy`."""
    docs = DEPLOY.parent.joinpath("docs", "serve.md").read_text(encoding="utf-8")
    compose = DEPLOY.joinpath("compose.yaml").read_text(encoding="utf-8")
    for text, commands in ((compose, COMPOSE_CERTS), (docs, DOCS_CERTS)):
        found = commands.search(text)
        assert found is not None
        lines_ = found[1].replace("\n#    ", "\n").splitlines()
        script = "\n".join(line for line in lines_ if not line.startswith("kubectl "))
        command = f'trioraft() {{ {sys.executable} -m trioraft "$@"; }}; set -e\n{script}'
        subprocess.run(["bash", "-c", command], cwd=directory, check=True, capture_output=True)


def test_the_docs_certificates_are_those_that_are_mounted(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    make_certificates(tmp_path)
    for container in of_statefulset():
        for value in container.environment.values():
            if value.startswith("/run/secrets/"):
                assert (tmp_path / "secret" / value.rpartition("/")[2]).exists()
    assert Roles(DEPLOY / "roles.toml").has_certificates


@pytest.mark.parametrize("manifest", MANIFESTS)
def test_nothing_is_plain_and_clients_have_roles(manifest: str) -> None:
    for container in MANIFESTS[manifest]():
        assert "TRIORAFT_INSECURE" not in container.environment
        given = {name.removeprefix("TRIORAFT_") for name in container.environment}
        ports = {
            f"{port}_{file}" for port in ("TLS", "CLIENT_TLS") for file in ("CERT", "KEY", "CA")
        }
        assert ports | {"TLS_PEER_NAMES", "INVITE_KEY", "CLIENT_ROLES"} <= given
        host = container.environment["TRIORAFT_HTTP_LISTEN"].partition(":")[0]
        assert is_loopback(host) or {"HTTP_TLS_CERT", "HTTP_TLS_KEY"} <= given


def flags_of(command: tuple[str, ...]) -> dict[str, str]:
    assert command[0] == "serve"
    words = command[1:]
    assert all(word.startswith("--") for word in words[::2])
    return {flag[2:]: value for flag, value in zip(words[::2], words[1::2], strict=True)}


# -- what they start -----------------------------------------------------------------------


class Adapted:
    """A manifest's containers as processes of this machine."""

    def __init__(self, containers: list[Container], directory: Path) -> None:
        self.containers = containers
        self.directory = directory
        shutil.copytree(DEPLOY, directory / "deploy")
        make_certificates(directory)
        ids = [self._id_of(container) for container in containers]
        with free_ports(3 * len(ids)) as addresses:
            self.peers_at = dict(zip(ids, addresses[: len(ids)], strict=True))
            self.clients_at = dict(zip(ids, addresses[len(ids) : 2 * len(ids)], strict=True))
            self.http_at = dict(zip(ids, addresses[2 * len(ids) :], strict=True))
        self.servers = []
        for container in containers:
            volume = directory / f"volume-{container.name}"
            volume.mkdir()
            self.servers.append(
                ServerProcess(
                    container.command[1:],
                    directory / f"{container.name}.log",
                    container.name,
                    self._environment(container, volume),
                )
            )

    @staticmethod
    def _id_of(container: Container) -> str:
        return flags_of(container.command).get("id") or container.environment["TRIORAFT_ID"]

    def _environment(self, container: Container, volume: Path) -> dict[str, str]:
        node_id = self._id_of(container)
        environment = dict(container.environment)
        for name, table in (("PEERS", self.peers_at), ("CLIENT_PEERS", self.clients_at)):
            text = environment.get(f"TRIORAFT_{name}")
            if text is None:
                continue
            for peer, address in table.items():
                text, count = re.subn(rf"\b{peer}=[^,\s]+", f"{peer}={shown(address)}", text)
                assert count == 1
            environment[f"TRIORAFT_{name}"] = text
        environment["TRIORAFT_LISTEN"] = f"0.0.0.0:{self.peers_at[node_id][1]}"
        environment["TRIORAFT_CLIENT_LISTEN"] = f"0.0.0.0:{self.clients_at[node_id][1]}"
        host = environment["TRIORAFT_HTTP_LISTEN"].partition(":")[0]
        environment["TRIORAFT_HTTP_LISTEN"] = f"{host}:{self.http_at[node_id][1]}"
        environment["TRIORAFT_DATA"] = environment["TRIORAFT_DATA"].replace(
            container.volume, str(volume), 1
        )
        return {name: self.mounted(container, text) for name, text in environment.items()}

    def mounted(self, container: Container, text: str) -> str:
        """A path in the container, or something else; on this machine."""
        for target, source in container.mounts.items():
            if text == target or text.startswith(f"{target}/"):
                root = self.directory / ("deploy" if source.startswith("./") else "")
                return str(root / source) + text.removeprefix(target)
        return text

    def credentials(self, container: Container) -> list[str]:
        """Of a client that may read and write."""
        ca = self.mounted(container, container.environment["TRIORAFT_CLIENT_TLS_CA"])
        certs = self.directory / (
            "certs" if "secret" in container.mounts.values() else "deploy/certs"
        )
        own = certs / "clients" / "app-1"
        return ["--ca", ca, "--cert", f"{own}.pem", "--key", f"{own}.key"]

    def probe(self, container: Container, probe: Probe) -> bool:
        """Whether a probe of this container finds it well."""
        host, port = self.http_at[self._id_of(container)]
        if probe.command:
            words = [
                word.replace(f"/127.0.0.1/{HTTP_PORT} ", f"/{host}/{port} ")
                for word in probe.command
            ]
            return subprocess.run(words, check=False, capture_output=True).returncode == 0
        unchecked = ssl.create_default_context()
        unchecked.check_hostname, unchecked.verify_mode = (
            False,
            ssl.CERT_NONE,
        )  # as the kubelet does
        connection = HTTPSConnection(host, port, timeout=60.0, context=unchecked)
        try:
            connection.request("GET", probe.path)
            return connection.getresponse().status == 200
        except ConnectionRefusedError:
            return False
        finally:
            connection.close()


@pytest.fixture(params=MANIFESTS)
def adapted(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Adapted]:
    adapted = Adapted(MANIFESTS[request.param](), tmp_path)
    try:
        yield adapted
    finally:
        for server in adapted.servers:
            server.kill()


def test_what_is_started_serves_and_its_probes_agree(adapted: Adapted) -> None:
    """All three: a new cluster forms once they have met."""
    containers, servers = adapted.containers, adapted.servers
    container = containers[0]
    assert not adapted.probe(container, container.probes[0])
    for server in servers:
        server.start()
    for server in servers:
        server.wait_ready()
    address = shown(adapted.clients_at[adapted._id_of(container)])
    shows = adapted.credentials(container)
    lines(run("kv", "put", "k", "v", "--address", address, *shows))  # waits for a leader
    status = run("admin", "status", "--json", "--address", address, *shows)
    told = json.loads(status.stdout)["servers"]
    assert set(told) == {shown(each) for each in adapted.clients_at.values()}  # by one of them
    for container in containers:
        for probe in container.probes:
            assert adapted.probe(container, probe)
    assert lines(run("kv", "get", "k", "--address", address, *shows)) == ["v"]
    assert run("kv", "get", "k", "--address", address).exit_code != 0, "plain TCP"
    nameless = run("kv", "get", "k", "--address", address, *shows[:2])
    assert "it shows no certificate and no token" in nameless.stderr
    if "secret" in container.mounts.values():
        is_backed_up(adapted, container, address)
    for server in servers:
        server.signal(signal.SIGTERM)
    assert [server.wait() for server in servers] == [0, 0, 0]


def is_backed_up(adapted: Adapted, server: Container, address: str) -> None:
    """As the CronJob does it, by its own certificate, which opens nothing else."""
    job = of_cronjob()["CronJob/trioraft-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = job["containers"]
    environment = {
        each["name"]: adapted.mounted(server, each["value"]) for each in container["env"]
    }
    environment["TRIORAFT_ADDRESSES"] = address
    backups = adapted.directory / "backups"
    backups.mkdir()
    words = [str(backups) if word == "/backups" else word for word in container["args"]]
    assert run(*words, env=environment).exit_code == 0
    (path,) = backups.iterdir()
    assert run("restore", str(path), "--verify").exit_code == 0
    for other in (("kv", "get", "k"), ("kv", "put", "k", "v"), ("admin", "snapshot")):
        assert run(*other, env=environment).exit_code == 1


# -- backups -------------------------------------------------------------------------------


def of_cronjob() -> dict[str, Any]:
    found = yaml.safe_load_all(DEPLOY.joinpath("backup.yaml").read_text(encoding="utf-8"))
    return {f"{each['kind']}/{each['metadata']['name']}": each for each in found}


def options_of_the_unit() -> list[str]:
    text = DEPLOY.joinpath("systemd", "trioraft-backup.service").read_text(encoding="utf-8")
    (line,) = re.findall(r"^ExecStart=trioraft (.*)$", text, re.MULTILINE)
    return str(line).split()


def test_scheduled_backups_use_options_that_there_are() -> None:
    help = run("backup", "--help").stdout
    job = of_cronjob()["CronJob/trioraft-backup"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = job["containers"]
    for words in (container["args"], options_of_the_unit()):
        assert words[0] == "backup"
        assert {"-o", "--keep"} <= set(words)
        assert all(f"{word} " in help or f"{word}," in help for word in words if word[:1] == "-")
    unit = options_of_the_unit()
    text = DEPLOY.joinpath("systemd", "trioraft-backup.service").read_text(encoding="utf-8")
    assert unit[unit.index("-o") + 1] == "/var/lib/trioraft-backup"
    assert "\nStateDirectory=trioraft-backup\n" in text
    mounts = {each["name"]: each["mountPath"] for each in container["volumeMounts"]}
    assert container["args"][container["args"].index("-o") + 1] == mounts["backups"]


def test_a_scheduled_backup_is_a_client_that_may_do_nothing_else() -> None:
    permission = Roles(DEPLOY / "roles.toml").permission_of(Credentials(("backup",)))
    assert permission.grant.may_back_up
    assert (permission.grant.role, permission.grant.prefixes) == (ClientRole.READ, ())
    job = of_cronjob()["CronJob/trioraft-backup"]["spec"]
    assert job["concurrencyPolicy"] == "Forbid"
    template = job["jobTemplate"]["spec"]["template"]
    assert template["metadata"]["labels"]["trioraft-client"] == "true"
    (container,) = template["spec"]["containers"]
    (server,) = pod()["containers"]
    assert container["securityContext"] == server["securityContext"]
    assert template["spec"]["securityContext"] == pod()["securityContext"]
    assert template["spec"]["automountServiceAccountToken"] is False
    (secret,) = (each["secret"] for each in template["spec"]["volumes"] if "secret" in each)
    keys = {each["path"] for each in secret["items"]}
    used = {each["value"] for each in container["env"] if "/run/secrets/" in each["value"]}
    assert {value.rpartition("/")[2] for value in used} == keys
    claim = of_cronjob()["PersistentVolumeClaim/trioraft-backups"]
    assert claim["spec"]["accessModes"] == ["ReadWriteOnce"]


def test_its_certificate_is_among_those_of_the_docs(tmp_path: Path) -> None:
    shutil.copytree(DEPLOY, tmp_path / "deploy")
    make_certificates(tmp_path)
    assert {"backup.pem", "backup.key"} <= {each.name for each in (tmp_path / "secret").iterdir()}
