"""TLS for the public port: certificates from files or self-made, replaced without dropping anybody.

The files are read again on SIGHUP (`edge/worker.py`) and when they change; connections that exist
keep their keys, new handshakes use the new certificate. A pair that does not fit is refused and the
former one goes on. A self-made certificate is for trying cameras off localhost: browsers warn of
it, once. No ACME.
"""

import contextlib
import datetime as dt
import hashlib
import ipaddress
import os
import ssl
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.http_settings import split_address
from ops.log import get_logger
from ops.settings import SettingsError, setting

CHECK_SECONDS: Final = 10.0
"""How often the files are looked at for changes."""
_SELF_SIGNED_DAYS: Final = 397
_BACKDATED_MINUTES: Final = 60
_NAMES_MAX: Final = 32

_log = get_logger("edge.tls")


@dataclass(frozen=True, slots=True)
class TlsSettings:
    """HTTPS beside HTTP: cameras work only over HTTPS, except on localhost."""

    listen: tuple[str, ...] = setting(
        (), "Addresses to listen on for HTTPS, such as 0.0.0.0:8443; empty for none."
    )
    certificate: str = setting("", "File with the certificate chain, PEM.")
    key: str = setting("", "File with the private key, PEM.")
    self_signed: bool = setting(
        default=False,
        help="Whether to make a certificate when the files are missing; browsers will warn of it.",
    )
    names: tuple[str, ...] = setting(
        (), "Further host names and addresses for the self-made certificate."
    )

    def __post_init__(self) -> None:
        for address in self.listen:
            split_address(address)
        if bool(self.certificate) != bool(self.key):
            raise ValueError("certificate: give certificate and key, or neither")
        if self.listen and not self.certificate and not self.self_signed:
            raise ValueError("listen: HTTPS needs certificate and key, or self_signed = true")


class Certificates:
    """The certificate in use, and the SSL context that carries it."""

    def __init__(self, certificate: Path, key: Path) -> None:
        """Raises: SettingsError when the files cannot be used."""
        self._certificate = certificate
        self._key = key
        self._seen = self._mark()
        try:
            self.context = _context(certificate, key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(f"tls.certificate: {certificate}: {_reason(error)}") from error

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate in use, as browsers show it."""
        return fingerprint(self._certificate)

    def reload(self, *, only_when_changed: bool = False) -> bool:
        """Takes the files' present content for new handshakes; False when nothing was taken."""
        mark = self._mark()
        if only_when_changed and mark == self._seen:
            return False
        self._seen = mark
        try:
            _context(self._certificate, self._key)
            self.context.load_cert_chain(self._certificate, self._key)
        except (OSError, ssl.SSLError) as error:
            _log.error("the new certificate is not used", reason=_reason(error))
            return False
        _log.info("new certificate", fingerprint=self.fingerprint)
        return True

    def _mark(self) -> tuple[tuple[int, int, int], ...]:
        marks = []
        for path in (self._certificate, self._key):
            try:
                info = path.stat()
            except OSError:
                marks.append((0, 0, 0))
            else:
                marks.append((info.st_mtime_ns, info.st_size, info.st_ino))
        return tuple(marks)


def certificates(settings: TlsSettings, run_dir: Path) -> Certificates:
    """The node's certificates; makes them when asked to and missing. Raises: SettingsError."""
    if settings.certificate:
        certificate, key = Path(settings.certificate), Path(settings.key)
    else:
        certificate, key = run_dir / "tls" / "certificate.pem", run_dir / "tls" / "key.pem"
    if settings.self_signed and not certificate.exists():
        hosts = [split_address(address)[0] for address in settings.listen]
        _make_once(certificate, key, [*hosts, *settings.names])
    return Certificates(certificate, key)


def fingerprint(certificate: Path) -> str:
    """SHA-256 of the first certificate in a PEM file, pairs of digits with colons."""
    der = x509.load_pem_x509_certificate(certificate.read_bytes()).public_bytes(
        serialization.Encoding.DER
    )
    digest = hashlib.sha256(der).hexdigest().upper()
    return ":".join(digest[at : at + 2] for at in range(0, len(digest), 2))


def make_self_signed(names: Sequence[str], now: dt.datetime) -> tuple[bytes, bytes]:
    """Certificate and key, PEM, for these host names and addresses (ECDSA P-256)."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Nexus COS, self-made")])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(minutes=_BACKDATED_MINUTES))
        .not_valid_after(now + dt.timedelta(days=_SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName(_alternative_names(names)), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    )
    certificate = builder.sign(key, hashes.SHA256())
    return (
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def _alternative_names(names: Sequence[str]) -> list[x509.GeneralName]:
    found: dict[str, x509.GeneralName] = {}
    for name in ("localhost", "127.0.0.1", "::1", *names):
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            found[name] = x509.DNSName(name)
        else:
            if not address.is_unspecified:
                found[name] = x509.IPAddress(address)
    return list(found.values())[:_NAMES_MAX]


def _make_once(certificate: Path, key: Path, names: Sequence[str]) -> None:
    """Several workers start at once: one makes the pair under a lock, all use it."""
    certificate.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    key.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(certificate.parent / ".lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        os.lockf(lock, os.F_LOCK, 0)
        if certificate.exists():
            return
        made, secret = make_self_signed(names, dt.datetime.now(dt.UTC))
        _write(key, secret, stat.S_IRUSR | stat.S_IWUSR)
        _write(certificate, made, 0o644)
        _log.warning(
            "made a certificate of our own; browsers will warn of it",
            certificate=str(certificate),
            fingerprint=fingerprint(certificate),
        )
    finally:
        os.close(lock)


def _write(path: Path, data: bytes, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_CREAT | os.O_WRONLY | os.O_TRUNC | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        temporary.replace(path)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def _context(certificate: Path, key: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    context.load_cert_chain(certificate, key)
    return context


def _reason(error: OSError | ssl.SSLError) -> str:
    if isinstance(error, ssl.SSLError):
        return error.reason or "certificate and key do not fit"
    return error.strerror or str(error)
