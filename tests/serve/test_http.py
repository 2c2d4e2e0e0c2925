"""`trioraft serve --http-listen`: real servers, asked as probes and Prometheus ask them."""

from __future__ import annotations

import signal
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import trustme

from benchmarks.processes import ServerProcess, free_ports, shown
from tests.http.support import ask_now, values
from trioraft import Address
from trioraft.http import HttpPort


@contextmanager
def server(directory: Path, *options: str) -> Iterator[tuple[ServerProcess, Address]]:
    """One that is alone, and serves HTTP."""
    with free_ports(3) as found:
        peers, clients, http = found
    arguments = ["--id", "0", "--found-alone", "--data", str(directory / "0"), "--create-data"]
    arguments += ["--listen", shown(peers), "--client-listen", shown(clients)]
    arguments += ["--http-listen", shown(http), *options]
    process = ServerProcess(arguments, directory / "log")
    process.start()
    try:
        yield process, http
    finally:
        process.kill()


def test_it_says_where_and_tells_of_its_clients_too(tmp_path: Path) -> None:
    with server(tmp_path) as (process, http):
        assert process.wait_ready().endswith(f", HTTP at http://{shown(http)}")
        port = HttpPort(http, is_tls=False)
        assert ask_now(port, "/livez").status == 200
        while ask_now(port, "/readyz").status != 200:
            pass  # until it leads
        told = values(ask_now(port, "/metrics").text)
        assert told["trioraft_server_is_leader"] == 1
        assert told['trioraft_network_client_connections{state="admitted"}'] == 0
        assert told['trioraft_server_budget_limit{budget="connections"}'] == 1024


def test_it_leaves_while_somebody_reads_nothing(tmp_path: Path) -> None:
    with server(tmp_path) as (process, http):
        process.wait_ready()
        with socket.create_connection(http) as reader:
            for _ in range(200):  # more than fits on the way
                reader.sendall(b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n")
            process.signal(signal.SIGTERM)
            assert process.wait() == 0


def test_its_certificate_is_read_again_when_it_changes(tmp_path: Path) -> None:
    pair = tmp_path / "http.pem"
    first, second = trustme.CA(), trustme.CA()

    def trusting(authority: trustme.CA) -> ssl.SSLContext:
        context = ssl.create_default_context()
        authority.configure_trust(context)
        return context

    def install(authority: trustme.CA) -> None:
        issued = authority.issue_cert("127.0.0.1")
        pair.write_bytes(issued.private_key_and_cert_chain_pem.bytes())

    install(first)
    files = ("--http-tls-cert", str(pair), "--http-tls-key", str(pair))
    with server(tmp_path, *files) as (process, http):
        assert process.wait_ready().endswith(f"HTTP at https://{shown(http)}")
        port = HttpPort(http, is_tls=True)
        assert ask_now(port, "/livez", tls=trusting(first)).status == 200
        install(second)
        process.signal(signal.SIGHUP)
        while not _is_trusted(port, trusting(second)):
            pass  # until it has read them
        assert not _is_trusted(port, trusting(first))


def _is_trusted(port: HttpPort, tls: ssl.SSLContext) -> bool:
    try:
        return ask_now(port, "/livez", tls=tls).status == 200
    except ssl.SSLCertVerificationError:
        return False
