//! Extended reports that let a receiver measure the round trip (RFC 3611 4.4 and 4.5): it tells its
//! time (RRTR), the sender tells how long it kept it (DLRR).
//!
//! Times are the middle 32 bits of NTP, in 1/65,536 s. Nothing here is state.

use super::{be16, be32, head, Part, XR};

const RRTR: u8 = 4;
const DLRR: u8 = 5;
const BLOCK_HEAD_BYTES: usize = 4;
const DELAY_BYTES: usize = 12;
const SECOND_NS: u128 = 1_000_000_000;

/// A receiver's time, to be given back to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Delay {
    pub ssrc: u32,
    /// Middle of the NTP time that it told.
    pub last: u32,
    /// How long that was kept, in 1/65,536 s.
    pub kept: u32,
}

/// Nanoseconds of any clock as the middle 32 bits of an NTP time.
pub fn middle(ns: u64) -> u32 {
    (u128::from(ns) * 65_536 / SECOND_NS) as u32
}

/// What is left of the way there and back: now, less what was told, less what it was kept. None:
/// the numbers do not fit together.
pub fn round_trip_ns(now: u32, last: u32, kept: u32) -> Option<u64> {
    let ticks = now.wrapping_sub(last).wrapping_sub(kept);
    // A round trip of half a day is a difference that went below zero: 0, if only by a tick or two.
    match ticks as i32 {
        t @ 0.. => Some(t as u64 * 1_000_000_000 / 65_536),
        -66..=-1 => Some(0),
        _ => None,
    }
}

/// Our time `ns`, of a clock that `round_trip_ns` will be asked about.
pub fn receiver_time(out: &mut Vec<u8>, ssrc: u32, ns: u64) {
    head(out, XR, 0, 5, ssrc);
    out.extend_from_slice(&[RRTR, 0, 0, 2]);
    let (seconds, ticks) = ((ns / 1_000_000_000) as u16, middle(ns) as u16);
    let ntp = u64::from(seconds) << 32 | u64::from(ticks) << 16;
    out.extend_from_slice(&ntp.to_be_bytes());
}

/// Gives receivers their times back; at most 31.
pub fn delays(out: &mut Vec<u8>, ssrc: u32, all: &[Delay]) {
    let words = 3 * all.len();
    head(out, XR, 0, 3 + words, ssrc);
    out.extend_from_slice(&[DLRR, 0]);
    out.extend_from_slice(&(words as u16).to_be_bytes());
    for d in all {
        for word in [d.ssrc, d.last, d.kept] {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// (SSRC, middle of its NTP time) of each receiver that tells its time.
pub fn read_times<'a>(part: &Part<'a>) -> impl Iterator<Item = (u32, u32)> + 'a {
    let ssrc = part.bytes.get(4..8).map_or(0, |b| be32(b, 0));
    blocks(part, RRTR)
        .filter(|body| body.len() == 8)
        .map(move |body| (ssrc, be32(body, 2)))
}

/// The times that are given back.
pub fn read_delays<'a>(part: &Part<'a>) -> impl Iterator<Item = Delay> + 'a {
    blocks(part, DLRR)
        .flat_map(|body| body.chunks_exact(DELAY_BYTES))
        .map(|b| Delay {
            ssrc: be32(b, 0),
            last: be32(b, 4),
            kept: be32(b, 8),
        })
}

/// Bodies of an extended report's blocks of one kind; ends at the first that does not fit.
fn blocks<'a>(part: &Part<'a>, kind: u8) -> impl Iterator<Item = &'a [u8]> + 'a {
    let mut rest = match part.kind {
        XR => part.bytes.get(8..).unwrap_or(&[]),
        _ => &[],
    };
    std::iter::from_fn(move || {
        let len = 4 * usize::from(be16(rest.get(..BLOCK_HEAD_BYTES)?, 2));
        let body = rest.get(BLOCK_HEAD_BYTES..BLOCK_HEAD_BYTES + len)?;
        let found = rest[0];
        rest = &rest[BLOCK_HEAD_BYTES + len..];
        Some((found, body))
    })
    .filter_map(move |(found, body)| (found == kind).then_some(body))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::parts;

    #[test]
    fn a_time_told_and_given_back_measures_the_way() {
        let told_ns = 7_654_321_000_000_000;
        let mut out = vec![];
        receiver_time(&mut out, 5, told_ns);
        let times: Vec<_> = parts(&out).flat_map(|p| read_times(&p)).collect();
        assert_eq!(times, [(5, middle(told_ns))]);
        let kept = 65_536 / 4;
        let mut back = vec![];
        let delay = Delay {
            ssrc: 5,
            last: times[0].1,
            kept,
        };
        delays(&mut back, 9, &[delay, Delay { ssrc: 6, ..delay }]);
        let all: Vec<_> = parts(&back).flat_map(|p| read_delays(&p)).collect();
        assert_eq!(all, [delay, Delay { ssrc: 6, ..delay }]);
        let now = middle(told_ns + 330_000_000);
        let way = round_trip_ns(now, all[0].last, all[0].kept).expect("a way");
        assert!((79_900_000..80_100_000).contains(&way), "{way}");
    }

    #[test]
    fn clocks_that_disagree_by_a_tick_make_no_giant_round_trip() {
        assert_eq!(round_trip_ns(100, 90, 11), Some(0));
        assert_eq!(round_trip_ns(100, 90_000, 11), None);
        assert_eq!(
            round_trip_ns(3, u32::MAX - 2, 0),
            Some(6 * 1_000_000_000 / 65_536)
        );
    }
}
