"""Sealed fields open in their own row alone; keys outlive rotation."""

from pathlib import Path

import pytest

from ops.sealing import KeyRing, SealBrokenError

PLACE = {"column": "notes.note.secret", "tenant": "acme", "row": "note_eu1_1"}


@pytest.fixture
def keys() -> KeyRing:
    return KeyRing({1: bytes(32), 2: bytes([2]) * 32})


def test_what_was_sealed_opens(keys: KeyRing) -> None:
    sealed = keys.seal("späť", **PLACE)
    assert keys.open(sealed, **PLACE) == "späť"
    assert "späť".encode() not in sealed
    assert keys.seal("späť", **PLACE) != sealed


@pytest.mark.parametrize("moved", [{"row": "note_eu1_2"}, {"tenant": "b"}, {"column": "a.b.c"}])
def test_a_moved_ciphertext_does_not_open(keys: KeyRing, moved: dict[str, str]) -> None:
    sealed = keys.seal("x", **PLACE)
    with pytest.raises(SealBrokenError):
        keys.open(sealed, **{**PLACE, **moved})


def test_a_changed_ciphertext_does_not_open(keys: KeyRing) -> None:
    sealed = keys.seal("x", **PLACE)
    for place in range(len(sealed)):
        broken = bytearray(sealed)
        broken[place] ^= 1
        with pytest.raises(SealBrokenError):
            keys.open(bytes(broken), **PLACE)
    with pytest.raises(SealBrokenError):
        keys.open(b"", **PLACE)


def test_an_old_key_still_opens(keys: KeyRing) -> None:
    old = KeyRing({1: bytes(32)})
    assert keys.open(old.seal("x", **PLACE), **PLACE) == "x"
    with pytest.raises(SealBrokenError, match="no key 2"):
        old.open(keys.seal("x", **PLACE), **PLACE)


def test_a_blind_index_finds_equal_values(keys: KeyRing) -> None:
    at = {"column": "a.b.c", "tenant": "acme"}
    assert keys.blind("x", **at) == KeyRing({1: bytes(32)}).blind("x", **at)
    assert keys.blind("x", **at) != keys.blind("y", **at)
    assert keys.blind("x", **at) != keys.blind("x", column="a.b.c", tenant="other")
    assert keys.secret("cursor") != keys.secret("other")


def test_the_key_file_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "ring.json"
    first, second = KeyRing.from_file(path), KeyRing.from_file(path)
    assert first.secret("a") == second.secret("a")
    assert path.stat().st_mode & 0o077 == 0
    assert [item.name for item in path.parent.iterdir()] == ["ring.json"]
