"""Members that are played: all but one of a cluster, after the real ones were stopped.

Rules of this file:

* They come with the disks of those who were stopped: what they say counts, as a member's does.
* They listen where those did, and answer what the server asks, mostly as a member would: so it
  wins elections, leads, sends entries and snapshots, and has what it commits applied.
* Between two checks they are either loyal, a little wrong but no leaders themselves, or not.
* What Raft's members may do to each other by right is left out: verdicts on results, word of a
  copied disk or of a removal, commands that no leader would take, and terms without end.
"""

from __future__ import annotations

import queue
import random
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Final, final

import msgspec

from trioraft import RaftError
from trioraft.core import messages
from trioraft.core.errors import BadMessage
from trioraft.core.messages import Introduction, Message
from trioraft.core.types import TERM_MAX, Entry, EntryKind, NodeId
from trioraft.machines.nesting import NESTING_MAX, is_deeper
from trioraft.member.identity import opened
from trioraft.member.lineage import Lineage
from trioraft.net.framing import RECEIVE_BYTES_MAX, Deframer, frame_of
from trioraft.rpc.protocol import ServerStatus
from trioraft.transport import codec, handshake

from .crews import BATCHES, Contexts, cut_up, hello_of, in_pieces
from .lines import Line, connected, frame_from
from .ports import ANSWER_SECONDS_MAX, Arena
from .servers import CLUSTER_ID, Cluster

OF_FOLLOWERS: Final = (
    messages.RequestVoteReply,
    messages.RequestPreVote,
    messages.RequestPreVoteReply,
    messages.AppendEntriesReply,
    messages.InstallSnapshotReply,
    messages.RequestReadIndex,
    messages.ResultsCheck,
    Introduction,
)
"""What is said to a leader that stays one."""
TELL_OF_REMOVAL: Final = (
    messages.RequestVoteReply,
    messages.RequestPreVoteReply,
    messages.RequestReadIndexReply,
)
LOYAL_EVERY: Final = 4
"""Of so many stretches one is not loyal: what it leaves behind takes some elections."""
FRAME_BYTES_MAX: Final = 64 * 1024 * 1024
ANSWERS_MAX: Final = 1000
LISTEN_SECONDS: Final = 0.2
PAUSE_S: Final = 0.002


@final
class Puppet:
    """One member that is played."""

    def __init__(self, node_id: NodeId, server: NodeId, said: Introduction) -> None:
        self.node_id = node_id
        self.said = said
        """What it says of its disk, to the server."""
        self.answers: queue.SimpleQueue[Message] = queue.SimpleQueue()
        """What it has to answer, as a member would."""
        self.term_seen = 0
        self._server = server
        self._listener: socket.socket | None = None
        self._threads: list[threading.Thread] = []
        self._is_over = threading.Event()

    def listen(self, address: tuple[str, int], context: ssl.SSLContext | None) -> None:
        """Be there for the server's own connections."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(16)
        listener.settimeout(LISTEN_SECONDS)
        self._listener = listener
        self._begin(self._accept, listener, context)

    def stop(self) -> None:
        """End all that runs."""
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        if self._listener is not None:
            self._listener.close()

    def _begin(self, target: object, *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)  # type: ignore[arg-type] # ours
        self._threads = [each for each in self._threads if each.is_alive()]
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket, context: ssl.SSLContext | None) -> None:
        while not self._is_over.is_set():
            with suppress(OSError):
                stream, _ = listener.accept()
                stream.settimeout(LISTEN_SECONDS)
                self._begin(self._serve, stream, context)

    def _serve(self, stream: socket.socket, context: ssl.SSLContext | None) -> None:
        """One connection of the server's: welcome it, and note what it wants to know."""
        with suppress(OSError, BadMessage), stream:
            if context is not None:
                stream.settimeout(ANSWER_SECONDS_MAX)
                stream = context.wrap_socket(stream, server_side=True)
            handshake.decode_hello(frame_from(stream))
            stream.sendall(handshake.encode_reply(self.said))
            deframer = Deframer(FRAME_BYTES_MAX)
            deframer.takes_pieces = True
            stream.settimeout(LISTEN_SECONDS)
            while not self._is_over.is_set():
                try:
                    data = stream.recv(RECEIVE_BYTES_MAX)
                except TimeoutError:
                    continue
                if not data:
                    return
                deframer.feed(data)
                while (payload := deframer.next_payload()) is not None:
                    self._hear(codec.decode_message(payload))

    def _hear(self, message: Message) -> None:
        self.term_seen = max(self.term_seen, message.term)
        answer = self._answer(message)
        if answer is not None and self.answers.qsize() < ANSWERS_MAX:
            self.answers.put(answer)

    def _answer(self, message: Message) -> Message | None:
        me, server, term = self.node_id, self._server, message.term
        match message:
            case messages.RequestPreVote():
                return messages.RequestPreVoteReply(
                    me, server, term, message.next_term, True, asked_ms=message.asked_ms
                )
            case messages.RequestVote():
                return messages.RequestVoteReply(me, server, term, True)
            case messages.AppendEntries():
                match_index = message.prev_log_index + len(message.entries)
                return messages.AppendEntriesReply(
                    me, server, term, True, match_index, round=message.round
                )
            case messages.InstallSnapshot():
                next_offset = message.offset + len(message.data)
                is_whole = next_offset >= message.meta.size_bytes
                return messages.InstallSnapshotReply(
                    me, server, term, message.meta, next_offset, is_whole, message.round
                )
            case Introduction(wants_reply=True):
                return self.said
        return None


