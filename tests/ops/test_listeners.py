"""Binding: real sockets, real conflicts, messages that help."""

import os
import socket
from pathlib import Path

import pytest

from media.messages import MESSAGE_BYTES_MAX
from ops import listeners
from ops.listeners import ListenError


def close(rows: list[list[socket.socket]]) -> None:
    for row in rows:
        for sock in row:
            sock.close()


def test_slots_share_a_port() -> None:
    rows, shown = listeners.tcp_slots(["127.0.0.1:0"], slots=3, backlog=16)
    try:
        ports = {row[0].getsockname()[1] for row in rows}
        assert len(ports) == 1
        assert shown == [f"127.0.0.1:{ports.pop()}"]
        assert len(rows) == 3
    finally:
        close(rows)


def test_a_port_in_use_names_its_holder_even_when_it_shares() -> None:
    """SO_REUSEPORT must not let two nodes take half of each other's connections."""
    rows, shown = listeners.tcp_slots(["127.0.0.1:0"], slots=1, backlog=16)
    try:
        with pytest.raises(ListenError, match=rf"{shown[0]}: process {os.getpid()} .*holds it"):
            listeners.tcp_slots(shown, slots=1, backlog=16)
    finally:
        close(rows)


def test_udp_ports_count_up_and_are_exclusive() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        with pytest.raises(ListenError, match=f"UDP 127.0.0.1:{port}: process {os.getpid()}"):
            listeners.udp_ports("127.0.0.1", port, count=1, ipv6=False)
    socks = listeners.udp_ports("127.0.0.1", 0, count=2, ipv6=False)
    try:
        assert len({sock.getsockname()[1] for sock in socks}) == 2
        assert not any(sock.getblocking() for sock in socks)
    finally:
        close([socks])


def test_a_wildcard_takes_both_families() -> None:
    if not listeners._ipv6_works():
        socks = listeners.udp_ports("0.0.0.0", 0, count=1, ipv6=True)
        assert socks[0].family == socket.AF_INET
        close([socks])
        return
    socks = listeners.udp_ports("0.0.0.0", 0, count=1, ipv6=True)
    try:
        port = socks[0].getsockname()[1]
        socks[0].settimeout(5)
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
            with socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(host.encode(), (host, port))
                assert socks[0].recv(100) == host.encode()
    finally:
        close([socks])


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("8080", "write host:port"),
        ("127.0.0.1:x", "write host:port"),
        ("127.0.0.1:70000", "write host:port"),
        ("no.such.host.invalid:80", "unknown host"),
        ("203.0.113.77:0", "no such address"),
    ],
)
def test_what_cannot_be_listened_on(address: str, said: str) -> None:
    with pytest.raises(ListenError, match=said):
        listeners.tcp_slots([address], slots=1, backlog=16)


def test_a_failure_leaves_no_socket() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ListenError):
        listeners.tcp_slots(["127.0.0.1:0", "203.0.113.77:0"], slots=4, backlog=16)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_links_carry_the_longest_message() -> None:
    one, other = listeners.link()
    with one, other:
        one.settimeout(0)
        assert one.send(bytes(MESSAGE_BYTES_MAX)) == MESSAGE_BYTES_MAX
        assert len(other.recv(MESSAGE_BYTES_MAX + 1)) == MESSAGE_BYTES_MAX
