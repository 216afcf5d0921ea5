//! Binding requests and answers: as captured, as we make them ourselves, and mutated ones that are
//! signed again.

use crate::mutate::{mutate, Random};
use crate::{campaign, captured};
use _native::stun::{self, ANSWER_BYTES_MAX, REQUEST_BYTES_MAX};
use aws_lc_rs::hmac;
use std::net::SocketAddr;

const PWD: &str = "a-password-of-our-own-24";

struct Seeds {
    all: Vec<Vec<u8>>,
    key: hmac::Key,
}

fn seeds() -> Seeds {
    let key = stun::key(PWD);
    let mut all = captured(&["stun"]);
    for nominate in [false, true] {
        let ask = stun::Ask {
            transaction: *b"123456789012",
            username: "abcdefgh:remote",
            priority: 7,
            tie_breaker: 9,
            nominate,
        };
        let mut b = [0; REQUEST_BYTES_MAX];
        let len = stun::request(&ask, &key, &mut b);
        all.push(b[..len].to_vec());
        for from in ["192.0.2.7:9", "[2001:db8::7]:9"] {
            let from: SocketAddr = from.parse().expect("an address");
            let mut out = [0; ANSWER_BYTES_MAX];
            let len = stun::answer(&b, from, &key, &mut out);
            all.push(out[..len].to_vec());
        }
        let mut out = [0; ANSWER_BYTES_MAX];
        let len = stun::role_conflict(&b, &key, &mut out);
        all.push(out[..len].to_vec());
    }
    Seeds { all, key }
}

/// Cuts the message at an attribute, and signs what is left, as somebody who knows the password.
fn signed(random: &mut Random, mut b: Vec<u8>, key: &hmac::Key) -> Vec<u8> {
    if b.len() < 20 {
        return b;
    }
    let mut end = 20;
    while let Some(head) = b.get(end..end + 4) {
        let kind = u16::from_be_bytes([head[0], head[1]]);
        let next =
            end + 4 + usize::from(u16::from_be_bytes([head[2], head[3]])).next_multiple_of(4);
        if kind == 8 || kind == 0x8028 || next > b.len() {
            break;
        }
        end = next;
    }
    b.truncate(end);
    if random.one_in(3) {
        b.extend_from_slice(&[0x80, 0x29, 0, 8, 0, 0, 0, 0, 0, 0, 0, 9]); // ICE-CONTROLLED
    }
    b[0] &= 0x3f;
    b[4..8].copy_from_slice(&0x2112_a442u32.to_be_bytes());
    let length = (b.len() - 20 + 24) as u16;
    b[2..4].copy_from_slice(&length.to_be_bytes());
    let mac = hmac::sign(key, &b);
    b.extend_from_slice(&[0, 8, 0, 20]);
    b.extend_from_slice(mac.as_ref());
    b
}

#[test]
fn stun_messages() {
    let mut seeds = seeds();
    let make = |random: &mut Random, s: &mut Seeds| {
        let seed = random.pick(&s.all).clone();
        let b = mutate(random, &seed, &s.all);
        if random.one_in(2) {
            signed(random, b, &s.key)
        } else {
            b
        }
    };
    campaign("stun", &mut seeds, 1, make, |b, s| {
        stun::ufrag(b);
        stun::verify_answer(b, &s.key);
        let Some(request) = stun::verify(b, &s.key) else {
            return;
        };
        let mut out = [0; ANSWER_BYTES_MAX];
        let from = "[2001:db8::1]:65535".parse().expect("an address");
        let len = stun::answer(b, from, &s.key, &mut out);
        let (transaction, answer) = stun::verify_answer(&out[..len], &s.key).expect("our answer");
        assert_eq!(
            (&transaction[..], answer),
            (&b[8..20], stun::Answer::Success(from))
        );
        if request.controlled {
            let len = stun::role_conflict(b, &s.key, &mut out);
            let answer = stun::verify_answer(&out[..len], &s.key)
                .expect("our answer")
                .1;
            assert_eq!(answer, stun::Answer::Error(487));
        }
    });
}
