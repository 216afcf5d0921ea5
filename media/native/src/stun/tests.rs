//! The samples of RFC 5769, our own messages both ways, and garbage.

use super::*;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |p: &[u8]| u8::from_str_radix(std::str::from_utf8(p).unwrap(), 16).unwrap();
    digits.chunks(2).map(pair).collect()
}

const PASSWORD: &str = "VOkJxbRl1RmTxUk/WvJxBt";

/// RFC 5769, 2.1.
fn sample_request() -> Vec<u8> {
    bytes(
        "00 01 00 58 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 10 53 54 55 4e 20 74 65 73 74 20 63 6c 69 65 6e 74
         00 24 00 04 6e 00 01 ff 80 29 00 08 93 2f f9 b1 51 26 3b 36
         00 06 00 09 65 76 74 6a 3a 68 36 76 59 20 20 20
         00 08 00 14 9a ea a7 0c bf d8 cb 56 78 1e f2 b5 b2 d3 f2 49 c1 b5 71 a2
         80 28 00 04 e5 7a 3b cf",
    )
}

/// RFC 5769, 2.2.
fn sample_response_v4() -> Vec<u8> {
    bytes(
        "01 01 00 3c 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 08 00 01 a1 47 e1 12 a6 43
         00 08 00 14 2b 91 f5 99 fd 9e 90 c3 8c 74 89 f9 2a f9 ba 53 f0 6b e7 d7
         80 28 00 04 c0 7d 4c 96",
    )
}

/// RFC 5769, 2.3.
fn sample_response_v6() -> Vec<u8> {
    bytes(
        "01 01 00 48 21 12 a4 42 b7 e7 a7 01 bc 34 d6 86 fa 87 df ae
         80 22 00 0b 74 65 73 74 20 76 65 63 74 6f 72 20
         00 20 00 14 00 02 a1 47 01 13 a9 fa a5 d3 f1 79 bc 25 f4 b5 be d2 b9 d9
         00 08 00 14 a3 82 95 4e 4b e6 7b f1 17 84 c9 7c 82 92 c2 75 bf e3 ed 41
         80 28 00 04 c8 fb 0b 4c",
    )
}

#[test]
fn the_sample_request_is_read() {
    let b = sample_request();
    assert!(is_stun(&b));
    assert_eq!(ufrag(&b), Some("evtj"));
    let expected = Request {
        nominated: false,
        controlled: true,
    };
    assert_eq!(verify(&b, &key(PASSWORD)), Some(expected));
    assert_eq!(verify(&b, &key("another password, same len")), None);
}

#[test]
fn the_sample_responses_are_read() {
    let id = bytes("b7 e7 a7 01 bc 34 d6 86 fa 87 df ae");
    let mapped = |b: &[u8]| verify_answer(b, &key(PASSWORD));
    let v4 = Answer::Success("192.0.2.1:32853".parse().unwrap());
    assert_eq!(
        mapped(&sample_response_v4()),
        Some((id.clone().try_into().unwrap(), v4))
    );
    let v6: SocketAddr = "[2001:db8:1234:5678:11:2233:4455:6677]:32853"
        .parse()
        .unwrap();
    let expected = Some((id.try_into().unwrap(), Answer::Success(v6)));
    assert_eq!(mapped(&sample_response_v6()), expected);
}

