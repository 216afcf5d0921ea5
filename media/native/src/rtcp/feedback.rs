//! Feedback packets: NACK, PLI, REMB and transport-wide congestion control.

use super::{be16, head, AFB, NACK, PLI, PSFB, RTPFB, TWCC};

/// Ticks of transport-cc: 250 us; its reference time counts 64 ms.
const TICK_NS: u64 = 250_000;
const REFERENCE_NS: u64 = 64_000_000;

/// Picture loss indication: a key frame, please.
pub fn pli(out: &mut Vec<u8>, ssrc: u32, media: u32) {
    head(out, PSFB, PLI, 3, ssrc);
    out.extend_from_slice(&media.to_be_bytes());
}

/// Receiver's estimate of the bandwidth for `media` (draft-alvestrand-rmcat-remb).
pub fn remb(out: &mut Vec<u8>, ssrc: u32, bits_per_second: u64, media: &[u32]) {
    head(out, PSFB, AFB, 5 + media.len(), ssrc);
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(b"REMB");
    let exponent = (64 - bits_per_second.leading_zeros()).saturating_sub(18);
    let mantissa = (bits_per_second >> exponent) as u32;
    let word = (media.len() as u32) << 24 | exponent << 18 | mantissa;
    out.extend_from_slice(&word.to_be_bytes());
    for ssrc in media {
        out.extend_from_slice(&ssrc.to_be_bytes());
    }
}

/// Asks for `sequences` (ascending) again.
pub fn nack(out: &mut Vec<u8>, ssrc: u32, media: u32, sequences: &[u16]) {
    let mut items: Vec<(u16, u16)> = vec![];
    for &s in sequences {
        match items.last_mut() {
            Some((first, mask)) if (1..=16).contains(&s.wrapping_sub(*first)) => {
                *mask |= 1 << (s.wrapping_sub(*first) - 1);
            }
            _ => items.push((s, 0)),
        }
    }
    head(out, RTPFB, NACK, 3 + items.len(), ssrc);
    out.extend_from_slice(&media.to_be_bytes());
    for (first, mask) in items {
        out.extend_from_slice(&first.to_be_bytes());
        out.extend_from_slice(&mask.to_be_bytes());
    }
}

/// Sequence numbers that one NACK packet asks for.
pub fn nacked(packet: &[u8]) -> impl Iterator<Item = u16> + '_ {
    let items = packet.get(12..).unwrap_or(&[]).chunks_exact(4);
    items.flat_map(|item| {
        let (first, mask) = (be16(item, 0), be16(item, 2));
        let asked = move |k: &u16| *k == 0 || mask >> (k - 1) & 1 == 1;
        (0..17u16).filter(asked).map(move |k| first.wrapping_add(k))
    })
}

/// What one transport-cc feedback packet tells.
pub struct Arrivals<'a> {
    /// First transport sequence number.
    pub base: u16,
    /// Feedback packet count.
    pub count: u8,
    /// When each number from `base` on came, in ns; None: not.
    pub times_ns: &'a [Option<u64>],
}

/// draft-holmer-rmcat-transport-wide-cc-extensions-01, with two-bit symbols throughout.
pub fn transport_feedback(out: &mut Vec<u8>, ssrc: u32, media: u32, arrivals: &Arrivals) {
    let start = out.len();
    head(out, RTPFB, TWCC, 1, ssrc);
    out.extend_from_slice(&media.to_be_bytes());
    out.extend_from_slice(&arrivals.base.to_be_bytes());
    out.extend_from_slice(&(arrivals.times_ns.len() as u16).to_be_bytes());
    let first = arrivals.times_ns.iter().flatten().next().copied();
    let reference = first.unwrap_or(0) / REFERENCE_NS;
    out.extend_from_slice(&(reference as u32).to_be_bytes()[1..]);
    out.push(arrivals.count);
    let mut last = reference * (REFERENCE_NS / TICK_NS);
    let (mut deltas, mut symbols) = (vec![], vec![]);
    for time in arrivals.times_ns {
        let Some(time) = time else {
            symbols.push(0u16);
            continue;
        };
        let delta = (time / TICK_NS) as i64 - last as i64;
        last = time / TICK_NS;
        if (0..256).contains(&delta) {
            symbols.push(1);
            deltas.push(delta as u8);
        } else {
            symbols.push(2);
            let delta = delta.clamp(i64::from(i16::MIN), i64::from(i16::MAX)) as i16;
            deltas.extend_from_slice(&delta.to_be_bytes());
        }
    }
    for chunk in symbols.chunks(7) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0xc000u16, |word, (i, s)| word | s << (12 - 2 * i));
        out.extend_from_slice(&word.to_be_bytes());
    }
    out.extend_from_slice(&deltas);
    while !(out.len() - start).is_multiple_of(4) {
        out.push(0);
    }
    let words = ((out.len() - start) / 4 - 1) as u16;
    out[start + 2..start + 4].copy_from_slice(&words.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::parts;

    #[test]
    fn what_is_nacked_is_what_was_asked() {
        let asked = [65_534u16, 65_535, 0, 9, 40, 41, 57];
        let mut out = vec![];
        nack(&mut out, 1, 2, &asked);
        let part = parts(&out).next().expect("one packet");
        assert_eq!((part.kind, part.count), (RTPFB, NACK));
        assert_eq!(nacked(part.bytes).collect::<Vec<_>>(), asked);
        assert_eq!(part.bytes.len(), out.len());
    }

    #[test]
    fn remb_has_mantissa_and_exponent() {
        let mut out = vec![];
        remb(&mut out, 1, 20_000_000, &[7, 8]);
        assert_eq!(out.len(), 4 * (usize::from(be16(&out, 2)) + 1));
        let word = u32::from_be_bytes([out[16], out[17], out[18], out[19]]);
        assert_eq!(word >> 24, 2);
        let rate = u64::from(word & 0x3_ffff) << (word >> 18 & 63);
        assert!((19_900_000..=20_000_000).contains(&rate), "{rate}");
    }

    #[test]
    fn transport_feedback_tells_each_arrival() {
        let times = [
            Some(128_000_000),
            None,
            Some(128_500_000),
            Some(300_000_000),
        ];
        let mut out = vec![];
        let arrivals = Arrivals {
            base: 65_535,
            count: 3,
            times_ns: &times,
        };
        transport_feedback(&mut out, 1, 2, &arrivals);
        assert_eq!(be16(&out, 12), 65_535);
        assert_eq!(be16(&out, 14), 4);
        assert_eq!(&out[16..20], &[0, 0, 2, 3]);
        // symbols: small, none, small, large
        assert_eq!(be16(&out, 20), 0xc000 | 1 << 12 | 1 << 8 | 2 << 6);
        assert_eq!(&out[22..26], &[0, 2, 2, 174]);
        assert_eq!(out.len() % 4, 0);
        assert_eq!(out.len(), 4 * (usize::from(be16(&out, 2)) + 1));
    }
}
