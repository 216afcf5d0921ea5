//! Session descriptions: reads an offer, decides what to take of it, writes our answer.
//!
//! We are always the answerer and ICE-lite (RFC 8839), one bundled transport (RFC 8843) carries
//! everything, keys come from DTLS (RFC 8842). What this module does not do: it keeps no session
//! state, makes no random number, opens no socket; offers of our own (load client) are in `swarm`.

use std::fmt;
use std::net::SocketAddr;

mod answer;
mod formats;
mod h264;
pub(crate) mod parse;
mod text;
mod transport;

pub use answer::{answer_publisher, answer_viewer};

/// The canonical name in our SDP and our RTCP: one for all tracks of a session (RFC 8834, 4.9).
pub const CNAME: &str = "nexus";

/// What is ours in an answer.
pub struct Local<'a> {
    pub ufrag: &'a str,
    pub pwd: &'a str,
    /// SHA-256 of our certificate, "AA:BB:…".
    pub fingerprint: &'a str,
    pub candidates: &'a [SocketAddr],
    pub session_id: u64,
}

/// Why an offer was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SdpFault {
    /// Cannot be read; names the line and the reason.
    Malformed(String),
    /// Sound, but we cannot serve it; names both sides.
    NotAcceptable(String),
}

impl fmt::Display for SdpFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SdpFault::Malformed(reason) | SdpFault::NotAcceptable(reason) => f.write_str(reason),
        }
    }
}

/// The codecs we carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Codec {
    H264,
    Vp8,
    Vp9,
    Av1,
    Opus,
}

impl Codec {
    /// The name people know it by, as in events.
    pub fn name(self) -> &'static str {
        match self {
            Codec::H264 => "H264",
            Codec::Vp8 => "VP8",
            Codec::Vp9 => "VP9",
            Codec::Av1 => "AV1",
            Codec::Opus => "opus",
        }
    }

    /// Ticks of the RTP clock per second.
    pub fn clock_hz(self) -> u32 {
        if self == Codec::Opus {
            48_000
        } else {
            90_000
        }
    }

    pub fn is_video(self) -> bool {
        self != Codec::Opus
    }
}

/// One negotiated payload format.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Format {
    pub codec: Codec,
    pub pt: u8,
    /// Payload type of its retransmissions (RFC 4588).
    pub rtx_pt: Option<u8>,
    /// The offer's parameters, verbatim.
    pub fmtp: String,
    pub nack: bool,
    pub pli: bool,
    pub remb: bool,
    pub twcc: bool,
}

/// The other side of the transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    pub ufrag: String,
    pub pwd: String,
    /// Hash of the peer's certificate: 32 bytes SHA-256, 48 SHA-384, 64 SHA-512.
    pub fingerprint: Vec<u8>,
    /// We start the DTLS handshake.
    pub we_are_active: bool,
}

/// One medium that a publisher will send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishTrack {
    pub video: bool,
    pub mid: String,
    /// In our order of preference; any of them may come.
    pub formats: Vec<Format>,
    /// Sources that the offer names; may be empty.
    pub ssrcs: Vec<u32>,
    pub rtx_ssrc: Option<u32>,
    /// Extended reports tell round trips (RFC 3611).
    pub extended: bool,
    /// Header extension ids.
    pub twcc_id: Option<u8>,
    pub mid_id: Option<u8>,
}

/// One medium that a viewer will get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlayTrack {
    pub video: bool,
    pub mid: String,
    pub format: Format,
    pub ssrc: u32,
    pub rtx_ssrc: Option<u32>,
    pub mid_id: Option<u8>,
}

/// What a stream is made of just now: codec and its parameters per medium.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Live {
    pub video: Option<(Codec, String)>,
    pub audio: Option<(Codec, String)>,
}

#[cfg(test)]
mod tests;
