"""Ids: their shape, their order, and that secret ones differ."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.errors import Rejected
from ops.ids import SECRET_CHARACTERS, IdMaker, is_id, parse, secret_id
from tests.fakes.clock import FakeClock


def test_an_id_says_what_it_is() -> None:
    clock = FakeClock(unix=1_750_000_000.5)
    text = IdMaker("eu1", clock=clock).new("str")
    found = parse(text)
    assert (found.prefix, found.region, found.unix_ms) == ("str", "eu1", 1_750_000_000_500)
    assert str(found) == text
    assert text.startswith("str_eu1_01")
    assert len(found.ulid) == 26
    assert is_id(text, prefix="str")
    assert not is_id(text, prefix="ses")


@given(st.lists(st.floats(-1000, 1000), min_size=2, max_size=30))
def test_ids_grow_whatever_the_clock_does(steps: list[float]) -> None:
    clock = FakeClock()
    maker = IdMaker(clock=clock)
    made = []
    for step in steps:
        clock.step(step)
        made.append(maker.new("str"))
    assert made == sorted(made)
    assert len(set(made)) == len(made)


def test_the_random_part_may_overflow() -> None:
    maker = IdMaker(clock=FakeClock(), random_bits=lambda bits: (1 << bits) - 1)
    made = [maker.new("str") for _ in range(3)]
    assert made == sorted(set(made))


def test_time_is_written_as_the_ulid_specification_does() -> None:
    """Its own example: 1469918176385 ms is 01ARYZ6S41."""
    maker = IdMaker(clock=FakeClock(unix=1_469_918_176.3851), random_bits=lambda _: 0)
    assert parse(maker.new("str")).ulid == "01aryz6s41" + "0" * 16


@pytest.mark.parametrize(
    "text",
    ["", "str_eu1_", "str_eu1_01ARZ3NDEKTSV4RRFFQ69G5FAV", "str_eu_01arz3ndektsv4rrffq69g5fav",
     "str_eu1_81arz3ndektsv4rrffq69g5fav", "str_eu1_01arz3ndektsv4rrffq69g5fai",
     "str_eu1_01arz3ndektsv4rrffq69g5fav\n"],
)  # fmt: skip
def test_what_is_no_id(text: str) -> None:
    assert not is_id(text)
    with pytest.raises(Rejected) as caught:
        parse(text)
    assert caught.value.code == "id.malformed"


def test_wrong_prefix_and_region_are_bugs() -> None:
    with pytest.raises(ValueError, match="region"):
        IdMaker("europe")
    with pytest.raises(ValueError, match="prefix"):
        IdMaker().new("Stream")


def test_secret_ids_cannot_be_guessed() -> None:
    made = {secret_id() for _ in range(1000)}
    assert len(made) == 1000
    assert {len(text) for text in made} == {SECRET_CHARACTERS}
    assert len({text[0] for text in made}) > 16
