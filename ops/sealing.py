"""Fields that are stored encrypted: AES-256-GCM, bound to the column, the tenant and the row.

    version (1) | key number (4) | nonce (12) | ciphertext | tag (16)

The associated data is `schema.table.column|tenant|row id`, so that a ciphertext that is moved to
another row, column or tenant does not open. Each tenant has a data key of its own, derived (HKDF,
RFC 5869) from the node's key ring until key-service wraps real ones. A blind index is
HMAC-SHA-256 of the normalised value under a key of the tenant and column: it finds equal values,
and orders nothing.
"""

import hashlib
import hmac
import os
import secrets
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

VERSION: Final = 1
KEY_BYTES: Final = 32
_NONCE_BYTES: Final = 12
_HEAD_BYTES: Final = 5
_DERIVED_MAX: Final = 10_000
"""Data keys that are kept derived."""


class SealBrokenError(Exception):
    """A ciphertext does not open: it was changed, moved, or its key is gone. A bug or an attack."""


class KeyRing:
    """The node's root keys by number; the highest seals, all open."""

    def __init__(self, keys: Mapping[int, bytes]) -> None:
        assert keys, "a key ring needs a key"
        assert all(len(key) == KEY_BYTES for key in keys.values())
        self._keys = dict(keys)
        self.current = max(self._keys)
        self._ciphers: OrderedDict[tuple[int, str], AESGCM] = OrderedDict()

    @classmethod
    def from_file(cls, path: Path) -> "KeyRing":
        """Reads the key file, JSON `{"1": "<64 hexadecimal digits>"}`; makes one where none is."""
        try:
            text = path.read_bytes()
        except FileNotFoundError:
            made = msgspec.json.encode({"1": secrets.token_hex(KEY_BYTES)})
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            # Whoever comes second reads what the first one wrote.
            draft = path.with_suffix(f".{os.getpid()}")
            draft.touch(mode=0o600)
            draft.write_bytes(made)
            try:
                os.link(draft, path)
            except FileExistsError:
                pass
            finally:
                draft.unlink()
            text = path.read_bytes()
        keys = msgspec.json.decode(text, type=dict[int, str], strict=False)
        return cls({number: bytes.fromhex(key) for number, key in keys.items()})

    def seal(self, value: str, *, column: str, tenant: str, row: str) -> bytes:
        """Encrypts a value for one row. column: `schema.table.column`."""
        nonce = os.urandom(_NONCE_BYTES)
        cipher = self._cipher(self.current, tenant)
        sealed = cipher.encrypt(nonce, value.encode(), _place(column, tenant, row))
        return bytes((VERSION,)) + self.current.to_bytes(4, "big") + nonce + sealed

    def open(self, sealed: bytes, *, column: str, tenant: str, row: str) -> str:
        """Raises SealBrokenError."""
        head, rest = sealed[:_HEAD_BYTES], sealed[_HEAD_BYTES:]
        number = int.from_bytes(head[1:], "big")
        if head[:1] != bytes((VERSION,)) or number not in self._keys:
            raise SealBrokenError(f"{column}: no key {number}")
        nonce, body = rest[:_NONCE_BYTES], rest[_NONCE_BYTES:]
        try:
            opened = self._cipher(number, tenant).decrypt(nonce, body, _place(column, tenant, row))
        except (InvalidTag, ValueError):
            raise SealBrokenError(f"{column}: the value was changed or moved") from None
        return opened.decode()

    def blind(self, value: str, *, column: str, tenant: str) -> bytes:
        """The blind index of a normalised value: 32 bytes, equal for equal values."""
        key = self._derive(min(self._keys), f"blind|{column}|{tenant}")
        return hmac.digest(key, value.encode(), hashlib.sha256)

    def secret(self, purpose: str) -> bytes:
        """32 bytes for signing things of ours, such as cursors."""
        return self._derive(min(self._keys), f"secret|{purpose}")

    def _cipher(self, number: int, tenant: str) -> AESGCM:
        known = self._ciphers.get((number, tenant))
        if known is None:
            known = AESGCM(self._derive(number, f"data|{tenant}"))
            self._ciphers[number, tenant] = known
            if len(self._ciphers) > _DERIVED_MAX:
                self._ciphers.popitem(last=False)
        return known

    def _derive(self, number: int, purpose: str) -> bytes:
        derivation = HKDF(SHA256(), KEY_BYTES, salt=None, info=f"nexus|{purpose}".encode())
        return derivation.derive(self._keys[number])


def _place(column: str, tenant: str, row: str) -> bytes:
    assert "|" not in column + tenant, "the parts must stay apart"
    return f"{column}|{tenant}|{row}".encode()
