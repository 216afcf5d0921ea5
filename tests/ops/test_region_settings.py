"""Settings of regions: what cannot be meant stops the start."""

import pytest

from ops.region_settings import PeerSettings, RegionSettings, check_regions
from ops.settings import SettingsError

KEY = "x" * 32
US = PeerSettings(region="us1", url="https://us1.example.org", key=KEY)


@pytest.mark.parametrize(
    ("changed", "word"),
    [
        ({"region": "usa"}, "region:"),
        ({"url": "us1.example.org"}, "url:"),
        ({"url": "https://us1.example.org/path"}, "url:"),
        ({"public_url": "nowhere"}, "public_url:"),
        ({"key": "short"}, "key:"),
    ],
)
def test_a_peer_is_whole(changed: dict[str, str], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        PeerSettings(**{"region": "us1", "url": "https://us1.example.org", "key": KEY, **changed})


def test_a_region_is_named_once() -> None:
    with pytest.raises(ValueError, match="two have the same region"):
        RegionSettings(peers=(US, US))
    with pytest.raises(ValueError, match="directory:"):
        RegionSettings(directory="here")


def test_a_region_is_no_peer_of_itself_and_the_directory_is_known() -> None:
    check_regions(RegionSettings(), "eu1")
    check_regions(RegionSettings(peers=(US,), directory="us1"), "eu1")
    with pytest.raises(SettingsError) as caught:
        check_regions(RegionSettings(peers=(US,), directory="ap1"), "us1")
    assert len(caught.value.problems) == 2


def test_clients_are_told_the_public_address() -> None:
    inside = PeerSettings(
        region="ap1", url="http://10.0.0.1", key=KEY, public_url="https://ap1.example.org"
    )
    settings = RegionSettings(peers=(US, inside))
    assert settings.public_url("us1") == "https://us1.example.org"
    assert settings.public_url("ap1") == "https://ap1.example.org"
    assert settings.public_url("eu1") == ""
