"""What the media process refuses, and why: codes that edge turns into statuses.

    Rejected                    Unavailable
    ├── BadOffer     400        ├── NotLive          409, Retry-After
    ├── NoCommonCodec 406       ├── Overloaded       503, Retry-After
    ├── AlreadyPublished 409    └── TooManySessions  429, Retry-After
    ├── BadName      400
    ├── UnknownStream 404
    └── UnknownSession 404

Messages are shown to whoever asked.
"""

from typing import Final

from ops.errors import Rejected, Unavailable

NOT_LIVE_RETRY_SECONDS: Final = 2
OVERLOAD_RETRY_SECONDS: Final = 2
SESSIONS_RETRY_SECONDS: Final = 10


class BadOffer(Rejected):
    """The SDP offer cannot be read."""

    code = "sdp.malformed"


class NoCommonCodec(Rejected):
    """The offer is sound, but nothing in it can be served."""

    code = "sdp.not_acceptable"


class BadName(Rejected):
    """A stream cannot have this name."""

    code = "stream.name"


class AlreadyPublished(Rejected):
    """Somebody publishes this stream, and the policy is to refuse others."""

    code = "stream.already_published"


class UnknownStream(Rejected):
    """Nobody publishes a stream of that name."""

    code = "stream.unknown"


class UnknownSession(Rejected):
    """There is no such session, or it has ended."""

    code = "session.unknown"


class TooManySessions(Unavailable):
    """One address or key holds as many sessions as it may."""

    code = "limits.sessions"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_seconds=SESSIONS_RETRY_SECONDS)


class NotLive(Unavailable):
    """Nobody publishes this stream now; they may in a moment."""

    code = "stream.not_live"

    def __init__(self, message: str) -> None:
        super().__init__(message, retry_after_seconds=NOT_LIVE_RETRY_SECONDS)


class Overloaded(Unavailable):
    """A named limit of the node is reached; `limit` is its word in the metrics."""

    code = "media.overloaded"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message, retry_after_seconds=OVERLOAD_RETRY_SECONDS)
        self.limit = limit
