"""Which data may leave which region."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops.residency import REACH, DataClass, Residency, may_leave

STRICTER = (Residency.OPEN, Residency.BOUND, Residency.SEALED)
data_classes = st.sampled_from(DataClass)
residencies = st.sampled_from(Residency)
named = st.lists(st.sampled_from(("eu2", "us1")), unique=True)


@pytest.mark.parametrize(
    ("data", "residency", "home", "allowed", "elsewhere"),
    [
        (DataClass.PUBLIC, Residency.SEALED, True, True, True),
        (DataClass.OPERATIONAL, Residency.BOUND, True, True, True),
        (DataClass.OPERATIONAL, Residency.SEALED, True, True, False),
        (DataClass.PERSONAL, Residency.BOUND, True, True, False),
        (DataClass.SENSITIVE, Residency.BOUND, True, False, False),
        (DataClass.PAYMENT, Residency.OPEN, True, True, False),
        (DataClass.PAYMENT, Residency.SEALED, True, False, False),
        (DataClass.MEDIA, Residency.OPEN, True, True, True),
    ],
)
def test_home_allowed_and_elsewhere(
    data: DataClass, residency: Residency, home: bool, allowed: bool, elsewhere: bool
) -> None:
    found = [
        may_leave(data, residency, home="eu1", to=to, regions=("eu2",))
        for to in ("eu1", "eu2", "us1")
    ]
    assert found == [home, allowed, elsewhere]


def test_every_class_has_its_word() -> None:
    for residency in Residency:
        assert set(REACH[residency]) == set(DataClass)


@given(data_classes, st.sampled_from((0, 1)), named, st.sampled_from(("eu1", "eu2", "us1")))
def test_stricter_allows_no_more(data: DataClass, step: int, regions: list[str], to: str) -> None:
    loose, strict = STRICTER[step], STRICTER[step + 1]
    if may_leave(data, strict, home="eu1", to=to, regions=regions):
        assert may_leave(data, loose, home="eu1", to=to, regions=regions)


@given(data_classes, residencies, named)
def test_naming_a_region_takes_nothing_away(
    data: DataClass, residency: Residency, regions: list[str]
) -> None:
    for to in ("eu1", "eu2", "us1"):
        before = may_leave(data, residency, home="eu1", to=to, regions=regions)
        after = may_leave(data, residency, home="eu1", to=to, regions=[*regions, to])
        assert after >= before
    assert may_leave(data, residency, home="eu1", to="eu1")
