//! Latency of pictures, from a publisher's sending to a viewer's reading, on one machine.
//!
//! The publisher marks every picture: an SEI message (user data unregistered, H.264 D.1.7) carries
//! its number and the time, CLOCK_MONOTONIC, when its last packet is due: just before the first is
//! handed to the kernel, or later by the pace at which they go. If that packet leaves late, this
//! counts against the server. The viewer subtracts that from the
//! time when it has read the packet with the picture's marker. So servers may rewrite timestamps,
//! sources and sequence numbers as they like, and publisher and viewers may be different processes.
//! The message is a packet of its own, about 60 bytes, one a picture. It has no zero bytes, so no
//! emulation prevention changes it.

use crate::shared::now_ns;

const SEI: u8 = 6;
const STAP_A: u8 = 24;
const USER_DATA_UNREGISTERED: u8 = 5;
const UUID: [u8; 16] = *b"nexus-cos/stamp1";
const PAYLOAD_BYTES: usize = UUID.len() + 8 + 16;
/// NAL header, type, size, the payload, and the stop bit.
pub const STAMP_BYTES: usize = 3 + PAYLOAD_BYTES + 1;

/// Buckets for each doubling: a value is known to about 3 %.
const STEPS: usize = 32;
const STEPS_BITS: u32 = STEPS.trailing_zeros();
/// Up to 2^27 µs, about two minutes; what is longer counts as that.
const BUCKETS: usize = STEPS * 24;

/// What a picture was marked with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub number: u32,
    pub at_ns: u64,
}

impl Stamp {
    pub fn now(number: u32) -> Self {
        Stamp {
            number,
            at_ns: now_ns(),
        }
    }

    /// The same picture, its last packet due later.
    pub fn later(self, by: std::time::Duration) -> Self {
        Stamp {
            at_ns: self.at_ns + by.as_nanos() as u64,
            ..self
        }
    }

    /// The SEI's NAL unit.
    pub fn nal(self) -> [u8; STAMP_BYTES] {
        let mut nal = [0x80; STAMP_BYTES];
        nal[..3].copy_from_slice(&[SEI, USER_DATA_UNREGISTERED, PAYLOAD_BYTES as u8]);
        nal[3..19].copy_from_slice(&UUID);
        let text = format!("{:08x}{:016x}", self.number, self.at_ns);
        nal[19..STAMP_BYTES - 1].copy_from_slice(text.as_bytes());
        nal
    }

    /// The stamp in an RTP payload: alone, or together with other units.
    pub fn find(payload: &[u8]) -> Option<Self> {
        match payload.first()? & 31 {
            SEI => Self::read(payload),
            STAP_A => {
                let mut rest = &payload[1..];
                while let [high, low, units @ ..] = rest {
                    let size = usize::from(u16::from_be_bytes([*high, *low]));
                    let unit = units.get(..size)?;
                    if let Some(stamp) = Self::read(unit) {
                        return Some(stamp);
                    }
                    rest = &units[size..];
                }
                None
            }
            _ => None,
        }
    }

    fn read(nal: &[u8]) -> Option<Self> {
        let body = nal.get(3..3 + PAYLOAD_BYTES)?.strip_prefix(&UUID)?;
        let text = std::str::from_utf8(body).ok()?;
        Some(Stamp {
            number: u32::from_str_radix(text.get(..8)?, 16).ok()?,
            at_ns: u64::from_str_radix(text.get(8..)?, 16).ok()?,
        })
    }
}

/// How often which time was seen.
pub struct Histogram(Box<[u64; BUCKETS]>);

impl Default for Histogram {
    fn default() -> Self {
        Histogram(Box::new([0; BUCKETS]))
    }
}

impl Histogram {
    pub fn add(&mut self, micros: u64) {
        self.0[bucket(micros).min(BUCKETS - 1)] += 1;
    }

    /// (upper end of a bucket in microseconds, how many), ascending, none empty.
    pub fn counts(&self) -> Vec<(u64, u64)> {
        let filled = self.0.iter().enumerate().filter(|(_, n)| **n > 0);
        filled.map(|(i, n)| (upper(i), *n)).collect()
    }

    pub fn clear(&mut self) {
        self.0.fill(0);
    }
}

fn bucket(micros: u64) -> usize {
    let exponent = 63 - (micros | 1).leading_zeros();
    let shift = exponent.saturating_sub(STEPS_BITS);
    shift as usize * STEPS + (micros >> shift) as usize
}

fn upper(bucket: usize) -> u64 {
    let shift = (bucket / STEPS).saturating_sub(1);
    ((bucket - shift * STEPS + 1) as u64) << shift
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_found_alone_and_among_other_units() {
        let stamp = Stamp {
            number: 0xffff_0001,
            at_ns: 0x0000_0100_0000_0000,
        };
        let nal = stamp.nal();
        assert!(!nal.contains(&0));
        assert_eq!(Stamp::find(&nal), Some(stamp));
        let mut together = vec![STAP_A, 0, 2, 0x68, 1, 0, nal.len() as u8];
        together.extend_from_slice(&nal);
        assert_eq!(Stamp::find(&together), Some(stamp));
        for end in 0..together.len() - 1 {
            assert_eq!(Stamp::find(&together[..end]), None);
        }
        assert_eq!(Stamp::find(&[SEI, 5, 40, 1, 2, 3]), None);
        assert_eq!(Stamp::find(&[0x41; 64]), None);
    }

    #[test]
    fn a_bucket_holds_what_is_just_below_its_end() {
        let mut last = 0;
        for micros in (0..5_000).chain([99_999, 1 << 20, (1 << 27) - 1]) {
            let end = upper(bucket(micros));
            assert!(
                end > micros && end <= micros + 1 + micros / 16,
                "{micros}: {end}"
            );
            assert!(end >= last);
            last = end;
        }
        let mut histogram = Histogram::default();
        for micros in [7, 7, 5_000, u64::MAX] {
            histogram.add(micros);
        }
        let counts = histogram.counts();
        assert_eq!(counts[0], (8, 2));
        assert_eq!(counts.iter().map(|(_, n)| n).sum::<u64>(), 4);
        histogram.clear();
        assert!(histogram.counts().is_empty());
    }

    #[test]
    fn the_clock_goes_forward() {
        let first = Stamp::now(1);
        assert!(Stamp::now(2).at_ns >= first.at_ns);
    }
}
