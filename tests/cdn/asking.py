"""One HTTP request with its header fields, and what a playlist says of where the stream is."""

import http.client
import re
from typing import NamedTuple

HINT = re.compile(rb'PRELOAD-HINT:TYPE=PART,URI="s(\d+)\.(\d+)\.m4s"')
INIT = re.compile(rb'EXT-X-MAP:URI="([^"]+)"')
SEGMENT = re.compile(rb"^s(\d+)\.m4s", re.MULTILINE)


class Answer(NamedTuple):
    """A response; the names of its fields are lower case."""

    status: int
    fields: dict[str, str]
    body: bytes


def ask(
    url: str, path: str, *, method: str = "GET", seconds: float = 20.0, **fields: str
) -> Answer:
    """One request on a connection of its own. Underscores in `fields` stand for hyphens."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=seconds)
    try:
        headers = {name.replace("_", "-"): value for name, value in fields.items()}
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        said = {name.lower(): value for name, value in reply.getheaders()}
        return Answer(reply.status, said, reply.read())
    finally:
        connection.close()


def hinted(playlist: bytes) -> tuple[int, int]:
    """Media sequence number and part that come next."""
    match = HINT.search(playlist)
    assert match is not None, playlist
    return int(match[1]), int(match[2])
