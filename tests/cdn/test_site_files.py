"""The files that an operator fills in, as they are shipped: TLS, HTTP/2, logs without links."""

import datetime as dt
import re
import socket
import ssl
from pathlib import Path

import pytest

from edge.tls import make_self_signed
from tests.cdn.conftest import CACHE, SECRETS_CONF, VIEWER, Origin, link
from tests.cdn.servers import FILES, Nginx, RemoteEdge
from tests.end_to_end.family import free_port

NAMES = {"remote": "cdn.example.org", "origin": "live.example.org"}


def site(folder: Path, role: str, port: int) -> str:
    """site.conf with this machine's certificate, port and log."""
    certificate, key = make_self_signed((NAMES[role],), dt.datetime.now(dt.UTC))
    (folder / "fullchain.pem").write_bytes(certificate)
    (folder / "privkey.pem").write_bytes(key)
    text = (FILES / role / "nexus" / "site.conf").read_text()
    text = re.sub(r"/etc/letsencrypt/live/[^/]+/", f"{folder}/", text)
    text = re.sub(r"listen \[::\]:443 [^;]+;\n", "", text)
    text = text.replace("listen 443 ", f"listen 127.0.0.1:{port} ")
    return text.replace("/var/log/nginx/", f"{folder}/")


def ask_by_tls(port: int, name: str, path: str) -> bytes:
    """The head of the answer, over TLS that is checked for the server's name alone."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as stream,
    ):
        stream.sendall(f"GET {path} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n".encode())
        return b"".join(iter(lambda: stream.recv(65_536), b""))


def speaks(port: int, name: str) -> str | None:
    """The protocol that TLS agrees on."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
        context.wrap_socket(plain, server_hostname=name) as stream,
    ):
        return stream.selected_alpn_protocol()


@pytest.mark.parametrize("role", ["remote", "origin"])
def test_tls_http_2_and_a_log_without_links(
    role: str, origin: Origin, remote: RemoteEdge, tmp_path: Path
) -> None:
    port, folder = free_port(), link()
    places = {
        "remote": {"/run/nexus-varnish/viewers.sock": str(remote.varnish.socket)},
        "origin": {
            "127.0.0.1:8080": f"127.0.0.1:{origin.port}",
            "/dev/shm/nexus-nginx": f"{tmp_path}/cache",
        },
    }
    nginx = Nginx(
        tmp_path / "nginx",
        role,
        replaced=places[role],
        secrets=SECRETS_CONF,
        site=site(tmp_path, role, port),
        key=CACHE,
        port=port,
    )
    with nginx:
        answer = ask_by_tls(port, NAMES[role], f"{folder}/index.m3u8")
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n"), answer
        assert b"v/live.m3u8" in answer
        assert speaks(port, NAMES[role]) == "h2"
        ask_by_tls(port, NAMES[role], f"/hls/~{VIEWER}/demo/index.m3u8")
    log = (tmp_path / "nexus.log").read_text()
    assert "demo/index.m3u8" in log
    assert folder.split("/")[2] not in log
    assert VIEWER not in log


def test_the_sample_secrets_are_what_the_origin_takes() -> None:
    for role in NAMES:
        text = (FILES / role / "nexus" / "secrets.conf").read_text()
        assert re.search(r'^[a-z0-9]{1,16} "[A-Za-z0-9_-]{32,128}";$', text, re.MULTILINE), role
