//! DTLS: two handshakes against each other in memory, and mutations of their flights thrown in.
//!
//! Whatever is thrown in, nothing panics, keys come only to ends that agree, and who has shown
//! nothing but datagrams gets a bounded number of bytes back.

use crate::campaign;
use crate::mutate::{mutate, Random};
use _native::dtls::{Certificate, Handshake, Keys, Progress};
use aws_lc_rs::digest;
use std::time::{Duration, Instant};

/// Mutated datagrams in one handshake, each an input.
const PER_HANDSHAKE: u64 = 8;
const ROUNDS_MAX: usize = 24;
/// Bytes that one datagram can make an end send at once: its longest flight and a bit.
const FLIGHT_BYTES_MAX: usize = 4_096;

struct Pair {
    certificates: [Certificate; 2],
    seen: Vec<Vec<u8>>,
    captured: Vec<Vec<u8>>,
    finished: u64,
}

/// What an end was told of the other's certificate.
#[derive(Clone, Copy)]
enum Hash {
    Right(&'static digest::Algorithm),
    Wrong(usize),
}

/// One end with what became of it.
struct End {
    handshake: Handshake,
    keys: Option<Keys>,
    over: bool,
}

impl End {
    fn new(pair: &Pair, me: usize, hash: Hash, now: Instant) -> Self {
        let other = pair.certificates[1 - me].der().0;
        let expected = match hash {
            Hash::Right(algorithm) => digest::digest(algorithm, other).as_ref().to_vec(),
            Hash::Wrong(length) => vec![7; length],
        };
        let handshake = Handshake::new(&pair.certificates[me], me == 0, expected, now);
        End {
            handshake: handshake.expect("a handshake"),
            keys: None,
            over: false,
        }
    }

    fn take(&mut self, datagram: &[u8], now: Instant) -> Vec<Vec<u8>> {
        _native::dtls::is_alert(datagram);
        self.handshake.receive(datagram, now);
        self.poll()
    }

    fn poll(&mut self) -> Vec<Vec<u8>> {
        let mut out: Vec<Vec<u8>> = vec![];
        match self.handshake.poll(&mut |d: &[u8]| out.push(d.to_vec())) {
            Progress::Pending => {}
            Progress::Done(keys) => self.keys = Some(keys),
            Progress::Failed(_) | Progress::Closed => self.over = true,
        }
        assert!(out.iter().map(Vec::len).sum::<usize>() <= FLIGHT_BYTES_MAX);
        out
    }
}

/// Plays one handshake; the bytes of `plan` decide when and what is thrown in.
fn play(plan: &[u8], pair: &mut Pair) {
    let seed = u64::from_le_bytes(plan.try_into().expect("eight bytes"));
    let random = &mut Random::new(seed);
    let mut now = Instant::now();
    let hash = match random.below(16) {
        0 => Hash::Wrong(32),
        1 => Hash::Wrong(20),
        2 => Hash::Right(&digest::SHA512),
        3 => Hash::Right(&digest::SHA384),
        _ => Hash::Right(&digest::SHA256),
    };
    let sha256 = Hash::Right(&digest::SHA256);
    let mut ends = [End::new(pair, 0, sha256, now), End::new(pair, 1, hash, now)];
    let mut wires: [Vec<Vec<u8>>; 2] = [vec![], ends[0].poll()];
    let mut left = PER_HANDSHAKE;
    for _ in 0..ROUNDS_MAX {
        for me in 0..2 {
            for datagram in std::mem::take(&mut wires[me]) {
                if pair.seen.len() < 512 {
                    pair.seen.push(datagram.clone());
                }
                if left > 0 && random.one_in(2) {
                    left -= 1;
                    let seed = match random.below(4) {
                        0 => random.pick(&pair.captured).clone(),
                        1 => random.pick(&pair.seen).clone(),
                        _ => datagram.clone(),
                    };
                    let bad = mutate(random, &seed, &pair.seen);
                    let answer = ends[me].take(&bad, now);
                    wires[1 - me].extend(answer);
                }
                let answer = ends[me].take(&datagram, now);
                wires[1 - me].extend(answer);
            }
        }
        now += Duration::from_millis(200);
        for me in 0..2 {
            if random.one_in(24) {
                ends[me].handshake.close();
            }
            ends[me].handshake.next_timeout();
            ends[me].handshake.timeout(now);
            let answer = ends[me].poll();
            wires[1 - me].extend(answer);
        }
        if ends.iter().all(|e| e.over || e.keys.is_some()) && left == 0 {
            break;
        }
    }
    if let Hash::Wrong(_) = hash {
        assert!(ends[1].keys.is_none(), "keys for somebody else");
    }
    if let [Some(a), Some(b)] = [&ends[0].keys, &ends[1].keys] {
        assert_eq!((&a.material, a.profile), (&b.material, b.profile));
        pair.finished += 1;
    }
}

#[test]
fn dtls_flights() {
    let certificate = || {
        let made = Certificate::generate().expect("a certificate");
        let (der, key) = made.der();
        let again = Certificate::new(der.to_vec(), key.to_vec());
        assert_eq!(again.fingerprint(), made.fingerprint());
        again
    };
    let mut pair = Pair {
        certificates: [certificate(), certificate()],
        seen: vec![],
        captured: crate::captured(&["dtls"]),
        finished: 0,
    };
    let make = |random: &mut Random, _: &mut Pair| random.next().to_le_bytes().to_vec();
    campaign("dtls", &mut pair, PER_HANDSHAKE, make, play);
    assert!(pair.finished > 0, "no handshake survived");
}
