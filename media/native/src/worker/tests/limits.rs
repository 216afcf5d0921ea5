//! What strangers and greedy peers cannot have.

use super::*;
use crate::rate::Allowance;
use crate::rtcp::{self, feedback};
use crate::srtp::{Srtcp, Way};
use crate::stun;

const MS: u64 = 1_000_000;

fn limited(change: impl FnOnce(&mut Limits)) -> Worker {
    let mut w = worker();
    let mut limits = w.shared.limits;
    change(&mut limits);
    let mailbox = Mailbox {
        sender: w.shared.mailboxes[0].sender.clone(),
        wake: w.wake.clone(),
    };
    w.shared = Arc::new(Shared::new(limits, vec![mailbox]).unwrap());
    w
}

/// A compound as viewer `index` of `viewer()` would seal it.
fn sealed(clear: &[u8], index: u32) -> Vec<u8> {
    let keys = Keys {
        material: vec![7; 56],
        profile: 1,
        active: true,
    };
    let seal = Srtcp::new(&keys, Way::Out);
    let mut b = clear.to_vec();
    b.resize(clear.len() + seal.extra(), 0);
    seal.seal(&mut b, index);
    b
}

/// A check that session `id` of `viewer()` answers.
fn check(id: u64) -> Vec<u8> {
    let username = format!("u{id}:them");
    let ask = stun::Ask {
        transaction: [1; 12],
        username: &username,
        priority: 1,
        tie_breaker: 1,
        nominate: true,
    };
    let mut b = [0; stun::REQUEST_BYTES_MAX];
    let len = stun::request(&ask, &stun::key("p"), &mut b);
    b[..len].to_vec()
}

fn raw(addr: &str) -> RawAddr {
    RawAddr::new(addr.parse().unwrap(), false)
}

#[test]
fn an_address_in_use_is_not_taken_away_by_a_check() {
    let mut w = worker();
    let (owner, client) = viewer(&mut w, 1);
    let from = RawAddr::new(client.local_addr().unwrap(), false);
    let now = now_ns();
    w.datagram(&mut check(1), from, now);
    assert_eq!(w.peers.find_addr(from.addr()), Some(owner));
    let (thief, _other) = viewer(&mut w, 2);
    w.datagram(&mut check(2), from, now + 500 * MS);
    assert_eq!(w.peers.find_addr(from.addr()), Some(owner));
    assert_eq!(w.stats.peers_limited, 1);
    w.datagram(&mut check(2), from, now + 1_600 * MS);
    let taken = w.peers.find_addr(from.addr());
    assert_eq!(
        taken,
        Some(thief),
        "a port that fell silent may be used again"
    );
}

#[test]
fn an_address_with_enough_sessions_gets_no_answer() {
    let mut w = limited(|l| l.sessions_per_address_max = 2);
    for id in 1..=3 {
        let (slot, _) = viewer(&mut w, id);
        assert!(w.peers.get(slot).unwrap().addr.is_none());
        w.datagram(&mut check(id), raw(&format!("192.0.2.7:{id}")), now_ns());
    }
    assert_eq!(w.stats.peers_limited, 1);
    w.datagram(&mut check(3), raw("192.0.2.8:3"), now_ns());
    assert_eq!(w.stats.peers_limited, 1, "another address is free");
}

#[test]
fn checks_shorter_than_their_answer_are_not_answered() {
    let mut w = worker();
    let (slot, _client) = viewer(&mut w, 1);
    let mut short = check(1)[..20].to_vec();
    short.extend_from_slice(&[0, 6, 0, 4]);
    short.extend_from_slice(b"u1:x");
    short[2..4].copy_from_slice(&(8u16 + 24).to_be_bytes());
    let mac = aws_lc_rs::hmac::sign(&stun::key("p"), &short);
    short.extend_from_slice(&[0, 8, 0, 20]);
    short.extend_from_slice(mac.as_ref());
    assert!(stun::verify(&short, &stun::key("p")).is_some());
    w.datagram(&mut short, raw("192.0.2.7:9"), now_ns());
    w.port.flush();
    assert_eq!(w.port.out.stats.packets, 0);
    assert!(w.peers.get(slot).unwrap().addr.is_none());
}

