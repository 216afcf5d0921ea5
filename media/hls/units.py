"""What the writer takes in: access units as the native plane hands them over.

`UnitLike` is what is read of one, so that tests and other sources need no native module; `Unit` is
a plain one with the same fields as `media._native.Unit`.
"""

from typing import NamedTuple, Protocol


class UnitLike(Protocol):
    """One complete access unit; the fields mean what `media/_native.pyi` says."""

    @property
    def session(self) -> int: ...
    @property
    def video(self) -> bool: ...
    @property
    def at_ns(self) -> int: ...
    @property
    def timestamp(self) -> int: ...
    @property
    def keyframe(self) -> bool: ...
    @property
    def lost(self) -> bool: ...
    @property
    def data(self) -> bytes: ...
    @property
    def sps(self) -> bytes: ...
    @property
    def pps(self) -> tuple[bytes, ...]: ...


class Unit(NamedTuple):
    """A unit made in Python."""

    stream: str
    session: int
    video: bool
    at_ns: int
    timestamp: int
    keyframe: bool
    lost: bool
    data: bytes
    sps: bytes = b""
    pps: tuple[bytes, ...] = ()
