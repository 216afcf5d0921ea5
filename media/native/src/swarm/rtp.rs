//! The RTP header (RFC 3550, RFC 8285), read and written; and what a client writes through.

use crate::rtcp;
use crate::srtp::{Keys, Srtcp, Srtp, Way};
use std::net::UdpSocket;

/// Bytes of a header without extensions.
pub const HEAD_BYTES: usize = 12;

/// The fields that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Head {
    pub pt: u8,
    pub marker: bool,
    pub sequence: u16,
    pub timestamp: u32,
    pub ssrc: u32,
}

/// Header and its length with extensions; None when the bytes are no RTP packet.
pub fn read(b: &[u8]) -> Option<(Head, usize)> {
    if b.len() < HEAD_BYTES || b[0] >> 6 != 2 {
        return None;
    }
    let mut length = HEAD_BYTES + 4 * usize::from(b[0] & 15);
    if b[0] & 0x10 != 0 {
        let words = u16::from_be_bytes([*b.get(length + 2)?, *b.get(length + 3)?]);
        length += 4 + 4 * usize::from(words);
    }
    let head = Head {
        pt: b[1] & 127,
        marker: b[1] & 128 != 0,
        sequence: rtcp::be16(b, 2),
        timestamp: rtcp::be32(b, 4),
        ssrc: rtcp::be32(b, 8),
    };
    (b.len() >= length).then_some((head, length))
}

/// Keys in use and the socket they are used on.
pub struct Channel {
    socket: UdpSocket,
    srtp_in: Srtp,
    srtp_out: Srtp,
    srtcp_in: Srtcp,
    srtcp_out: Srtcp,
    rtcp_next: u32,
    scratch: Vec<u8>,
}

impl Channel {
    pub fn new(keys: &Keys, socket: UdpSocket) -> Self {
        Channel {
            socket,
            srtp_in: Srtp::new(keys, Way::In),
            srtp_out: Srtp::new(keys, Way::Out),
            srtcp_in: Srtcp::new(keys, Way::In),
            srtcp_out: Srtcp::new(keys, Way::Out),
            rtcp_next: 1,
            scratch: Vec::with_capacity(2048),
        }
    }

    /// Length of the authentication tag at a packet's end.
    pub fn tag_bytes(&self) -> usize {
        self.srtp_in.tag_len()
    }

    /// The clear payload; the first 12 bytes of `packet` have been read as `head`.
    pub fn open<'a>(
        &self,
        packet: &'a mut [u8],
        head_bytes: usize,
        head: Head,
        index: u64,
    ) -> Option<&'a [u8]> {
        let padded = packet[0] & 0x20 != 0;
        let payload = self.srtp_in.open(packet, head_bytes, head.ssrc, index)?;
        if !padded {
            return Some(payload);
        }
        let padding = usize::from(*payload.last()?);
        payload.get(..payload.len().checked_sub(padding)?)
    }

    /// The clear compound.
    pub fn open_rtcp<'a>(&self, packet: &'a mut [u8]) -> Option<&'a [u8]> {
        self.srtcp_in.open(packet).map(|(_, compound)| compound)
    }

    /// Seals and sends a packet whose payload is `prefix` and `payload`; its length on the wire.
    pub fn send(&mut self, head: Head, index: u64, prefix: &[u8], payload: &[u8]) -> usize {
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(&[0x80, head.pt | u8::from(head.marker) << 7]);
        out.extend_from_slice(&head.sequence.to_be_bytes());
        out.extend_from_slice(&head.timestamp.to_be_bytes());
        out.extend_from_slice(&head.ssrc.to_be_bytes());
        out.extend_from_slice(prefix);
        out.extend_from_slice(payload);
        out.resize(out.len() + self.srtp_out.tag_len(), 0);
        self.srtp_out.seal(out, HEAD_BYTES, head.ssrc, index);
        // A full socket buffer is loss on the way, as on any network.
        let _ = self.socket.send(out);
        out.len()
    }

    /// Seals and sends a compound of at least one packet.
    pub fn send_rtcp(&mut self, compound: &[u8]) {
        if compound.len() < 8 {
            return;
        }
        let out = &mut self.scratch;
        out.clear();
        out.extend_from_slice(compound);
        out.resize(out.len() + self.srtcp_out.extra(), 0);
        self.srtcp_out.seal(out, self.rtcp_next);
        self.rtcp_next += 1;
        let _ = self.socket.send(out);
    }
}
