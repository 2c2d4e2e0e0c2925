"""What a client is told beyond the cluster's own errors.

Rules of this file: each error says whether the command may have been applied. `OutcomeUnknown`
among its bases means that it may.
"""

from __future__ import annotations

from ..core.errors import DeadlineExceeded as DeadlineExceeded
from ..core.errors import DeadlineOutcomeUnknown as DeadlineOutcomeUnknown
from ..core.errors import RaftError


class ServerLost(RaftError):  # noqa: N818 - what happened
    """A server could not be reached, or its connection ended. A call goes elsewhere by itself; a
    subscription, or a question to one certain server, ends with this.

    Fault: the server's, or the network's.
    Remedy: subscribe again from where you are, or ask another server.
    """


class ServerLeaving(RaftError):  # noqa: N818 - what happens
    """The server is shutting down and did not take the request.

    Fault: nobody's.
    Remedy: ask another server. A `Client`'s calls do so by themselves.
    """


class HandshakeRefused(RaftError):  # noqa: N818 - what happened
    """A server does not talk to this client, and never will.

    Fault: the client's: a wrong port, cluster id, release or credential.
    Remedy: the message says which; give the right one.

    Attributes:
        refusal: "not-a-client", "version", "cluster" or "no-role".
    """

    def __init__(self, refusal: str, message: str) -> None:
        self.refusal = refusal
        super().__init__(message)


class PermissionDenied(RaftError):  # noqa: N818 - what happened
    """This client may not do that; the message names the rule. It was not applied, and is never
    sent again.

    Fault: the client's, or of whoever wrote the servers' roles.
    Remedy: use another certificate or token, or have the role changed (docs/security.md).
    """


class NoRole(HandshakeRefused, PermissionDenied):
    """A server gives this client no role at all.

    Fault: the client's, whose certificate or token the servers' roles do not name.
    Remedy: give a token or certificate that they name.
    """


class ClientClosed(RaftError):  # noqa: N818 - a state
    """The client is not open, or was closed meanwhile.

    Fault: the caller's.
    Remedy: use it inside its `with`, and make one for each `with` and each process.
    """
