//! Tells from the first bytes of an RTP payload whether a decoder can start at this packet.
//!
//! H.264 (RFC 6184), VP8 (RFC 7741), VP9 (RFC 9628), AV1 (RTP payload format). Pure; reads no more
//! than the payload descriptor, and says no whenever the bytes are too few.

use crate::sdp::Codec;

/// Whether the packet is, or opens, a key frame. Audio can always start.
pub fn is_key(codec: Codec, payload: &[u8]) -> bool {
    match codec {
        Codec::H264 => h264(payload),
        Codec::Vp8 => vp8(payload).unwrap_or(false),
        Codec::Vp9 => vp9(payload).unwrap_or(false),
        Codec::Av1 => payload.first().is_some_and(|b| b & 0x08 != 0),
        Codec::Opus => true,
    }
}

const H264_IDR: u8 = 5;
const H264_SPS: u8 = 7;
const H264_STAP_A: u8 = 24;
const H264_FU_A: u8 = 28;

fn h264(p: &[u8]) -> bool {
    let opens = |kind: u8| kind == H264_IDR || kind == H264_SPS;
    let Some(&first) = p.first() else {
        return false;
    };
    match first & 31 {
        H264_STAP_A => {
            let mut rest = &p[1..];
            while let [high, low, nal, ..] = *rest {
                if opens(nal & 31) {
                    return true;
                }
                let step = 2 + usize::from(u16::from_be_bytes([high, low]));
                rest = rest.get(step..).unwrap_or(&[]);
            }
            false
        }
        H264_FU_A => p.get(1).is_some_and(|b| b & 0x80 != 0 && opens(b & 31)),
        kind => opens(kind),
    }
}

fn vp8(p: &[u8]) -> Option<bool> {
    let first = *p.first()?;
    let mut at = 1;
    if first & 0x80 != 0 {
        let extension = *p.get(1)?;
        at += 1;
        if extension & 0x80 != 0 {
            at += if p.get(at)? & 0x80 != 0 { 2 } else { 1 };
        }
        at += usize::from(extension & 0x40 != 0);
        at += usize::from(extension & 0x30 != 0);
    }
    let starts = first & 0x10 != 0 && first & 0x07 == 0;
    Some(starts && p.get(at)? & 1 == 0)
}

fn vp9(p: &[u8]) -> Option<bool> {
    let first = *p.first()?;
    let (picture_id, predicted, layers, starts) = (
        first & 0x80 != 0,
        first & 0x40 != 0,
        first & 0x20 != 0,
        first & 0x08 != 0,
    );
    let mut at = 1;
    if picture_id {
        at += if p.get(at)? & 0x80 != 0 { 2 } else { 1 };
    }
    let lowest = !layers || p.get(at)? >> 1 & 7 == 0;
    Some(!predicted && starts && lowest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn h264_starts_at_idr_and_parameter_sets() {
        let key = |p: &[u8]| is_key(Codec::H264, p);
        assert!(key(&[0x65, 1, 2]), "IDR");
        assert!(key(&[0x67, 1, 2]), "SPS");
        assert!(!key(&[0x41, 1, 2]), "slice");
        assert!(!key(&[0x68, 1, 2]), "PPS alone");
        assert!(key(&[0x7c, 0x85, 9]), "FU-A, start of IDR");
        assert!(!key(&[0x7c, 0x45, 9]), "FU-A, end of IDR");
        assert!(!key(&[0x5c, 0x81, 9]), "FU-A, start of slice");
        assert!(
            key(&[0x78, 0, 2, 0x09, 0xf0, 0, 1, 0x67]),
            "STAP-A with AUD, SPS"
        );
        assert!(
            !key(&[0x78, 0, 1, 0x68, 0, 1, 0x41]),
            "STAP-A with PPS, slice"
        );
        assert!(!key(&[0x78, 0xff, 0xff, 0x41]), "STAP-A cut short");
    }

    #[test]
    fn vp8_starts_where_the_inverse_key_flag_is_zero() {
        let key = |p: &[u8]| is_key(Codec::Vp8, p);
        assert!(key(&[0x10, 0x00]));
        assert!(!key(&[0x10, 0x01]));
        assert!(!key(&[0x00, 0x00]), "not the first packet of a frame");
        assert!(
            key(&[0x90, 0xe0, 0x81, 0x02, 0x03, 0x04, 0x10]),
            "all extensions"
        );
        assert!(!key(&[0x90, 0x80, 0x01]), "cut short");
    }

    #[test]
    fn vp9_starts_at_unpredicted_lowest_layers() {
        let key = |p: &[u8]| is_key(Codec::Vp9, p);
        assert!(key(&[0x88, 0x01]));
        assert!(!key(&[0xc8, 0x01]), "predicted");
        assert!(!key(&[0x80, 0x01]), "not the start");
        assert!(key(&[0xa8, 0x81, 0x02, 0x00]));
        assert!(!key(&[0xa8, 0x81, 0x02, 0x02]), "second spatial layer");
    }

    #[test]
    fn av1_starts_where_the_descriptor_says_new_sequence() {
        assert!(is_key(Codec::Av1, &[0x18, 0x0a]));
        assert!(!is_key(Codec::Av1, &[0x10, 0x0a]));
    }

    #[test]
    fn short_and_random_payloads_never_panic() {
        let mut state = 99u64;
        for n in 0..4_000usize {
            let bytes: Vec<u8> = (0..n % 12)
                .map(|_| {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    state as u8
                })
                .collect();
            for codec in [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus] {
                is_key(codec, &bytes);
            }
        }
    }
}
