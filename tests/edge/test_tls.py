"""TLS: self-made certificates, reload without dropping connections, and what is refused."""

import asyncio
import datetime as dt
import hashlib
import os
import signal
import socket
import ssl
from pathlib import Path

import pytest
from cryptography import x509

from edge.settings import Settings
from edge.tls import Certificates, TlsSettings, certificates, fingerprint, make_self_signed
from ops.settings import SettingsError
from tests.edge.conftest import Running, Start

NOW = dt.datetime.now(dt.UTC)
SELF_MADE = TlsSettings(listen=("0.0.0.0:8443",), self_signed=True, names=("nexus.test",))


def write_pair(directory: Path, name: str = "pair") -> TlsSettings:
    certificate, key = make_self_signed([name], NOW)
    (directory / "certificate.pem").write_bytes(certificate)
    (directory / "key.pem").write_bytes(key)
    return TlsSettings(
        listen=("127.0.0.1:8443",),
        certificate=str(directory / "certificate.pem"),
        key=str(directory / "key.pem"),
    )


def test_a_self_made_certificate_is_made_once(tmp_path: Path) -> None:
    first = certificates(SELF_MADE, tmp_path)
    second = certificates(SELF_MADE, tmp_path)
    assert first.fingerprint == second.fingerprint
    assert len(first.fingerprint) == 95
    assert (tmp_path / "tls" / "key.pem").stat().st_mode & 0o777 == 0o600
    made = x509.load_pem_x509_certificate((tmp_path / "tls" / "certificate.pem").read_bytes())
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost", "nexus.test"]
    addresses = [str(address) for address in names.get_values_for_type(x509.IPAddress)]
    assert addresses == ["127.0.0.1", "::1"]


def test_files_that_cannot_be_used_stop_the_start(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="No such file"):
        Certificates(tmp_path / "none.pem", tmp_path / "none.pem")
    settings = write_pair(tmp_path)
    (tmp_path / "key.pem").write_bytes(make_self_signed(["other"], NOW)[1])
    with pytest.raises(SettingsError, match=r"tls\.certificate"):
        certificates(settings, tmp_path)


@pytest.mark.parametrize(
    "wrong",
    [
        {"listen": ("0.0.0.0:8443",)},
        {"certificate": "a.pem"},
        {"listen": ("8443",), "self_signed": True},
    ],
)
def test_settings_that_make_no_sense(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        TlsSettings(**wrong)


def test_a_new_pair_is_taken_and_a_broken_one_is_not(tmp_path: Path) -> None:
    found = certificates(write_pair(tmp_path), tmp_path)
    assert not found.reload(only_when_changed=True)
    write_pair(tmp_path, "second")
    assert found.reload(only_when_changed=True)
    assert not found.reload(only_when_changed=True)
    (tmp_path / "certificate.pem").write_text("broken")
    assert not found.reload(only_when_changed=True)
    assert not found.reload()


async def test_https_serves_all_and_a_reload_drops_nobody(start: Start, tmp_path: Path) -> None:
    settings = write_pair(tmp_path)
    running: Running = await start(https=True, tls=settings)
    running.shelf.put("demo", "v/live.m3u8", b"#EXTM3U\n")
    running.shelf.put("demo", "v/s0.m4s", b"x" * 500_000)
    old = fingerprint(tmp_path / "certificate.pem")
    lines = ["GET /hls/demo/v/live.m3u8 HTTP/1.1", "Host: localhost", "", ""]
    playlist = "\r\n".join(lines).encode()
    live = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"

    reader, writer = await _open(running.https_port)
    assert _seen(writer) == old
    for data, expected in (
        (playlist, b"#EXTM3U\n"),
        (playlist.replace(b"live.m3u8", b"s0.m4s"), b"x" * 500_000),
        (live, b'"ok"}'),
        (playlist, b"#EXTM3U\n"),
    ):
        writer.write(data)
        assert (await reader.readuntil(expected)).startswith(b"HTTP/1.1 200 OK")
    write_pair(tmp_path, "second")
    os.kill(os.getpid(), signal.SIGHUP)
    writer.write(live)
    assert (await reader.readuntil(b'"ok"}')).startswith(b"HTTP/1.1 200 OK")
    writer.close()
    new = fingerprint(tmp_path / "certificate.pem")
    assert new != old
    seen = old
    async with asyncio.timeout(10):
        while seen != new:
            _, second = await _open(running.https_port)
            seen = _seen(second)
            second.close()


async def test_sighup_without_https_ends_nobody(running: Running) -> None:
    os.kill(os.getpid(), signal.SIGHUP)
    said = await running.raw(b"GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 200 ")


async def test_strangers_to_tls_are_refused(start: Start, tmp_path: Path) -> None:
    running: Running = await start(https=True, tls=write_pair(tmp_path))
    with socket.create_connection(("127.0.0.1", running.https_port)) as plain:
        plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
    said = await running.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n")
    assert said.startswith(b"HTTP/1.1 400 ")


def test_the_sections_fit_together() -> None:
    assert Settings(tls=SELF_MADE).tls.listen == ("0.0.0.0:8443",)


async def _open(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return await asyncio.open_connection("127.0.0.1", port, ssl=context, limit=1 << 20)


def _seen(writer: asyncio.StreamWriter) -> str:
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))
