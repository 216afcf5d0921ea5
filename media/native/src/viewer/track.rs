//! One medium as a viewer gets it: numbers, timestamps, and the packet as it leaves.

use crate::net::{Port, RawAddr};
use crate::packet::Packet;
use crate::sdp::Codec;
use crate::srtp::Srtp;
use crate::wire::record;

/// How much faster than live the pictures before the join point are dated.
const SQUEEZE: u64 = 64;
/// First sequence numbers: far from 0, so that nothing underflows, and from the wrap.
const SEQUENCE_FIRST: u64 = 1_000;
const RTP_HEADER_BYTES: usize = 12;
/// SRTP indexes have 48 bits.
const INDEX_BITS: u32 = 48;

record! {
    /// One medium as this viewer gets it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct OutTrack {
        pub codec: Codec,
        pub ssrc: u32,
        pub rtx_ssrc: Option<u32>,
        pub pt: u8,
        pub rtx_pt: Option<u8>,
        pub started: bool,
        pub behind: bool,
        /// Stream index of our SRTP index 0.
        pub base: u64,
        /// Lowest stream index that this viewer is given.
        pub first: u64,
        /// Next stream index in order.
        pub cursor: u64,
        /// Indexes before this one have squeezed timestamps.
        pub join: u64,
        pub join_ts: u64,
        /// SRTP index of the next retransmission.
        pub rtx_next: u64,
        pub packets: u32,
        pub octets: u32,
        /// Cumulative loss as the viewer last reported it.
        pub lost: u32,
    }
}

impl OutTrack {
    /// A track that has not started.
    pub fn new(codec: Codec, pt: u8, ssrc: u32) -> Self {
        OutTrack {
            codec,
            ssrc,
            rtx_ssrc: None,
            pt,
            rtx_pt: None,
            started: false,
            behind: false,
            base: 0,
            first: 0,
            cursor: 0,
            join: 0,
            join_ts: 0,
            rtx_next: SEQUENCE_FIRST,
            packets: 0,
            octets: 0,
            lost: 0,
        }
    }

    pub(super) fn start(&mut self, first: u64, join: u64, join_ts: u64) {
        let sequence = SEQUENCE_FIRST + u64::from(self.ssrc % 16_384);
        self.base = first.saturating_sub(sequence);
        self.first = first;
        self.cursor = first;
        self.join = join;
        self.join_ts = join_ts;
        self.behind = first < join;
        self.started = true;
    }

    /// The RTP timestamp of a packet: the same whenever it is asked for.
    fn timestamp(&self, packet: &Packet) -> u32 {
        let ts = if packet.index < self.join {
            let before = self.join_ts.saturating_sub(packet.ts);
            self.join_ts.saturating_sub(before / SQUEEZE)
        } else {
            packet.ts
        };
        self.offset(ts)
    }

    /// Timestamps begin somewhere else for every track (RFC 3550 5.1).
    pub(super) fn offset(&self, ts: u64) -> u32 {
        (ts as u32).wrapping_add(self.ssrc.wrapping_mul(0x9e37_79b9))
    }

    /// Writes the packet as it stands for this track, `again` as RFC 4588 retransmission.
    pub(super) fn emit(
        &mut self,
        packet: &Packet,
        again: bool,
        to: &RawAddr,
        srtp: &Srtp,
        port: &mut Port,
    ) {
        let index = packet.index.wrapping_sub(self.base);
        if index >> INDEX_BITS != 0 {
            return;
        }
        let (ssrc, pt, srtp_index, osn_bytes) = match (again, self.rtx_ssrc, self.rtx_pt) {
            (true, Some(ssrc), Some(pt)) => {
                self.rtx_next += 1;
                (ssrc, pt, self.rtx_next - 1, 2)
            }
            _ => (self.ssrc, self.pt, index, 0),
        };
        let body = RTP_HEADER_BYTES + osn_bytes;
        let clear = body + packet.payload.len();
        let b = port.push(to, clear + srtp.tag_len());
        b[0] = 0x80;
        b[1] = pt | if packet.marker { 0x80 } else { 0 };
        b[2..4].copy_from_slice(&(srtp_index as u16).to_be_bytes());
        b[4..8].copy_from_slice(&self.timestamp(packet).to_be_bytes());
        b[8..12].copy_from_slice(&ssrc.to_be_bytes());
        if osn_bytes > 0 {
            b[RTP_HEADER_BYTES..body].copy_from_slice(&(index as u16).to_be_bytes());
        }
        b[body..clear].copy_from_slice(&packet.payload);
        srtp.seal(b, RTP_HEADER_BYTES, ssrc, srtp_index);
    }

    pub(super) fn count(&mut self, packet: &Packet) {
        self.packets = self.packets.wrapping_add(1);
        self.octets = self.octets.wrapping_add(packet.payload.len() as u32);
    }

    /// Stream index of a sequence number that this viewer has been sent; None: it has not.
    pub(super) fn index_of(&self, sequence: u16) -> Option<u64> {
        let newest = self.cursor.checked_sub(self.base + 1)?;
        let back = (newest as u16).wrapping_sub(sequence);
        let index = self.base + newest.checked_sub(u64::from(back))?;
        (self.started && back < 1 << 15 && index >= self.first).then_some(index)
    }
}
