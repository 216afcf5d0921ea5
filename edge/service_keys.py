"""The keys that a node's services encrypt with, from a file beside the region's state.

All processes of all nodes with the same state need the same file. Until key-service wraps keys it
is the operator's to keep: without it nothing opens what was sealed.
"""

from typing import Final

from ops.sealing import KeyRing
from ops.state.places import Settings, places

FILE: Final = "keys.json"


def key_ring(settings: Settings) -> KeyRing:
    """Reads `<state.data_dir>/<region>/keys.json`; makes one where none is. Raises OSError."""
    return KeyRing.from_file(places(settings).folder / FILE)
