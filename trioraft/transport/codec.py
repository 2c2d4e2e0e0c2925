"""Members' messages as frames.

Rules of this file:

* A payload is msgpack: one message of the tagged union `core.messages.Message`.
* Whatever is wrong with the bytes of a peer comes out as `BadMessage`, never as anything else.
"""

from __future__ import annotations

import msgspec

from ..core.decoding import UNREADABLE
from ..core.errors import BadMessage
from ..core.messages import Forward, Message, UntracedForward
from ..net.framing import LENGTH_BYTES

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Message] = msgspec.msgpack.Decoder(Message)


def encode_frame(message: Message) -> bytes:
    """Return the message as one frame, length included."""
    payload = encode_message(message)
    return len(payload).to_bytes(LENGTH_BYTES, "big") + payload  # as `frame_of`, often called


def encode_message(message: Message) -> bytes:
    """Return the payload of such a frame."""
    if type(message) is Forward and message.trace is None:
        return _encoder.encode(_untraced(message))
    return _encoder.encode(message)


def _untraced(message: Forward) -> UntracedForward:
    return UntracedForward(
        message.sender, message.receiver, message.term, message.number, message.data
    )


def decode_message(payload: bytes | bytearray) -> Message:
    """Return the message that a frame's payload holds.

    Raises:
        BadMessage: it is not one message of the union, or a number in it is out of range. Who
            it says it is from is *not* checked here: that needs the connection.
    """
    try:
        return _decoder.decode(payload)
    except UNREADABLE as error:
        raise BadMessage(f"a frame of {len(payload)} bytes is not a message: {error}") from error
