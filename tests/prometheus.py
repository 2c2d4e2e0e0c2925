"""A real Prometheus over a real cluster: `python -m tests.prometheus`.

Three servers with HTTP ports over TLS, some work, and Prometheus with the scrape job of
deploy/prometheus, but for the addresses: it must find all three, have loaded every alert, and each
query of each panel of deploy/grafana/trioraft.json must return data. The exit code says whether it
is so; where Prometheus is not installed it says that, with code 0.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode
from urllib.request import urlopen

import attrs
import trustme
import yaml

from benchmarks.processes import Process, ServerProcess, ServerProcesses, free_ports, shown
from tests.http.recording import JOB, ROOT, RULES, rules
from trioraft import BlockingClient, RaftError
from trioraft.kv import ERROR_TYPES, BlockingKvClient

DASHBOARD: Final = ROOT / "deploy" / "grafana" / "trioraft.json"
CONFIG: Final = RULES.parent / "prometheus.yaml"
SCRAPE_S: Final = 1
RATE_INTERVAL: Final = "20s"
"""Of which Grafana would make four scrapes at least."""
PATIENCE_S: Final = 120.0


@attrs.frozen
class Query:
    """One query of a panel."""

    panel: str
    expr: str


def queries() -> list[Query]:
    """Those of the dashboard, as Grafana would ask them."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    found = []
    for panel in dashboard["panels"]:
        for target in panel.get("targets", ()):
            expr = target["expr"].replace("$__rate_interval", RATE_INTERVAL).replace("$job", JOB)
            found.append(Query(panel["title"], expr))
    return found


def configuration(targets: list[str], authority: Path) -> str:
    """That of deploy/prometheus, for these targets."""
    content = yaml.safe_load(CONFIG.read_text(encoding="utf-8"))
    content["global"] = {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": f"{SCRAPE_S}s"}
    content["rule_files"] = [str(RULES)]
    (job,) = content["scrape_configs"]
    job["static_configs"] = [{"targets": targets}]
    job |= {"scheme": "https", "tls_config": {"ca_file": str(authority)}}
    return yaml.safe_dump(content)


class Prometheus:
    """One that runs. Made by `open_prometheus`."""

    def __init__(self, url: str) -> None:
        self._url = url

    def ask(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        url = f"{self._url}/api/v1/{path}?{urlencode(parameters)}"
        with urlopen(url, timeout=10) as answer:  # noqa: S310 - our own Prometheus
            return json.load(answer)["data"]

    def has_data(self, expr: str) -> bool:
        """Whether this query returns a number."""
        result = self.ask("query", query=expr)["result"]
        return any(sample["value"][1] != "NaN" for sample in result)

    def up(self) -> int:
        """How many targets it reaches."""
        targets = self.ask("targets", state="active")["activeTargets"]
        return sum(target["health"] == "up" for target in targets)

    def alerts(self) -> set[str]:
        """The alerts that it knows."""
        groups = self.ask("rules", type="alert")["groups"]
        return {rule["name"] for group in groups for rule in group["rules"]}


@contextmanager
def open_prometheus(program: str, directory: Path, config: str) -> Iterator[Prometheus]:
    """Run it, for the body."""
    path = directory / "prometheus.yaml"
    path.write_text(config, encoding="utf-8")
    with free_ports(1) as ports:
        address = shown(ports[0])
    command = (
        *(program, f"--config.file={path}", f"--storage.tsdb.path={directory / 'tsdb'}"),
        *(f"--web.listen-address={address}", "--log.level=warn"),
    )
    with Process(command, name="prometheus", directory=directory, is_guarded=True):
        prometheus = Prometheus(f"http://{address}")
        _until(lambda: prometheus.up() >= 0, "Prometheus answers")
        yield prometheus


@contextmanager
def open_servers(directory: Path) -> Iterator[tuple[ServerProcesses, list[str], Path]]:
    """Three servers; where their HTTP ports are; and who has signed their certificates."""
    authority = trustme.CA()
    ca, pair = directory / "ca.pem", directory / "http.pem"
    authority.cert_pem.write_to_path(ca)
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(pair)
    with free_ports(3) as ports:
        targets = [shown(port) for port in ports]
    tls = ["--http-tls-cert", str(pair), "--http-tls-key", str(pair)]
    with ServerProcesses(directory, options=[*tls, "--snapshot-entries", "200"]) as servers:
        for node_id, target in zip(servers.ids, targets, strict=True):
            arguments = [*servers.arguments[node_id], "--http-listen", target]
            log = directory / f"{node_id}.log"
            servers.servers[node_id] = ServerProcess(arguments, log, f"server {node_id}")
        servers.start()
        yield servers, targets, ca


def work(kv: BlockingKvClient, number: int) -> None:
    """Some writes and reads."""
    for each in range(50):
        kv.put(f"key-{each}", str(number))
        kv.get(f"key-{each}")


def _until(holds: Any, what: str) -> None:
    give_up_s = time.monotonic() + PATIENCE_S
    while True:
        try:
            if holds():
                return
        except OSError:
            pass  # it does not listen yet
        if time.monotonic() > give_up_s:
            raise SystemExit(f"not within {PATIENCE_S:.0f} s: {what}")
        time.sleep(0.2)


def look(prometheus: Prometheus, client: BlockingClient) -> list[Query]:
    """Work until each query returns data. Returns those that do not, when time is over."""
    kv, missing, number = BlockingKvClient(client), queries(), 0
    give_up_s = time.monotonic() + PATIENCE_S
    while missing and time.monotonic() < give_up_s:
        work(kv, number)
        number += 1
        if number == 5:
            try:
                client.transfer_leadership()
            except RaftError as error:
                print(f"the leader was not changed: {error}")
        missing = [query for query in missing if not prometheus.has_data(query.expr)]
    return missing


def main() -> int:
    program = shutil.which("prometheus")
    if program is None:
        print("prometheus is not installed: nothing was looked at")
        return 0
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with (
            open_servers(directory) as (servers, targets, authority),
            open_prometheus(program, directory, configuration(targets, authority)) as prometheus,
            BlockingClient(servers.addresses, error_types=ERROR_TYPES) as client,
        ):
            _until(lambda: prometheus.up() == len(targets), "Prometheus scrapes all three")
            unknown = rules().keys() - prometheus.alerts()
            missing = look(prometheus, client)
            down = len(targets) - prometheus.up()
    known = queries()
    for query in known:
        print(f"{'no data' if query in missing else 'data   '}  {query.panel}: {query.expr}")
    print(f"{len(known) - len(missing)} of {len(known)} queries have data; {down} members are down")
    if unknown:
        print(f"alerts that Prometheus does not know: {sorted(unknown)}")
    return int(bool(missing or unknown or down))


if __name__ == "__main__":
    sys.exit(main())
