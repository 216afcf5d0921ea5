//! The few RTCP packets that a forwarding server reads and writes (RFC 3550, 3611, 4585, 5104).
//!
//! Writers append to a buffer, readers give slices of what they were given. Nothing here is state.

pub mod extended;
pub mod feedback;

pub const SR: u8 = 200;
pub const RR: u8 = 201;
pub const SDES: u8 = 202;
pub const BYE: u8 = 203;
pub const RTPFB: u8 = 205;
pub const PSFB: u8 = 206;
pub const XR: u8 = 207;
/// Formats of RTPFB.
pub const NACK: u8 = 1;
pub const TWCC: u8 = 15;
/// Formats of PSFB.
pub const PLI: u8 = 1;
pub const FIR: u8 = 4;
pub const AFB: u8 = 15;
const CNAME: &[u8] = b"nexus";
/// 1900 to 1970.
const NTP_UNIX_SECONDS: u64 = 2_208_988_800;

/// Big-endian; the caller knows that the bytes are there.
pub fn be32(b: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]])
}

/// Big-endian; the caller knows that the bytes are there.
pub fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

/// One packet of a compound, header included, at least 8 bytes long.
pub struct Part<'a> {
    pub kind: u8,
    /// Count of blocks, or format of a feedback packet.
    pub count: u8,
    pub bytes: &'a [u8],
}

/// The packets of a compound; ends at the first that does not fit.
pub fn parts(compound: &[u8]) -> impl Iterator<Item = Part<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let head = compound.get(at..at + 8)?;
        let len = 4 * (usize::from(be16(head, 2)) + 1);
        let bytes = compound.get(at..at + len).filter(|b| b.len() >= 8)?;
        at += len;
        Some(Part {
            kind: bytes[1],
            count: bytes[0] & 31,
            bytes,
        })
    })
}

pub(crate) fn head(out: &mut Vec<u8>, kind: u8, count: u8, words: usize, ssrc: u32) {
    out.extend_from_slice(&[0x80 | count, kind]);
    out.extend_from_slice(&(words as u16 - 1).to_be_bytes());
    out.extend_from_slice(&ssrc.to_be_bytes());
}

/// Unix nanoseconds as NTP 32.32.
pub fn ntp_from_unix_ns(unix_ns: i64) -> u64 {
    let unix_ns = unix_ns.max(0) as u64;
    let seconds = unix_ns / 1_000_000_000 + NTP_UNIX_SECONDS;
    let fraction = ((unix_ns % 1_000_000_000) << 32) / 1_000_000_000;
    seconds << 32 | fraction
}

/// NTP 32.32 as unix nanoseconds (era 0).
pub fn unix_ns_from_ntp(ntp: u64) -> i64 {
    let seconds = (ntp >> 32) as i64 - NTP_UNIX_SECONDS as i64;
    let fraction = (u128::from(ntp & 0xffff_ffff) * 1_000_000_000) >> 32;
    seconds * 1_000_000_000 + fraction as i64
}

/// What a sender says of its clock (RFC 3550 6.4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SenderInfo {
    pub ssrc: u32,
    pub ntp: u64,
    pub rtp: u32,
    pub packets: u32,
    pub octets: u32,
}

/// A sender report without reception blocks, followed by its SDES.
pub fn sender_report(out: &mut Vec<u8>, info: &SenderInfo) {
    head(out, SR, 0, 7, info.ssrc);
    out.extend_from_slice(&info.ntp.to_be_bytes());
    for value in [info.rtp, info.packets, info.octets] {
        out.extend_from_slice(&value.to_be_bytes());
    }
    sdes(out, info.ssrc);
}

/// Reads the sender part of an SR.
pub fn read_sender_report(part: &Part) -> Option<SenderInfo> {
    let b = part.bytes;
    (part.kind == SR && b.len() >= 28).then(|| SenderInfo {
        ssrc: be32(b, 4),
        ntp: u64::from(be32(b, 8)) << 32 | u64::from(be32(b, 12)),
        rtp: be32(b, 16),
        packets: be32(b, 20),
        octets: be32(b, 24),
    })
}

