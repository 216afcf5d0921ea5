"""What the doctor finds on machines that are well and on ones that are not."""

import datetime as dt
import socket
from dataclasses import replace
from pathlib import Path

import pytest

from edge import doctor
from edge.doctor import Finding
from edge.settings import Settings
from tests.fakes.certificates import make_certificate


def settings(**edge: object) -> Settings:
    made = Settings()
    return replace(
        made,
        edge=replace(made.edge, **{"listen": ("127.0.0.1:0",), **edge}),
        webrtc=replace(made.webrtc, listen="127.0.0.1", port=0, workers=1),
    )


def find(findings: list[Finding], check: str) -> Finding:
    return next(finding for finding in findings if finding.check.startswith(check))


def test_a_machine_that_is_well() -> None:
    findings = doctor.examine(settings())
    for check in ("python", "libraries", "codecs", "access", "http 127.0.0.1:0", "udp 127.0.0.1:0"):
        assert find(findings, check).state == "ok", find(findings, check)
    text = doctor.as_text(findings)
    assert len(text.splitlines()) >= len(findings)
    assert all(finding.advice for finding in findings if finding.state != "ok")


def test_a_port_in_use_is_a_fault_that_names_its_holder() -> None:
    with socket.socket() as taken, socket.socket(type=socket.SOCK_DGRAM) as udp:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        udp.bind(("127.0.0.1", 0))
        tcp_port, udp_port = taken.getsockname()[1], udp.getsockname()[1]
        base = settings(listen=(f"127.0.0.1:{tcp_port}",))
        findings = doctor.examine(replace(base, webrtc=replace(base.webrtc, port=udp_port)))
    tcp, datagrams = find(findings, f"http 127.0.0.1:{tcp_port}"), find(findings, "udp 127.0.0.1")
    for finding in (tcp, datagrams):
        assert finding.state == "fail"
        assert "holds it" in finding.detail
        assert finding.advice
    assert doctor.is_ill(findings)


def test_strangers_without_keys_are_a_fault() -> None:
    findings = doctor.examine(settings(listen=("0.0.0.0:0",)))
    assert find(findings, "access").state == "fail"


def test_few_open_files_are_a_warning() -> None:
    findings = doctor.examine(settings(connections_max=1_000_000))
    finding = find(findings, "open files")
    assert finding.state in {"ok", "warn"}
    assert ("1000256" in finding.advice) == (finding.state == "warn")


def test_a_run_directory_on_disk_or_read_only(tmp_path: Path) -> None:
    base = settings()
    there = replace(base, node=replace(base.node, run_dir=tmp_path / "run"))
    finding = find(doctor.examine(there), "run directory")
    assert str(tmp_path) in finding.detail
    nowhere = replace(base, node=replace(base.node, run_dir=Path("/proc/nexus")))
    assert find(doctor.examine(nowhere), "run directory").state == "fail"


@pytest.mark.parametrize(("days", "state"), [(300, "ok"), (5, "warn"), (-1, "fail")])
def test_certificates(tmp_path: Path, days: int, state: str) -> None:
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    make_certificate(certificate, key, dt.datetime.now(dt.UTC) + dt.timedelta(days=days))
    base = settings()
    tls = replace(base.tls, listen=("127.0.0.1:0",), certificate=str(certificate), key=str(key))
    assert find(doctor.examine(replace(base, tls=tls)), "tls").state == state
    key.write_text("nonsense")
    assert find(doctor.examine(replace(base, tls=tls)), "tls").state == "fail"
