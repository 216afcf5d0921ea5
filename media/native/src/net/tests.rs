use super::*;
use std::time::Duration;

fn pair(bind: &str) -> (UdpSocket, UdpSocket) {
    let (a, b) = (UdpSocket::bind(bind), UdpSocket::bind(bind));
    (a.expect("a socket"), b.expect("a socket"))
}

fn receive_all(socket: &UdpSocket, expected: usize) -> Vec<Vec<u8>> {
    socket
        .set_read_timeout(Some(Duration::from_secs(2)))
        .expect("a timeout can be set");
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    (0..expected)
        .map(|_| {
            let n = socket.recv(&mut buffer).expect("a datagram");
            buffer[..n].to_vec()
        })
        .collect()
}

fn exchange(bind: &str, gso: bool) {
    let (a, b) = pair(bind);
    let to = RawAddr::new(b.local_addr().unwrap(), a.local_addr().unwrap().is_ipv6());
    let mut out = TxBatch::new(&a, gso);
    let sizes = [1_000, 1_000, 1_000, 300, 1_000, 20, 1_200];
    for (i, size) in sizes.into_iter().enumerate() {
        out.send(&a, &to, &vec![i as u8; size]);
    }
    out.flush(&a);
    let got = receive_all(&b, sizes.len());
    for (i, (packet, size)) in got.iter().zip(sizes).enumerate() {
        assert_eq!(packet, &vec![i as u8; size], "packet {i}");
    }
    assert_eq!(out.stats.packets, 7);
    assert_eq!(out.stats.drops, 0);
    if out.gso() {
        assert_eq!(out.stats.messages, 3, "four, two and one packets");
    } else {
        assert_eq!(out.stats.messages, 7);
    }
}

#[test]
fn packets_arrive_whole_and_in_order_with_and_without_gso() {
    exchange("127.0.0.1:0", true);
    exchange("127.0.0.1:0", false);
    exchange("[::1]:0", true);
}

#[test]
fn a_batch_over_every_limit_loses_nothing() {
    let (a, b) = pair("127.0.0.1:0");
    let b = duplicate(b.as_raw_fd()).expect("a duplicate");
    let to = RawAddr::new(b.local_addr().unwrap(), false);
    let mut out = TxBatch::new(&a, false);
    for i in 0..600u16 {
        out.send(&a, &to, &i.to_be_bytes());
    }
    out.flush(&a);
    let got = receive_all(&b, 600);
    let numbers: Vec<_> = got
        .iter()
        .map(|p| u16::from_be_bytes([p[0], p[1]]))
        .collect();
    assert_eq!(numbers, (0..600).collect::<Vec<_>>());
}

#[test]
fn a_bad_address_costs_only_its_own_packets() {
    let (a, b) = pair("127.0.0.1:0");
    let good = RawAddr::new(b.local_addr().unwrap(), false);
    let bad = RawAddr::new("127.0.0.1:0".parse().unwrap(), false);
    let mut out = TxBatch::new(&a, true);
    out.send(&a, &bad, b"nowhere");
    out.send(&a, &good, b"here");
    out.flush(&a);
    assert_eq!(receive_all(&b, 1), [b"here"]);
    assert_eq!(out.stats.drops, 1);
}

#[test]
fn addresses_come_back_as_they_were_and_mapped_ones_as_ipv4() {
    for text in ["192.0.2.7:5004", "[2001:db8::7]:5004"] {
        let addr: SocketAddr = text.parse().unwrap();
        assert_eq!(RawAddr::new(addr, addr.is_ipv6()).addr(), addr);
    }
    let v4: SocketAddr = "192.0.2.7:5004".parse().unwrap();
    let mapped = RawAddr::new(v4, true);
    assert_eq!(mapped.addr(), v4);
    assert!(mapped != RawAddr::new(v4, false));
}

#[test]
fn a_dual_stack_socket_shows_ipv4_peers_and_reaches_them() {
    let Ok(server) = UdpSocket::bind("[::]:0") else {
        return; // this machine has no IPv6 at all
    };
    let port = server.local_addr().unwrap().port();
    let client = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    client.send_to(b"hello", ("127.0.0.1", port)).expect("sent");
    let mut rx = RxBatch::new();
    assert!(!wait(&server, -1, Duration::from_secs(2)));
    assert_eq!(rx.receive(&server), 1);
    let (bytes, from) = rx.get(0).expect("a whole datagram");
    assert_eq!(bytes, b"hello");
    assert_eq!(from.addr(), client.local_addr().unwrap());
    let mut out = TxBatch::new(&server, true);
    out.send(&server, &from, b"back");
    out.flush(&server);
    assert_eq!(receive_all(&client, 1), [b"back"]);
}

#[test]
fn what_is_no_socket_is_refused() {
    assert!(duplicate(-1).is_err());
    let file = std::fs::File::open("/dev/null").expect("a file");
    assert!(duplicate(file.as_raw_fd()).is_err());
}
