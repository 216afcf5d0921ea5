//! What strangers and bad peers may send, thrown at every parser of the packet plane.
//!
//! Each campaign mutates what a valid session said (`captured.txt` and `tests/offers`), by a seed,
//! and runs it through the real parser and all that stands behind it: RTP and RTCP are mutated
//! clear and encrypted again, so that they get past authentication. An input that panics, or that
//! breaks a promise, is printed with its seed and in hex. Overflows count as panics here: tests
//! are built with their checks on.
//!
//! `NEXUS_FUZZ_INPUTS` says how many inputs a campaign has (`make prove`: 100,000),
//! `NEXUS_FUZZ_SEED` where the random numbers begin. Not here: sockets and a running server, which
//! `tests/hostile` has.

mod dtls;
mod mutate;
mod publisher;
mod records;
mod sdp;
mod session;
mod stun;
mod tap;
mod viewer;

use mutate::Random;
use std::panic::{catch_unwind, AssertUnwindSafe};

const INPUTS: u64 = 3_000;
const SEED: u64 = 20_240_601;

fn number(name: &str, otherwise: u64) -> u64 {
    let text = std::env::var(name).ok();
    text.map_or(otherwise, |t| t.parse().expect("a number"))
}

/// Makes and tries the inputs of one parser: `make` gives the next, `try_it` runs it.
///
/// `scale`: an input of this campaign counts as so many (one handshake takes several datagrams).
fn campaign<C>(
    name: &str,
    context: &mut C,
    scale: u64,
    make: impl Fn(&mut Random, &mut C) -> Vec<u8>,
    try_it: impl Fn(&[u8], &mut C),
) {
    let seed = number("NEXUS_FUZZ_SEED", SEED);
    let inputs = number("NEXUS_FUZZ_INPUTS", INPUTS) / scale;
    for round in 0..inputs.max(1) {
        let mut random = Random::new(seed.wrapping_add(round));
        let input = make(&mut random, context);
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| try_it(&input, context))) {
            let hex: String = input.iter().map(|b| format!("{b:02x}")).collect();
            eprintln!("fuzz {name}: NEXUS_FUZZ_SEED={} input {hex}", seed + round);
            std::panic::resume_unwind(panic);
        }
    }
}

/// Datagrams of the captured session of these kinds.
fn captured(kinds: &[&str]) -> Vec<Vec<u8>> {
    let lines = include_str!("captured.txt").lines();
    let found: Vec<Vec<u8>> = lines
        .filter_map(|line| line.split_once(' '))
        .filter(|(kind, _)| kinds.contains(kind))
        .map(|(_, hex)| bytes(hex))
        .collect();
    assert!(!found.is_empty(), "nothing captured of {kinds:?}");
    found
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = hex.as_bytes().chunks_exact(2);
    digits
        .map(|pair| std::str::from_utf8(pair).expect("ASCII"))
        .map(|pair| u8::from_str_radix(pair, 16).expect("hex"))
        .collect()
}