#[test]
fn every_bit_of_a_sample_counts() {
    for sample in [sample_request(), sample_response_v4(), sample_response_v6()] {
        let k = key(PASSWORD);
        // But for the head of FINGERPRINT: changed, it is an unknown attribute, which is ignored.
        let head = sample.len() - 8..sample.len() - 4;
        for bit in (0..sample.len() * 8).filter(|bit| !head.contains(&(bit / 8))) {
            let mut b = sample.clone();
            b[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(verify(&b, &k), None, "bit {bit}");
            assert_eq!(verify_answer(&b, &k), None, "bit {bit}");
        }
    }
}

#[test]
fn what_we_ask_we_understand() {
    let k = key("a password of the server");
    for nominate in [false, true] {
        let ask = Ask {
            transaction: *b"abcdefghijkl",
            username: "server:client",
            priority: 1,
            tie_breaker: 2,
            nominate,
        };
        let mut asked = [0; REQUEST_BYTES_MAX];
        let n = request(&ask, &k, &mut asked);
        let asked = &asked[..n];
        assert_eq!(ufrag(asked), Some("server"));
        let expected = Request {
            nominated: nominate,
            controlled: false,
        };
        assert_eq!(verify(asked, &k), Some(expected));
        for from in ["192.0.2.7:50000", "[2001:db8::7]:1"] {
            let from: SocketAddr = from.parse().unwrap();
            let mut out = [0; ANSWER_BYTES_MAX];
            let n = answer(asked, from, &k, &mut out);
            let expected = Some((ask.transaction, Answer::Success(from)));
            assert_eq!(verify_answer(&out[..n], &k), expected);
            assert_eq!(verify_answer(&out[..n], &key("another")), None);
        }
    }
}

#[test]
fn mapped_ipv4_is_answered_as_ipv4() {
    let k = key(PASSWORD);
    let mut out = [0; ANSWER_BYTES_MAX];
    let from = "[::ffff:192.0.2.7]:50000".parse().unwrap();
    let n = answer(&sample_request(), from, &k, &mut out);
    let (_, got) = verify_answer(&out[..n], &k).unwrap();
    assert_eq!(got, Answer::Success("192.0.2.7:50000".parse().unwrap()));
}

#[test]
fn a_role_conflict_is_said() {
    let k = key(PASSWORD);
    let mut out = [0; ANSWER_BYTES_MAX];
    let n = role_conflict(&sample_request(), &k, &mut out);
    assert_eq!(verify_answer(&out[..n], &k).unwrap().1, Answer::Error(487));
}

#[test]
fn attributes_after_the_integrity_are_ignored() {
    // Only FINGERPRINT may follow; a USE-CANDIDATE smuggled in behind must not nominate.
    let k = key("pw");
    let ask = Ask {
        transaction: [7; 12],
        username: "a:b",
        priority: 1,
        tie_breaker: 2,
        nominate: false,
    };
    let mut out = [0; REQUEST_BYTES_MAX];
    let n = request(&ask, &k, &mut out);
    let mut b = out[..n - 8].to_vec();
    b.extend_from_slice(&[0, 0x25, 0, 0]);
    let length = (b.len() - 20) as u16;
    b[2..4].copy_from_slice(&length.to_be_bytes());
    assert_eq!(
        verify(&b, &k),
        Some(Request {
            nominated: false,
            controlled: false
        })
    );
}

#[test]
fn garbage_never_panics() {
    let mut state = 0x2545_f491_4f6c_dd1du64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let k = key(PASSWORD);
    for round in 0..30_000 {
        let mut b =
            [sample_request(), sample_response_v4(), sample_response_v6()][round % 3].clone();
        for _ in 0..random(6) {
            let at = random(b.len());
            b[at] = random(256) as u8;
        }
        b.truncate(1 + random(b.len()));
        if random(2) == 0 && b.len() >= 20 {
            let length = (b.len() - 20) as u16 & !3;
            b.truncate(20 + length as usize);
            b[2..4].copy_from_slice(&length.to_be_bytes());
        }
        let _ = (
            ufrag(&b),
            verify(&b, &k),
            verify_answer(&b, &k),
            unmap_if_stun(&b),
        );
    }
    for n in 0..40 {
        let b = vec![0; n];
        assert!(ufrag(&b).is_none() && verify(&b, &k).is_none() && !is_stun(&b));
    }
}

fn unmap_if_stun(b: &[u8]) -> Option<SocketAddr> {
    is_stun(b).then(|| unmap(b)).flatten()
}
