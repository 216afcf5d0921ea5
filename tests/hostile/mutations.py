"""Mutations by a seed, of bytes and of lines: what `media/native/tests/fuzz/mutate.rs` does there.

The same seed gives the same inputs on every machine; a test prints what failed.
"""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Final

CAPTURED: Final = Path(__file__).resolve().parents[2] / "media/native/tests/fuzz/captured.txt"
BYTES_MAX: Final = 1_400
EDGES: Final = (0, 1, 2, 7, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)
STRANGE: Final = ("", "*", "-1", "+1", "\u00e9", "%00", "0" * 20, "1e9", "../..", "\x00", "a=", "&")


def captured(*kinds: str) -> list[bytes]:
    """What was said in a valid session, of these kinds; of all without any."""
    rows = (line.split(" ") for line in CAPTURED.read_text().splitlines())
    return [bytes.fromhex(data) for kind, data in rows if not kinds or kind in kinds]


def mutate(chance: random.Random, seed: bytes, others: Sequence[bytes] = ()) -> bytes:
    """A few mutations of `seed`; pieces of `others` are spliced in."""
    data = bytearray(seed)
    for _ in range(chance.randint(1, 4)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(8):
            case 0 if at < len(data):
                data[at] ^= 1 << chance.randrange(8)
            case 1:
                size = chance.choice((1, 2, 4))
                data[at : at + size] = (chance.choice(EDGES) % (1 << 8 * size)).to_bytes(size)
            case 2:
                del data[at:]
            case 3:
                data += chance.randbytes(chance.randint(1, 40))
            case 4:
                piece = data[at : at + chance.randint(1, 64)]
                data[at:at] = piece * chance.randint(1, 8)
            case 5:
                del data[at : at + chance.randint(1, 16)]
            case 6 if others:
                other = chance.choice(others)
                data[at:] = other[chance.randrange(len(other) + 1) :]
            case _:
                data[at : at + chance.randint(1, 8)] = chance.choice((b"", b"\0", b"\xff"))
    return bytes(data)


def mutate_text(chance: random.Random, seed: str, others: Sequence[str] = ()) -> bytes:
    """Lines lost, doubled and moved, words and numbers changed; sometimes bytes as well."""
    lines = seed.splitlines()
    for _ in range(chance.randint(1, 4)):
        if not lines:
            break
        at = chance.randrange(len(lines))
        match chance.randrange(7):
            case 0:
                del lines[at]
            case 1:
                lines[at:at] = [lines[at]] * chance.choice((1, 2, 3, 300))
            case 2:
                lines[at] = " ".join(
                    chance.choice((word, word, chance.choice(STRANGE)))
                    for word in lines[at].split(" ")
                )
            case 3 if others:
                lines.insert(at, chance.choice(chance.choice(others).splitlines() or [""]))
            case 4:
                digits = [i for i, c in enumerate(lines[at]) if c.isdigit()]
                if digits:
                    i = chance.choice(digits)
                    lines[at] = f"{lines[at][:i]}{chance.choice(EDGES)}{lines[at][i + 1 :]}"
            case 5:
                lines[at] += "x" * chance.choice((1, 100, 5_000))
            case _:
                lines[at:] = []
    text = (chance.choice(("\r\n", "\r\n", "\n")).join(lines) + "\r\n").encode()
    return mutate(chance, text) if chance.random() < 0.25 else text
