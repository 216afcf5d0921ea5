//! Connected peers without a handshake: known keys, so that the test can encrypt as they would.

use _native::link::{LinkRec, RoundTrip};
use _native::net::Port;
use _native::srtp::{Keys, Srtcp, Srtp, Way, Window};
use std::net::UdpSocket;

pub const VIDEO: u32 = 0x1111;
pub const AUDIO: u32 = 0x3333;
pub const RTX: u32 = 0x2222;

fn keys(profile: u8, active: bool) -> Keys {
    Keys {
        material: (0..88).collect(),
        profile,
        active,
    }
}

/// The peer's half: seals what it sends.
pub struct Remote {
    rtp: Srtp,
    rtcp: Srtcp,
    next: u32,
}

impl Remote {
    pub fn new(profile: u8) -> Self {
        let keys = keys(profile, true);
        Remote {
            rtp: Srtp::new(&keys, Way::Out),
            rtcp: Srtcp::new(&keys, Way::Out),
            next: 1,
        }
    }

    /// A clear RTP packet as it goes over the wire: its header ends at `head`.
    pub fn seal_rtp(&self, clear: &[u8], head: usize, index: u64) -> Vec<u8> {
        let ssrc = u32::from_be_bytes(clear[8..12].try_into().expect("four bytes"));
        let mut b = clear.to_vec();
        b.resize(clear.len() + self.rtp.tag_len(), 0);
        self.rtp.seal(&mut b, head, ssrc, index);
        b
    }

    /// A clear compound as it goes over the wire.
    pub fn seal_rtcp(&mut self, clear: &[u8]) -> Vec<u8> {
        let mut b = clear.to_vec();
        b.resize(clear.len().max(8) + self.rtcp.extra(), 0);
        self.rtcp.seal(&mut b, self.next);
        self.next += 1;
        b
    }
}

/// Our half of the transport.
pub fn link(profile: u8, to: &UdpSocket) -> LinkRec {
    LinkRec {
        id: 1,
        stream: "s".into(),
        ufrag: "u".into(),
        pwd: "p".into(),
        addr: to.local_addr().expect("bound"),
        keys: keys(profile, false),
        ssrc: 9,
        rtcp_next: 1,
        rtcp_seen: Window::default(),
        heard_ns: 0,
        doubt_ns: None,
        round_trip: RoundTrip::default(),
    }
}

/// A port of ours and the socket of the peer, which reads nothing: what is too much is lost.
pub fn sockets() -> (Port, UdpSocket) {
    let socket = || UdpSocket::bind("127.0.0.1:0").expect("loopback");
    (Port::new(socket(), true).expect("a port"), socket())
}

/// A header's length as the sender of a well-formed packet means it, or the fixed part's.
pub fn head_len(clear: &[u8]) -> usize {
    let mut len = 12 + 4 * usize::from(clear[0] & 15);
    if clear[0] & 0x10 != 0 {
        if let Some(words) = clear.get(len + 2..len + 4) {
            len += 4 + 4 * usize::from(u16::from_be_bytes([words[0], words[1]]));
        }
    }
    if len <= clear.len() {
        len
    } else {
        12
    }
}