/// Source description with our CNAME: all tracks of a viewer have the same, so players sync them.
pub fn sdes(out: &mut Vec<u8>, ssrc: u32) {
    let chunk = (4 + 2 + CNAME.len() + 1).next_multiple_of(4);
    head(out, SDES, 1, 1 + chunk / 4, ssrc);
    let end = out.len() + chunk - 4;
    out.extend_from_slice(&[1, CNAME.len() as u8]);
    out.extend_from_slice(CNAME);
    out.resize(end, 0);
}

/// One reception block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    pub ssrc: u32,
    pub fraction: u8,
    /// Cumulative; may be negative on the wire when packets were doubled.
    pub lost: i32,
    pub top: u32,
    pub jitter: u32,
    pub lsr: u32,
    pub dlsr: u32,
}

/// At most 31 blocks.
pub fn receiver_report(out: &mut Vec<u8>, ssrc: u32, blocks: &[Report]) {
    head(out, RR, blocks.len() as u8, 2 + 6 * blocks.len(), ssrc);
    for r in blocks {
        let lost = r.lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0xff_ffff;
        let words = [
            r.ssrc,
            u32::from(r.fraction) << 24 | lost,
            r.top,
            r.jitter,
            r.lsr,
            r.dlsr,
        ];
        for word in words {
            out.extend_from_slice(&word.to_be_bytes());
        }
    }
}

/// The reception blocks of an SR or RR.
pub fn read_reports<'a>(part: &Part<'a>) -> impl Iterator<Item = Report> + 'a {
    let start = match part.kind {
        SR => 28,
        RR => 8,
        _ => part.bytes.len(),
    };
    let blocks = part.bytes.get(start..).unwrap_or(&[]).chunks_exact(24);
    blocks.take(usize::from(part.count)).map(|b| Report {
        ssrc: be32(b, 0),
        fraction: b[4],
        lost: (be32(b, 4) << 8) as i32 >> 8,
        top: be32(b, 8),
        jitter: be32(b, 12),
        lsr: be32(b, 16),
        dlsr: be32(b, 20),
    })
}

/// `ssrcs`: at most 31.
pub fn bye(out: &mut Vec<u8>, ssrcs: &[u32]) {
    let Some((&first, rest)) = ssrcs.split_first() else {
        return;
    };
    head(out, BYE, ssrcs.len() as u8, 1 + ssrcs.len(), first);
    for ssrc in rest {
        out.extend_from_slice(&ssrc.to_be_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ntp_and_unix_time_agree_to_the_nanosecond() {
        for ns in [0i64, 1, 999_999_999, 1_700_000_000_123_456_789] {
            let back = unix_ns_from_ntp(ntp_from_unix_ns(ns));
            assert!((back - ns).abs() <= 1, "{ns} came back as {back}");
        }
        assert_eq!(ntp_from_unix_ns(0) >> 32, NTP_UNIX_SECONDS);
    }

    #[test]
    fn a_sender_report_can_be_read_back() {
        let info = SenderInfo {
            ssrc: 1,
            ntp: 0x0102_0304_0506_0708,
            rtp: 9,
            packets: 10,
            octets: 11,
        };
        let mut out = vec![];
        sender_report(&mut out, &info);
        let all: Vec<_> = parts(&out).collect();
        assert_eq!(all.len(), 2);
        assert_eq!(read_sender_report(&all[0]), Some(info));
        assert_eq!((all[1].kind, all[1].count), (SDES, 1));
    }

    #[test]
    fn reception_blocks_can_be_read_back() {
        let block = Report {
            ssrc: 5,
            fraction: 3,
            lost: -2,
            top: 70_000,
            jitter: 4,
            lsr: 6,
            dlsr: 7,
        };
        let mut out = vec![];
        receiver_report(&mut out, 1, &[block, Report { lost: 9, ..block }]);
        let read: Vec<_> = parts(&out).flat_map(|p| read_reports(&p)).collect();
        assert_eq!(read, [block, Report { lost: 9, ..block }]);
    }

    #[test]
    fn garbage_gives_no_parts_and_no_panic() {
        let mut state = 7u64;
        for n in 0..3_000usize {
            let bytes: Vec<u8> = (0..n % 90)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .collect();
            for part in parts(&bytes) {
                read_sender_report(&part);
                read_reports(&part).count();
                feedback::nacked(part.bytes).count();
                extended::read_times(&part).count();
                extended::read_delays(&part).count();
            }
        }
    }
}
