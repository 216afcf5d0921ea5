//! H.264 profiles as SDP names them (RFC 6184, 8.1): which offered format suits a stream best.

use super::parse::parameter;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Profile {
    ConstrainedBaseline,
    Baseline,
    Main,
    ConstrainedHigh,
    High,
    Other(u8),
}

impl Profile {
    /// Of a "profile-level-id"; without one RFC 6184 says Baseline.
    fn of(fmtp: &str) -> Profile {
        let id = parameter(fmtp, "profile-level-id").filter(|id| id.len() == 6);
        let Some(id) = id.and_then(|id| u32::from_str_radix(id, 16).ok()) else {
            return Profile::Baseline;
        };
        let (idc, constraints) = ((id >> 16) as u8, (id >> 8) as u8);
        match idc {
            0x42 if constraints & 0x40 != 0 => Profile::ConstrainedBaseline,
            0x42 => Profile::Baseline,
            0x4d if constraints & 0x80 != 0 => Profile::ConstrainedBaseline,
            0x4d => Profile::Main,
            0x64 if constraints & 0x0c == 0x0c => Profile::ConstrainedHigh,
            0x64 => Profile::High,
            idc => Profile::Other(idc),
        }
    }

    /// How much a decoder of this profile can, for those that contain each other.
    fn rank(self) -> Option<u8> {
        match self {
            Profile::ConstrainedBaseline => Some(0),
            Profile::Baseline => Some(1),
            Profile::Main => Some(2),
            Profile::ConstrainedHigh => Some(3),
            Profile::High => Some(4),
            Profile::Other(_) => None,
        }
    }
}

/// "packetization-mode" of a format; 0 when it is not given.
pub fn mode(fmtp: &str) -> u8 {
    parameter(fmtp, "packetization-mode")
        .and_then(|m| m.parse().ok())
        .unwrap_or(0)
}

/// How badly an offered format fits a stream (0: exactly); None: it cannot carry it.
///
/// A decoder in practice plays more than it says, so another profile is a worse fit, not a
/// refusal; but fragmented units need packetization-mode 1 at the receiver.
pub fn misfit(stream: &str, offered: &str) -> Option<u8> {
    if mode(offered) < mode(stream).min(1) || mode(offered) > 1 {
        return None;
    }
    let (ours, theirs) = (Profile::of(stream), Profile::of(offered));
    let same_family = matches!(
        (ours, theirs),
        (Profile::Baseline, Profile::ConstrainedBaseline)
            | (Profile::ConstrainedBaseline, Profile::Baseline)
            | (Profile::High, Profile::ConstrainedHigh)
            | (Profile::ConstrainedHigh, Profile::High)
    );
    let misfit = match (ours.rank(), theirs.rank()) {
        _ if ours == theirs => 0,
        _ if same_family => 1,
        (Some(ours), Some(theirs)) if theirs > ours => 2,
        (Some(ours), Some(theirs)) => 3 + (ours - theirs),
        _ => 9,
    };
    // With equal profiles mode 1 first: the publisher may use it later on.
    Some(2 * misfit + u8::from(mode(offered) == 0))
}
