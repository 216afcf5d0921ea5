"""If-Match and If-None-Match as RFC 9110 has them."""

import pytest

from services._kit.errors import Malformed
from services._kit.versions import etag_of, expected_version, matches


@pytest.mark.parametrize(
    ("header", "version"),
    [
        ("", None),
        ("*", None),
        ('"7"', 7),
        (' "0" ', 0),
        ('"x"', -1),
        ('W/"7"', -1),
        ('"07"', -1),
        ('"1,2"', -1),
    ],
)
def test_if_match_names_a_version(header: str, version: int | None) -> None:
    assert expected_version(header) == version


@pytest.mark.parametrize("header", ["7", '"7', '"1", "2"', '"a"b', ","])
def test_what_is_no_entity_tag_is_refused(header: str) -> None:
    with pytest.raises(Malformed):
        expected_version(header)


def test_if_none_match_compares_weakly() -> None:
    tag = etag_of(7)
    assert matches('"7"', tag=tag)
    assert matches('"1", W/"7"', tag=tag)
    assert matches('"1,x" ,"7"', tag=tag)
    assert matches("*", tag=tag)
    assert not matches("", tag=tag)
    assert not matches('"8"', tag=tag)
