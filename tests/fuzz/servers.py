"""Real `trioraft serve` processes, what they look like from outside, and certificates for them.

Rules of this file: everything listens on the loopback and lives in a directory of its own, which is
gone in the end; who was started is killed, whatever happens.
"""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, final

import trustme

from trioraft import BlockingClient, RaftError
from trioraft.core.types import Address, NodeId
from trioraft.rpc.protocol import ServerStatus
from trioraft.storage.log_database import read_identity

START_SECONDS_MAX: Final = 60.0
LOG_BYTES_MAX: Final = 8 * 1024 * 1024
"""Beyond it a server's log is emptied; what was looked at is not needed again."""
CLUSTER_ID: Final = "trioraft"
LOOPBACK: Final = "127.0.0.1"


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [each.getsockname()[1] for each in sockets]


@final
class Certificates:
    """One authority for members, and another one for clients; files of certificates by name."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self._folder = folder
        self._authorities = {"peers": trustme.CA(), "clients": trustme.CA()}
        for name, authority in self._authorities.items():
            authority.cert_pem.write_to_path(str(self.authority(name)))

    def authority(self, name: str) -> Path:
        """The file of "peers" or "clients"."""
        return self._folder / f"{name}-ca.pem"

    def files(self, authority: str, name: str) -> tuple[Path, Path]:
        """Certificate and key that this authority has signed for this name."""
        certificate = self._folder / f"{authority}-{name}.crt"
        key = certificate.with_suffix(".key")
        if not certificate.exists():
            issued = self._authorities[authority].issue_cert(name, "localhost", LOOPBACK)
            issued.private_key_pem.write_to_path(str(key))
            issued.cert_chain_pems[0].write_to_path(str(certificate))
        return certificate, key

    def dialing(self, authority: str, name: str | None) -> ssl.SSLContext:
        """For one that speaks to a port, with that certificate, and does not care who answers."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if name is not None:
            context.load_cert_chain(*self.files(authority, name))
        return context

    def client(self) -> ssl.SSLContext:
        """For a client as it should be."""
        context = ssl.create_default_context(cafile=str(self.authority("clients")))
        context.load_cert_chain(*self.files("clients", "checker"))
        return context


