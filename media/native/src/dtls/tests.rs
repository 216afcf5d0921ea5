//! Two handshakes against each other in memory: over a clean link, a bad link, with a wrong peer.

use super::*;
use std::collections::VecDeque;

/// Both ends and the datagrams on their way, with a clock that only the test moves.
struct Link {
    ends: [Handshake; 2],
    wires: [VecDeque<Vec<u8>>; 2],
    keys: [Option<Keys>; 2],
    failed: [Option<String>; 2],
    closed: [bool; 2],
    now: Instant,
    random: u64,
    /// One in so many datagrams is lost; 0: none.
    lose: u64,
    reorder: bool,
}

fn fingerprint_of(certificate: &Certificate) -> Vec<u8> {
    digest::digest(&digest::SHA256, certificate.der().0)
        .as_ref()
        .to_vec()
}

impl Link {
    fn new(wrong: Option<usize>) -> Link {
        let now = Instant::now();
        let certificates = [
            Certificate::generate().unwrap(),
            Certificate::generate().unwrap(),
        ];
        let end = |i: usize| {
            let mut expected = fingerprint_of(&certificates[1 - i]);
            expected[0] ^= u8::from(wrong == Some(i));
            Handshake::new(&certificates[i], i == 0, expected, now).unwrap()
        };
        Link {
            ends: [end(0), end(1)],
            wires: Default::default(),
            keys: [None, None],
            failed: [None, None],
            closed: [false, false],
            now,
            random: 88_172_645_463_325_252,
            lose: 0,
            reorder: false,
        }
    }

    fn random(&mut self, below: u64) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random % below
    }

    fn poll(&mut self, i: usize) {
        let mut sent = Vec::new();
        match self.ends[i].poll(&mut |datagram| sent.push(datagram.to_vec())) {
            Progress::Pending => {}
            Progress::Done(keys) => {
                assert!(self.keys[i].replace(keys).is_none(), "keys come once");
            }
            Progress::Failed(reason) => self.failed[i] = Some(reason),
            Progress::Closed => self.closed[i] = true,
        }
        for datagram in sent {
            assert!(datagram.len() <= DATAGRAM_BYTES_MAX);
            if self.lose > 0 && self.random(self.lose) == 0 {
                continue;
            }
            if self.reorder && self.random(2) == 0 {
                self.wires[1 - i].push_front(datagram);
            } else {
                self.wires[1 - i].push_back(datagram);
            }
        }
    }

    /// Delivers what is on its way; when nothing is, lets time pass to the next timer.
    fn step(&mut self) {
        for i in 0..2 {
            self.poll(i);
        }
        if self.wires.iter().all(VecDeque::is_empty) {
            let timers = self.ends.iter().filter_map(Handshake::next_timeout);
            let soon = self.now + Duration::from_millis(20);
            self.now = timers.min().map_or(soon, |t| t.clamp(self.now, soon));
            for i in 0..2 {
                self.ends[i].timeout(self.now);
                self.poll(i);
            }
            return;
        }
        for i in 0..2 {
            while let Some(datagram) = self.wires[i].pop_front() {
                self.ends[i].receive(&datagram, self.now);
                self.poll(i);
            }
        }
    }

    fn run(&mut self, steps: usize) {
        for _ in 0..steps {
            self.step();
            let over = |i: usize| self.keys[i].is_some() || self.failed[i].is_some();
            if over(0) && over(1) {
                return;
            }
        }
    }

    fn both_agree(&self) {
        let [Some(client), Some(server)] = &self.keys else {
            panic!("no keys: {:?}", self.failed);
        };
        assert_eq!((client.active, server.active), (true, false));
        assert_eq!(client.profile, server.profile);
        assert_eq!(client.material, server.material);
        let length = [60, 56, 88][client.profile as usize];
        assert_eq!(client.material.len(), length);
    }
}

#[test]
fn both_roles_reach_the_same_keys() {
    let mut link = Link::new(None);
    link.run(50);
    link.both_agree();
}

