//! Recorded units into RTP payloads: H.264 by single units and FU-A (RFC 6184), Opus as it is.

/// Longest RTP payload, in bytes: with all headers it fits a path of 1,280 bytes.
pub const PAYLOAD_BYTES_MAX: usize = 1_180;

const AUD: u8 = 9;
const SPS: u8 = 7;
const FU_A: u8 = 28;

/// The payloads of one access unit in Annex B form.
pub fn h264(unit: &[u8]) -> Vec<Box<[u8]>> {
    let mut payloads = Vec::new();
    for nal in nal_units(unit) {
        if nal[0] & 31 == AUD {
            continue;
        }
        if nal.len() <= PAYLOAD_BYTES_MAX {
            payloads.push(nal.into());
            continue;
        }
        // Equal pieces: they can share a GSO message at the other end.
        let count = (nal.len() - 1).div_ceil(PAYLOAD_BYTES_MAX - 2);
        let size = (nal.len() - 1).div_ceil(count);
        let pieces = nal[1..].chunks(size);
        let last = pieces.len() - 1;
        for (i, piece) in pieces.enumerate() {
            let start = if i == 0 { 0x80 } else { 0 };
            let end = if i == last { 0x40 } else { 0 };
            let head = [(nal[0] & 0xe0) | FU_A, start | end | (nal[0] & 31)];
            payloads.push([&head, piece].concat().into());
        }
    }
    payloads
}

/// Whether a payload comes before a picture's slices: parameter sets and the like.
pub fn is_before_slices(payload: &[u8]) -> bool {
    !matches!(payload[0] & 31, 1..=5 | FU_A)
}

/// "profile-level-id" of the first sequence parameter set, if there is one.
pub fn profile_level_id(unit: &[u8]) -> Option<String> {
    let sps = nal_units(unit).find(|nal| nal[0] & 31 == SPS)?;
    Some(
        sps.get(1..4)?
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
    )
}

/// The NAL units between start codes, without trailing zeros; none is empty.
fn nal_units(unit: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = after_start_code(unit);
    std::iter::from_fn(move || loop {
        let here = rest?;
        let end = here
            .windows(3)
            .position(|w| w == [0, 0, 1])
            .unwrap_or(here.len());
        rest = after_start_code(&here[end..]);
        let kept = here[..end]
            .iter()
            .rposition(|byte| *byte != 0)
            .map_or(0, |last| last + 1);
        if kept > 0 {
            return Some(&here[..kept]);
        }
    })
}

fn after_start_code(bytes: &[u8]) -> Option<&[u8]> {
    let at = bytes.windows(3).position(|w| w == [0, 0, 1])?;
    Some(&bytes[at + 3..])
}