@final
class Server:
    """One process."""

    def __init__(self, node_id: NodeId, folder: Path, words: list[str]) -> None:
        self.node_id = node_id
        self.data = folder / f"node-{node_id}"
        self.memory_mb_max = 0.0
        """The most that was ever seen."""
        self._log = folder / f"node-{node_id}.log"
        self._read = 0
        self._words = [*words, "--data", str(self.data), "--create-data"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "trioraft", "serve", *self._words],
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )

    @property
    def exit_code(self) -> int | None:
        """None as long as it runs."""
        return None if self._process is None else self._process.poll()

    def kill(self) -> None:
        """End it now."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def memory_mb(self) -> float:
        """Resident now."""
        memory_mb = self._figure("VmRSS") / 1024
        self.memory_mb_max = max(self.memory_mb_max, self._figure("VmHWM") / 1024)
        return memory_mb

    def _figure(self, name: str) -> float:
        assert self._process is not None
        try:
            status = Path(f"/proc/{self._process.pid}/status").read_text(encoding="utf-8")
        except FileNotFoundError:  # it is no more
            return 0.0
        lines = [line for line in status.splitlines() if line.startswith(name)]
        return float(lines[0].split()[1]) if lines else 0.0

    def descriptors(self) -> int:
        """How many are open."""
        assert self._process is not None
        return len(os.listdir(f"/proc/{self._process.pid}/fd"))

    def new_log(self) -> str:
        """What it has logged since this was asked last."""
        with self._log.open("rb") as log:
            log.seek(self._read)
            text = log.read(LOG_BYTES_MAX)
        self._read += len(text)
        if self._read >= LOG_BYTES_MAX:
            os.truncate(self._log, 0)
            self._read = 0
        return text.decode(errors="replace")


@final
class Cluster:
    """Three servers, each with both of its ports.

    Args:
        folder: an empty directory.
        has_tls: whether both ports ask for certificates.
    """

    IDS: Final = ("0", "1", "2")

    def __init__(self, folder: Path, *, has_tls: bool = False) -> None:
        ports = free_ports(2 * len(self.IDS))
        count = len(self.IDS)
        self.peer_ports: dict[NodeId, Address] = {
            node_id: (LOOPBACK, port) for node_id, port in zip(self.IDS, ports[:count], strict=True)
        }
        self.client_ports: dict[NodeId, Address] = {
            node_id: (LOOPBACK, port) for node_id, port in zip(self.IDS, ports[count:], strict=True)
        }
        self.certificates = Certificates(folder / "certificates") if has_tls else None
        self.servers = {each: Server(each, folder, self._words(each)) for each in self.IDS}

    def _words(self, node_id: NodeId) -> list[str]:
        words = ["--id", node_id, "--log-level", "warning", "--snapshot-entries", "2000"]
        words += ["--listen", _text(self.peer_ports[node_id])]
        words += ["--client-listen", _text(self.client_ports[node_id])]
        for other in self.IDS:
            words += ["--peer", f"{other}={_text(self.peer_ports[other])}"]
            words += ["--client-peer", f"{other}={_text(self.client_ports[other])}"]
        if self.certificates is not None:
            for option, authority in (("tls", "peers"), ("client-tls", "clients")):
                certificate, key = self.certificates.files(authority, node_id)
                words += [f"--{option}-cert", str(certificate), f"--{option}-key", str(key)]
                words += [f"--{option}-ca", str(self.certificates.authority(authority))]
        return words

    def start(self) -> None:
        """Start them, and wait until they have a leader; `kill` them in any case.

        Raises:
            TimeoutError: they have none.
        """
        for server in self.servers.values():
            server.start()
        self.wait_for_leader(START_SECONDS_MAX)

    def kill(self) -> None:
        """End all of them."""
        for server in self.servers.values():
            server.kill()

    def client(self, timeout_s: float) -> BlockingClient:
        """A client of all servers, to be entered."""
        context = None if self.certificates is None else self.certificates.client()
        return BlockingClient(self.client_ports, ssl_context=context, timeout_s=timeout_s)

    def statuses(self, timeout_s: float = 10.0) -> dict[NodeId, ServerStatus]:
        """What each server says that answers."""
        with self.client(timeout_s) as client:
            answers = client.statuses(timeout_s=timeout_s)
        said = [answer for answer in answers.values() if isinstance(answer, ServerStatus)]
        return {status.node_id: status for status in said}

    def status(self, node_id: NodeId, timeout_s: float = 15.0) -> ServerStatus:
        """What this server says of itself.

        Raises:
            RaftError: nothing, in that time.
        """
        with self.client(timeout_s) as client:
            return client.status(node_id, timeout_s=timeout_s)

    def leader(self) -> NodeId | None:
        """Who says that it leads, of the latest term."""
        leading = [each for each in self.statuses().values() if each.role == "Leader"]
        return max(leading, key=lambda status: status.term).node_id if leading else None

    def wait_for_leader(self, seconds: float) -> NodeId:
        """Who leads, once somebody does.

        Raises:
            TimeoutError: nobody does.
        """
        leader = waited_for(self.leader, seconds)
        if leader is None:
            raise TimeoutError(f"no leader within {seconds:g} s\n{self.logs()}")
        return leader

    def logs(self) -> str:
        """The ends of what the servers logged since it was asked last."""
        ends = [f"-- {each.node_id}: {each.new_log()[-1500:]}" for each in self.servers.values()]
        return "\n".join(ends)

    def stored_identity(self, node_id: NodeId) -> bytes | None:
        """What a server that is down keeps of whose disk it has."""
        return read_identity(self.servers[node_id].data / "log.sqlite3")


def waited_for(look: Callable[[], NodeId | None], seconds: float) -> NodeId | None:
    """What `look` finds, asked again and again for so long; None: nothing."""
    end = time.monotonic() + seconds
    found: NodeId | None = None
    while found is None and time.monotonic() < end:
        with suppress(RaftError, OSError):
            found = look()
        if found is None:
            time.sleep(0.05)
    return found


def _text(address: Address) -> str:
    return f"{address[0]}:{address[1]}"