#[test]
fn a_forged_hello_brings_its_victim_little() {
    let mut w = worker();
    let peer = opening(&mut w, 1);
    let slot = w.peers.insert(peer);
    w.opening.push(slot);
    let from = raw("127.0.0.1:9");
    let mut hellos = vec![];
    let mine = crate::dtls::Certificate::generate().unwrap();
    let start = std::time::Instant::now();
    let mut forger = crate::dtls::Handshake::new(&mine, true, vec![0; 32], start).unwrap();
    forger.poll(&mut |b: &[u8]| hellos.push(b.to_vec()));
    let mut asked = check(1);
    w.datagram(&mut asked, from, now_ns());
    w.port.flush();
    let answered = w.port.out.stats.bytes;
    assert!(answered <= asked.len() as u64);
    let mut hello = hellos.concat();
    w.datagram(&mut hello, from, now_ns());
    let heard = (asked.len() + hello.len()) as u64;
    let mut told = vec![];
    while start.elapsed() < Duration::from_millis(900) {
        w.tick(now_ns());
        told.push(w.port.out.stats.bytes - answered);
        std::thread::sleep(Duration::from_millis(5));
    }
    let flight = told[0];
    assert!(flight > 500, "the first answer is whole: {flight}");
    let all = *told.last().unwrap();
    assert!(all <= 5 * heard, "{all} bytes for {heard}");
}

#[test]
fn a_viewer_that_asks_too_much_gets_its_share() {
    let mut w = limited(|l| {
        l.keyframes = Allowance::per_minute(3);
        l.feedback = Allowance::per_second(10);
        l.resends = Allowance::per_second(5);
    });
    let (slot, client) = viewer(&mut w, 1);
    let stream = w.peers.get(slot).unwrap().stream.clone();
    for n in 0..40 {
        let packet = Packet {
            index: (1 << 20) + n,
            ..packet(100)
        };
        w.local(&stream).logs[1].insert(packet.clone());
        w.deliver(stream.id, &[packet]);
    }
    let from = RawAddr::new(client.local_addr().unwrap(), false);
    w.peers.claim(from.addr(), slot);
    let mut greedy = vec![];
    let first = 1_000u16 + 0x1111;
    let all: Vec<u16> = (first..first + 30).collect();
    feedback::nack(&mut greedy, 1, 0x1111, &all);
    rtcp::receiver_report(&mut greedy, 1, &[]);
    feedback::pli(&mut greedy, 1, 0x1111);
    let now = now_ns();
    for index in 1..=25 {
        w.datagram(&mut sealed(&greedy, index), from, now);
    }
    assert_eq!(w.stats.feedback_limited, 15);
    assert_eq!(w.stats.keyframes_limited, 7);
    assert_eq!(w.stats.rtx_out, 5);
    assert!(w.stats.resends_limited >= 9 * 30);
    w.datagram(&mut sealed(&greedy, 30), from, now + 2_000 * MS);
    assert_eq!(
        w.stats.rtx_out, 10,
        "a second later it may have as much again"
    );
}

#[test]
fn a_packet_waits_for_others_the_longer_the_more_watch() {
    let mut w = limited(|l| l.hold_ns = 70_000);
    let stream = w.shared.join("s").unwrap().id;
    assert_eq!(w.hold_ns(stream), 0);
    let sockets: Vec<_> = (1..=2).map(|id| viewer(&mut w, id)).collect();
    assert_eq!(w.hold_ns(stream), 60_000);
    let (_, _third) = viewer(&mut w, 3);
    assert_eq!(w.hold_ns(stream), 70_000, "the setting is the most");
    drop(sockets);
}

#[test]
fn no_more_sessions_connect_at_once_than_may() {
    let w = limited(|l| l.handshakes_max = 2);
    let doors = [w.shared.open(), w.shared.open()];
    assert!(doors.iter().all(Option::is_some));
    assert!(w.shared.open().is_none());
    drop(doors);
    assert!(w.shared.open().is_some());
}