@final
class Members:
    """They play all members but one, which was the leader."""

    needs_all = False

    def __init__(self) -> None:
        self._led = 0
        self._applied = 0
        self._is_loyal = True
        self._checks = 0
        self._puppets: dict[NodeId, Puppet] = {}

    def begin(self, arena: Arena) -> None:
        """Stop the others, and take their places."""
        self._arena = arena
        self._contexts = Contexts(arena)
        self._server = arena.leader
        self._term = 1
        self._configuration = arena.cluster.status(self._server).configuration
        self._all = [codec.decode_message(payload) for payload in arena.recording.peers]
        self._followers = [each for each in self._all if isinstance(each, OF_FOLLOWERS)]
        arena.attacked[:] = [self._server]
        others = [node_id for node_id in Cluster.IDS if node_id != self._server]
        for node_id in others:
            arena.cluster.servers[node_id].kill()
        for node_id in others:
            said = self._introduction(node_id)
            puppet = self._puppets[node_id] = Puppet(node_id, self._server, said)
            puppet.listen(arena.cluster.peer_ports[node_id], self._listening_context(node_id))

    def _introduction(self, node_id: NodeId) -> Introduction:
        """What that node would say of itself if it was started again."""
        identity = opened(
            self._arena.cluster.stored_identity(node_id),
            cluster_id=CLUSTER_ID,
            node_id=node_id,
            voters=Cluster.IDS,
            others=Cluster.IDS,
            rng=random.Random(node_id),
        )
        lineage = Lineage(
            node_id,
            cluster_id=CLUSTER_ID,
            identity=identity,
            voters=Cluster.IDS,
            others=Cluster.IDS,
            addresses={},
        )
        return lineage.introduction(self._server)

    def _listening_context(self, node_id: NodeId) -> ssl.SSLContext | None:
        certificates = self._arena.cluster.certificates
        if certificates is None:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*certificates.files("peers", node_id))
        return context

    def can_open(self, who: str) -> bool:
        """The two that are played."""
        return who.startswith("member ")

    def attack(self) -> None:
        """One of them says something: answers that are due, and something else."""
        rng = self._arena.rng
        puppet = self._puppets[rng.choice(sorted(self._puppets))]
        self._term = max(self._term, *(each.term_seen for each in self._puppets.values()))
        payloads = self._due(puppet)
        if rng.random() < (0.1 if self._is_loyal else 0.3):
            payloads += [self._message(puppet) for _ in range(rng.choice(BATCHES))]
        self._send(puppet, payloads)

    def _send(self, puppet: Puppet, payloads: list[bytes]) -> None:
        """Send as this one; with nothing to say, or nowhere to say it, wait a moment."""
        arena, rng = self._arena, self._arena.rng
        who = f"member {puppet.node_id}"
        line = arena.line_of(who) or arena.new_line(who, self._server)
        if line is None or not payloads:
            time.sleep(PAUSE_S)
            return
        frames = [
            in_pieces(arena, payload) if rng.random() < 0.02 else frame_of(payload)
            for payload in payloads
        ]
        arena.send(line, cut_up(arena, frames), len(frames))

    def _due(self, puppet: Puppet) -> list[bytes]:
        """What it has to answer; now and then a little wrong."""
        payloads = []
        with suppress(queue.Empty):
            while True:
                payload = codec.encode_frame(puppet.answers.get_nowait())[4:]
                if self._arena.rng.random() < 0.05:
                    payload = self._changed(payload)
                payloads.append(payload)
        return payloads

    def _message(self, puppet: Puppet) -> bytes:
        """Something that was said elsewhere, in this one's name and near the present term."""
        rng = self._arena.rng
        message = rng.choice(self._followers if self._is_loyal else self._all)
        if isinstance(message, Introduction):
            message = self._puppets[puppet.node_id].said
        else:
            term = max(
                0, self._term + rng.choice((0, 0, 0, 0, 0, 0, 0 if self._is_loyal else 1, -1))
            )
            message = msgspec.structs.replace(
                message, sender=puppet.node_id, receiver=self._server, term=term
            )
        payload = codec.encode_frame(message)[4:]
        return self._changed(payload) if rng.random() < 0.8 else self._allowed(payload)

    def _changed(self, payload: bytes) -> bytes:
        """A little wrong; mostly so that it can still be read."""
        arena = self._arena
        for _ in range(5):
            changed = arena.mutator.packed(payload, arena.recording.peers)
            if arena.rng.random() < 0.05:
                break
            with suppress(BadMessage):
                message = codec.decode_message(changed)
                if message.receiver == self._server and message.sender in self._puppets:
                    break
        return self._allowed(changed)

    def _allowed(self, payload: bytes) -> bytes:
        """Without what a member may do to another one by right, and that ends it."""
        try:
            message = codec.decode_message(payload)
        except BadMessage:
            return payload
        allowed = message
        if isinstance(allowed, messages.ResultsCheck):  # one alone is no majority
            speaks = allowed.sender == min(self._puppets)
            allowed = msgspec.structs.replace(allowed, voters=(), index=allowed.index * speaks)
        elif isinstance(allowed, TELL_OF_REMOVAL):
            allowed = msgspec.structs.replace(allowed, removed_index=0)
        elif isinstance(allowed, Introduction):
            allowed = self._allowed_word(allowed)
        elif isinstance(allowed, messages.AppendEntries):
            entries = tuple(map(self._allowed_entry, allowed.entries))
            allowed = msgspec.structs.replace(allowed, entries=entries)
        elif isinstance(allowed, messages.InstallSnapshot) and self._keeps_members():
            meta = msgspec.structs.replace(allowed.meta, configuration=self._configuration)
            allowed = msgspec.structs.replace(allowed, meta=meta)
        is_later = self._term < allowed.term if self._is_loyal else self._term + 3 < allowed.term
        if is_later and allowed.term <= TERM_MAX:
            allowed = msgspec.structs.replace(allowed, term=self._term)
        return payload if allowed == message else codec.encode_frame(allowed)[4:]

    def _allowed_word(self, said: Introduction) -> Introduction:
        """No word of the server's own disk; nor of a later opening of this one's, after which it
        would be taken for an older copy of itself."""
        said = msgspec.structs.replace(said, remembered=None)
        puppet = self._puppets.get(said.sender)
        if puppet is not None and puppet.said.incarnation == said.incarnation:
            before = puppet.said
            return msgspec.structs.replace(said, opening=before.opening, nonces=before.nonces)
        return said

    def _allowed_entry(self, entry: Entry) -> Entry:
        """No command that ends who applies it; and mostly no members with other disks, after which
        nobody here could make the server lead again."""
        if is_deeper(entry.data[1:], NESTING_MAX):
            return msgspec.structs.replace(entry, data=b"")
        if entry.kind == EntryKind.CONFIGURATION and self._keeps_members():
            return msgspec.structs.replace(entry, data=b"", kind=int(EntryKind.NOOP))
        return entry

    def _keeps_members(self) -> bool:
        return self._arena.rng.random() < 0.9995

    def open(self, number: int, who: str, server: NodeId) -> Line | None:
        """Connect, and shake hands as that member."""
        del server
        node_id = who.removeprefix("member ")
        arena = self._arena
        with suppress(OSError, ValueError):
            stream = connected(
                arena.cluster.peer_ports[self._server], self._contexts.of("peers", node_id)
            )
            line = Line(number, who, stream)
            try:
                stream.sendall(hello_of(self._puppets[node_id].said))
                handshake.check_reply(frame_from(stream), sender=self._server, receiver=node_id)
            except (OSError, BadMessage):
                line.close()
                return None
            return line
        return None

    def check(self) -> str | None:
        """The server answers; whether it leads, and how much it has applied, is only counted."""
        self._checks += 1
        cluster = self._arena.cluster
        found: list[ServerStatus | RaftError] = []

        def ask() -> None:
            try:
                found.append(cluster.status(self._server, ANSWER_SECONDS_MAX))
            except RaftError as error:
                found.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        while asking.is_alive():  # a leader that nobody answers would be none
            for puppet in self._puppets.values():
                self._send(puppet, self._due(puppet))
        status = found[0]
        if isinstance(status, RaftError):
            return f"no status within {ANSWER_SECONDS_MAX:g} s: {status!r}\n{cluster.logs()}"
        self._led += status.role == "Leader"
        self._applied = max(self._applied, status.applied_index)
        self._term = max(self._term, status.term)
        self._is_loyal = self._checks % LOYAL_EVERY != LOYAL_EVERY - 1
        return None

    def finish(self) -> None:
        """Stop playing."""
        for puppet in self._puppets.values():
            puppet.stop()

    def notes(self) -> list[str]:
        """How often it led."""
        led = f"led in {self._led} of {self._checks} checks, applied {self._applied:,} entries"
        return [f"the last cluster: {led}"]
