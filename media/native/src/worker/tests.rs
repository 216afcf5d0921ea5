use super::*;
use crate::handshake::{Flow, NewPeer, Peer, Plan};
use crate::link::{LinkRec, RoundTrip};
use crate::outbox::Event;
use crate::packet::Packet;
use crate::sdp::{self, Codec};
use crate::shared::{Limits, Mailbox};
use crate::srtp::{Keys, Window};
use crate::viewer::{OutTrack, Viewer, ViewerRec};
use std::net::UdpSocket;
use std::sync::mpsc::sync_channel;

fn worker() -> Worker {
    let (sender, commands) = sync_channel(64);
    let wake = Arc::new(EventFd::new().unwrap());
    let mailbox = Mailbox {
        sender,
        wake: wake.clone(),
    };
    let limits = Limits {
        gop_bytes_max: 1 << 20,
        sessions_max: 10,
        early_bytes_max: 64 * 96,
        ..Limits::default()
    };
    let shared = Arc::new(Shared::new(limits, vec![mailbox]).unwrap());
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    Worker::new(0, Port::new(socket, true).unwrap(), commands, wake, shared)
}

/// A session of stream "s" that has said its offer and nothing else.
fn opening(w: &mut Worker, id: u64) -> Box<Peer> {
    let stream = w.shared.join("s").unwrap();
    assert!(w.shared.reserve());
    w.shared.register(id, 0);
    let remote = sdp::Remote {
        ufrag: "r".into(),
        pwd: "p".into(),
        fingerprint: vec![0; 32],
        we_are_active: false,
    };
    let new = NewPeer {
        id,
        stream,
        ufrag: format!("u{id}"),
        pwd: "p".into(),
        remote,
        plan: Plan::Play(vec![]),
        ssrc: 9,
        now: now_ns(),
    };
    let certificate = crate::dtls::Certificate::generate().unwrap();
    Box::new(Peer::new(new, &certificate).unwrap())
}

/// A connected viewer of stream "s", without its handshake.
fn viewer(w: &mut Worker, id: u64) -> (usize, UdpSocket) {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut peer = opening(w, id);
    let stream = peer.stream.clone();
    let link = LinkRec {
        id,
        stream: "s".into(),
        ufrag: "u".into(),
        pwd: "p".into(),
        addr: client.local_addr().unwrap(),
        keys: Keys {
            material: vec![7; 56],
            profile: 1,
            active: false,
        },
        ssrc: 9,
        rtcp_next: 1,
        rtcp_seen: Window::default(),
        heard_ns: now_ns(),
        doubt_ns: None,
        round_trip: RoundTrip::default(),
    };
    let rec = ViewerRec {
        link,
        tracks: vec![OutTrack::new(Codec::H264, 96, 0x1111)],
        next_report_ns: 0,
    };
    peer.flow = Flow::View(Box::new(Viewer::new(rec, false)));
    let slot = w.peers.insert(peer);
    w.local(&stream).viewers.push(slot);
    (slot, client)
}

fn packet(size: usize) -> Packet {
    Packet {
        codec: Codec::H264,
        key: true,
        marker: true,
        index: 1 << 20,
        ts: 0,
        payload: vec![1; size].into(),
    }
}

#[test]
fn a_panic_ends_its_peer_and_nobody_else() {
    let mut w = worker();
    let (slot, _client) = viewer(&mut w, 1);
    let stream = w.peers.get(slot).unwrap().stream.id;
    w.deliver(stream, &[packet(100_000)]); // far over what a datagram can be: an assertion fails
    assert_eq!(w.stats.panics, 1);
    assert!(w.peers.get(slot).is_none());
    let closed: Vec<Event> = w.shared.outbox.take_events();
    assert_eq!(closed.len(), 1);
    assert_eq!(closed[0].detail, "failed: internal fault");
    let (_, client) = viewer(&mut w, 2);
    let stream = w.shared.find("s").unwrap().id;
    w.deliver(stream, &[packet(1_000)]);
    w.port.flush();
    client
        .set_read_timeout(Some(Duration::from_secs(2)))
        .unwrap();
    assert_eq!(client.recv(&mut [0; 2_048]).unwrap(), 12 + 1_000 + 16);
}

#[test]
fn a_session_that_is_closed_frees_its_place_and_its_stream() {
    let mut w = worker();
    let (slot, _client) = viewer(&mut w, 1);
    w.close(slot, "closed by request");
    w.close(slot, "closed by request");
    assert_eq!(w.shared.outbox.take_events().len(), 1, "closed comes once");
    assert!(w.shared.find("s").is_none());
    while let Ok(command) = w.commands.try_recv() {
        w.command(command);
    }
    assert!(w.streams.is_empty());
    assert_eq!(w.peers.len(), 0);
}

#[test]
fn a_tap_that_is_taken_off_leaves_nothing() {
    let mut w = worker();
    let on = w.shared.set_tapped("t", true).unwrap();
    w.command(Command::Tap(on, true));
    assert_eq!(w.streams.len(), 1);
    let off = w.shared.set_tapped("t", false).unwrap();
    while let Ok(command) = w.commands.try_recv() {
        w.command(command);
    }
    w.command(Command::Tap(off, false));
    assert!(w.streams.is_empty());
}

#[test]
fn early_binding_requests_are_bounded() {
    let mut w = worker();
    let from = RawAddr::new("127.0.0.1:9".parse().unwrap(), false);
    let key = crate::stun::key("p");
    let ask = crate::stun::Ask {
        transaction: [1; 12],
        username: "nobody:me",
        priority: 1,
        tie_breaker: 1,
        nominate: true,
    };
    let mut b = [0; crate::stun::REQUEST_BYTES_MAX];
    let len = crate::stun::request(&ask, &key, &mut b);
    for _ in 0..1_000 {
        w.datagram(&mut b[..len], from, 5);
    }
    let kept = w.shared.limits.early_bytes_max / len;
    assert_eq!(w.early.len(), kept);
    assert_eq!(w.stats.early_dropped, 1_000 - kept as u64);
    w.datagram(&mut b[..len], from, 100_000_000);
    assert_eq!(w.early.len(), 1, "old ones are forgotten");
    assert_eq!(w.early_bytes, len);
}

mod limits;
