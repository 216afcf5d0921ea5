"""Who is connected: sessions under their public, unguessable ids and under the native numbers.

A plain book-keeper: it closes nothing and asks nobody.
"""

import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from media.errors import TooManySessions
from media.messages import Grant, SessionInfo
from ops import metrics
from ops.ids import secret_id

_refused = metrics.counter(
    "nexus_webrtc_sessions_refused", "Sessions beyond what one may hold.", ("per",)
)


@dataclass(slots=True)
class Session:
    """One publisher or viewer."""

    id: str
    native: int
    stream: str
    publishes: bool
    grant: Grant
    since_unix: float
    etag: str = ""
    remote_ufrag: str = ""
    asked_at: float = 0.0
    """When the POST came, by the steady clock; 0: unknown."""
    connected: bool = False
    was_on_air: bool = False
    """A publisher whose media has been seen."""
    closing: bool = False
    """Its end was asked for; for whoever asks it is gone already."""

    def info(self, figures: Mapping[str, Any]) -> SessionInfo:
        """What the control API shows; `figures` is the native side's row, or empty."""
        return SessionInfo(
            session=self.id,
            stream=self.stream,
            kind="publisher" if self.publishes else "viewer",
            subject=self.grant.subject,
            state="connected" if self.connected else "connecting",
            remote=str(figures.get("remote", "")),
            since_unix=self.since_unix,
            packets=int(figures.get("packets", 0)),
            bytes=int(figures.get("bytes", 0)),
            lost=int(figures.get("lost", 0)),
            etag=self.etag,
            remote_ufrag=self.remote_ufrag,
        )


class Sessions:
    """All sessions of this media process."""

    def __init__(self) -> None:
        self._by_id: dict[str, Session] = {}
        self._by_native: dict[int, Session] = {}
        self._order: list[str] = []
        self._held: Counter[tuple[str, str]] = Counter()
        """Sessions by what they are limited by, those that are being made too."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def add(self, make: Callable[[str], Session]) -> Session:
        """Keeps the session that `make` makes of a new id; its grant has room already (`hold`)."""
        session = make(secret_id())
        self._by_id[session.id] = session
        self._by_native[session.native] = session
        bisect.insort(self._order, session.id)
        return session

    def hold(self, grant: Grant) -> None:
        """Room for a session that is about to be made: to be `add`ed, or to be `let_go`.

        Raises TooManySessions.
        """
        for per, name, allowed in _limits(grant):
            if self._held[per, name] >= allowed:
                _refused.inc(labels=(per,))
                raise TooManySessions(
                    f"one {per} may hold {allowed} sessions (limits.{per}_sessions_max)"
                )
        for per, name, _ in _limits(grant):
            self._held[per, name] += 1

    def let_go(self, grant: Grant) -> None:
        """A session that had room will not be made, or has ended."""
        for per, name, _ in _limits(grant):
            self._held[per, name] -= 1
            if self._held[per, name] <= 0:
                del self._held[per, name]

    def find(self, id: str) -> Session | None:
        """By its public id; None when it is not there or is closing."""
        session = self._by_id.get(id)
        return None if session is None or session.closing else session

    def find_native(self, native: int) -> Session | None:
        """By the native side's number."""
        return self._by_native.get(native)

    def remove(self, session: Session) -> None:
        """Forgets it; it must be there."""
        del self._by_id[session.id]
        del self._by_native[session.native]
        del self._order[bisect.bisect_left(self._order, session.id)]
        self.let_go(session.grant)

    def page(self, *, stream: str, after: str, limit: int) -> tuple[list[Session], bool]:
        """At most `limit` sessions after the id `after` in id order, and whether more follow."""
        found: list[Session] = []
        for index in range(bisect.bisect_right(self._order, after), len(self._order)):
            session = self._by_id[self._order[index]]
            if session.closing or (stream and session.stream != stream):
                continue
            if len(found) == limit:
                return found, True
            found.append(session)
        return found, False

    def expired(self, now_unix: float) -> list[Session]:
        """Those whose grant has run out and whose end was not asked for yet."""
        return [
            session
            for session in self._by_id.values()
            if 0 < session.grant.expires_unix <= now_unix and not session.closing
        ]


def _limits(grant: Grant) -> Iterator[tuple[str, str, int]]:
    """By what a session is limited, whose it is, and how many there may be."""
    if grant.address_sessions_max:
        yield "address", grant.address, grant.address_sessions_max
    if grant.subject_sessions_max:
        yield "key", grant.subject, grant.subject_sessions_max