#[test]
fn loss_and_reordering_only_delay() {
    for seed in 1..40 {
        let mut link = Link::new(None);
        link.random = 0x9e37_79b9_7f4a_7c15u64.wrapping_mul(seed);
        link.lose = 6;
        link.reorder = true;
        link.run(3_000);
        link.both_agree();
    }
}

#[test]
fn a_wrong_fingerprint_gives_no_keys() {
    for wrong in 0..2 {
        let mut link = Link::new(Some(wrong));
        link.run(200);
        assert!(link.keys[wrong].is_none());
        let reason = link.failed[wrong].as_ref().unwrap();
        assert!(reason.contains("another fingerprint"), "{reason}");
    }
}

#[test]
fn longer_hashes_are_known() {
    let der = b"not really a certificate";
    for algorithm in [&digest::SHA256, &digest::SHA384, &digest::SHA512] {
        assert!(check(der, digest::digest(algorithm, der).as_ref()).is_ok());
    }
    assert!(check(der, &[0; 20]).unwrap_err().contains("no known hash"));
}

#[test]
fn goodbye_reaches_the_other_side() {
    for who in 0..2 {
        let mut link = Link::new(None);
        link.run(50);
        link.both_agree();
        link.ends[who].close();
        for _ in 0..5 {
            link.step();
        }
        assert!(link.closed[1 - who]);
    }
}

#[test]
fn a_lost_last_flight_is_sent_again() {
    let mut link = Link::new(None);
    while link.keys[1].is_none() {
        link.step();
        assert!(link.failed[0].is_none() && link.failed[1].is_none());
        if link.keys[1].is_some() {
            link.wires[0].clear();
        }
    }
    link.run(500);
    link.both_agree();
}

#[test]
fn silence_fails_in_the_end() {
    let mut link = Link::new(None);
    link.lose = 1;
    for _ in 0..3_000 {
        link.step();
    }
    assert!(link.failed[0]
        .as_ref()
        .is_some_and(|r| r.starts_with("DTLS")));
}

#[test]
fn garbage_never_panics_nor_stops_a_handshake() {
    let mut link = Link::new(None);
    let mut recorded: Vec<Vec<u8>> = Vec::new();
    for _ in 0..60 {
        for i in 0..2 {
            recorded.extend(link.wires[i].iter().cloned());
            for _ in 0..20 {
                let mut datagram = match recorded.len() {
                    0 => vec![22, 254, 253, 0, 0],
                    n => recorded[link.random(n as u64) as usize].clone(),
                };
                for _ in 0..4 {
                    let at = link.random(datagram.len() as u64) as usize;
                    datagram[at] = link.random(256) as u8;
                }
                let keep = link.random(datagram.len() as u64) as usize;
                datagram.truncate(keep + 1);
                let end = Handshake::new(
                    &Certificate::generate().unwrap(),
                    i == 0,
                    vec![0; 32],
                    link.now,
                );
                let mut end = end.unwrap();
                end.receive(&datagram, link.now);
                let _ = end.poll(&mut |_| {});
            }
        }
        link.step();
    }
    link.both_agree();
}

#[test]
fn a_certificate_survives_its_own_der() {
    let made = Certificate::generate().unwrap();
    let (der, key) = made.der();
    let again = Certificate::new(der.to_vec(), key.to_vec());
    assert_eq!(made.fingerprint(), again.fingerprint());
    assert_eq!(made.fingerprint().len(), 95);
    assert!(is_alert(&[21, 254, 253]) && !is_alert(&[22]) && !is_alert(&[]));
}

/// Who forges the address of its ICE check and of one hello makes us send this much to it, for as
/// long as a handshake may last.
#[test]
fn a_hello_that_is_not_followed_up_is_answered_with_little() {
    let mut link = Link::new(None);
    link.poll(0);
    let hello = link.wires[1].pop_front().unwrap();
    let mut sent = 0;
    link.ends[1].receive(&hello, link.now);
    for _ in 0..1_000 {
        link.ends[1].poll(&mut |datagram: &[u8]| sent += datagram.len());
        link.now += Duration::from_millis(10);
        link.ends[1].timeout(link.now);
    }
    assert!((1..=6_000).contains(&sent), "{sent} bytes");
}
