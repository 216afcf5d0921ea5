"""What edge workers and the media process say to each other over a SEQPACKET pair.

One message a datagram, MessagePack, tagged by name. Edge sends commands, each with an `id` of its
own choosing; media sends exactly one reply with that `id`, and, unasked, `StreamChanged` and
`HlsChanged`. HLS bytes do not travel here: they lie in the run directory (`media/hls`), these
messages only wake whoever waits for them. Both sides may die at any moment: whoever starts says
`Hello` first, and the other side then forgets what it had asked of, or owed to, the former one.
"""

from typing import Literal

import msgspec

MESSAGE_BYTES_MAX = 180_000
"""Longest message; a SEQPACKET datagram must fit the default socket buffer of 212,992 bytes."""


class Grant(msgspec.Struct, frozen=True):
    """What a session may do, decided by edge: media never sees a token."""

    subject: str
    """Who it is, for lists and logs; never a secret."""
    actions: tuple[Literal["publish", "read", "control"], ...]
    expires_unix: float = 0.0
    """0: does not expire."""
    address: str = ""
    """The client's address (or its IPv6 /64), where the sessions of one are limited."""
    address_sessions_max: int = 0
    """Sessions that this address may hold; 0: any number."""
    subject_sessions_max: int = 0
    """Sessions that this subject may hold; 0: any number."""


# -- either way ---------------------------------------------------------------------------


class Hello(msgspec.Struct, frozen=True, tag=True):
    """The first message of a new process. `boot` is unique to the process."""

    boot: str
    role: Literal["edge", "media"]


# -- edge to media ------------------------------------------------------------------------


class Publish(msgspec.Struct, frozen=True, tag=True):
    id: int
    stream: str
    offer: str
    grant: Grant
    asked_at: float = 0.0
    """When the POST came, by the machine's monotonic clock in seconds; 0: unknown."""


class Play(msgspec.Struct, frozen=True, tag=True):
    id: int
    stream: str
    offer: str
    grant: Grant
    asked_at: float = 0.0
    """As in `Publish`."""


class Close(msgspec.Struct, frozen=True, tag=True):
    """End a session, by its public id; `stream` and `publisher`, when given, must fit it."""

    id: int
    session: str
    stream: str = ""
    reason: str = "closed by request"


class Ping(msgspec.Struct, frozen=True, tag=True):
    """Is anybody there? Answered by `Done`."""

    id: int


class AskKeyFrame(msgspec.Struct, frozen=True, tag=True):
    id: int
    stream: str


class ListSessions(msgspec.Struct, frozen=True, tag=True):
    """Sessions after `after` in id order, at most `limit`."""

    id: int
    stream: str = ""
    after: str = ""
    limit: int = 100


class Demand(msgspec.Struct, frozen=True, tag=True):
    """Somebody asks for the stream's AAC rendition: make it for another minute. No reply."""

    stream: str


class Viewers(msgspec.Struct, frozen=True, tag=True):
    """HLS viewers of the last ten seconds, per stream, as far as they came to this worker: a player
    has several connections, so several workers may each see a part of it. No reply."""

    counts: dict[str, float]


# -- media to edge: replies ---------------------------------------------------------------


class Answered(msgspec.Struct, frozen=True, tag=True):
    id: int
    session: str
    """Public id, unguessable: the last part of the WHIP/WHEP resource's path."""
    sdp: str
    etag: str
    remote_ufrag: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """`code` is one of `media/errors.py`; edge turns it into a status."""

    id: int
    code: str
    detail: str
    retry_after_seconds: int = 0


class Done(msgspec.Struct, frozen=True, tag=True):
    id: int


class SessionInfo(msgspec.Struct, frozen=True):
    session: str
    stream: str
    kind: Literal["publisher", "viewer"]
    subject: str
    state: Literal["connecting", "connected"]
    remote: str
    since_unix: float
    packets: int
    bytes: int
    lost: int
    etag: str = ""
    """As in `Answered`: any edge worker may serve the resource. Not shown to people."""
    remote_ufrag: str = ""
    """As in `Answered`."""


class Sessions(msgspec.Struct, frozen=True, tag=True):
    id: int
    sessions: tuple[SessionInfo, ...]
    more: bool


# -- media to edge: unasked ---------------------------------------------------------------


class StreamChanged(msgspec.Struct, frozen=True, tag=True):
    """The whole public state of one stream; sent on every change, at most once a second for counts,
    and for every stream after an edge worker's Hello (followed by `Ready`)."""

    stream: str
    state: Literal["live", "waiting", "gone"]
    """waiting: the publisher went, viewers and playlists are kept for a while; gone: forget it."""
    since_unix: float
    publisher: str
    """Session of the publisher, or empty."""
    video: str
    """"H264", "VP8", "VP9", "AV1" or empty."""
    audio: str
    """"opus" or empty."""
    width: int
    height: int
    hls: bool
    hls_reason: str
    """Why there is no HLS, in a sentence for people, or empty."""
    viewers_webrtc: int
    viewers_hls: int
    bits_per_second: int
    keyframe_age_ms: int
    """-1: no key frame yet."""
    lost: int
    """Packets of the publisher lost for good."""


class Ready(msgspec.Struct, frozen=True, tag=True):
    """Every stream has been told of: from here on an unknown stream does not exist."""


class HlsChanged(msgspec.Struct, frozen=True, tag=True):
    """Something was published for HLS: the journals of this stream have grown."""

    stream: str


EdgeMessage = Hello | Publish | Play | Close | Ping | AskKeyFrame | ListSessions | Demand | Viewers
MediaMessage = Hello | Answered | Refused | Done | Sessions | StreamChanged | Ready | HlsChanged

_encoder = msgspec.msgpack.Encoder()
_from_edge: msgspec.msgpack.Decoder[EdgeMessage] = msgspec.msgpack.Decoder(EdgeMessage)
_from_media: msgspec.msgpack.Decoder[MediaMessage] = msgspec.msgpack.Decoder(MediaMessage)


def encode(message: EdgeMessage | MediaMessage) -> bytes:
    """The datagram of a message. Raises ValueError when it is longer than `MESSAGE_BYTES_MAX`."""
    data = _encoder.encode(message)
    if len(data) > MESSAGE_BYTES_MAX:
        raise ValueError(f"{type(message).__name__} of {len(data)} bytes: over {MESSAGE_BYTES_MAX}")
    return data


def decode_from_edge(data: bytes) -> EdgeMessage:
    """Raises msgspec.ValidationError or msgspec.DecodeError."""
    try:
        return _from_edge.decode(data)
    except UnicodeDecodeError as error:  # of a tag or a field's name
        raise msgspec.DecodeError(str(error)) from None


def decode_from_media(data: bytes) -> MediaMessage:
    """Raises msgspec.ValidationError or msgspec.DecodeError."""
    try:
        return _from_media.decode(data)
    except UnicodeDecodeError as error:  # of a tag or a field's name
        raise msgspec.DecodeError(str(error)) from None
