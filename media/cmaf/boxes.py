"""ISO base media boxes as bytes. Knows lengths and names; what goes into a box is its caller's."""

import struct

_BOX = struct.Struct(">I4s").pack
_FULL = struct.Struct(">I4sI").pack


def box(kind: bytes, *content: bytes) -> bytes:
    """A box: its length, its four-letter kind, its content."""
    body = b"".join(content)
    return _BOX(8 + len(body), kind) + body


def full_box(kind: bytes, flags: int, *content: bytes, version: int = 0) -> bytes:
    """A box that opens with a version (8 bits) and flags (24 bits)."""
    body = b"".join(content)
    return _FULL(12 + len(body), kind, version << 24 | flags) + body
