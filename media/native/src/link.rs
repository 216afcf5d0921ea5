//! What viewers and publishers share once connected: address, SRTCP both ways, signs of life.
//!
//! Plain data (`LinkRec`) plus keys derived from it.

use crate::net::{Port, RawAddr};
use crate::srtp::{Keys, Srtcp, Way, Window};
use crate::wire::record;
use std::net::SocketAddr;

/// After a DTLS alert that we cannot read the peer has this long to show that it lives.
const DOUBT_NS: u64 = 7_000_000_000;
/// RTCP indexes have 31 bits.
const RTCP_INDEX_END: u32 = 1 << 31;
/// What is longer is taken for this: a report that waited, or a lie.
const ROUND_TRIP_MAX_NS: u64 = 2_000_000_000;

record! {
    /// The way to the peer and back, as far as it has been measured.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct RoundTrip {
        /// Smoothed as in RFC 6298; None: unknown.
        pub smooth_ns: Option<u64>,
        /// It is a guess from the handshake, which includes the peer's computing.
        pub guessed: bool,
    }
}

impl RoundTrip {
    /// The first idea, until something is measured.
    pub fn guess(ns: Option<u64>) -> Self {
        RoundTrip {
            smooth_ns: ns,
            guessed: true,
        }
    }

    /// Takes a measurement in.
    pub fn add(&mut self, sample_ns: u64) {
        let sample_ns = sample_ns.min(ROUND_TRIP_MAX_NS);
        self.smooth_ns = Some(match self.smooth_ns {
            Some(smooth) if !self.guessed => (7 * smooth + sample_ns) / 8,
            _ => sample_ns,
        });
        self.guessed = false;
    }

    /// In milliseconds; -1: unknown.
    pub fn ms(&self) -> i64 {
        self.smooth_ns.map_or(-1, |ns| (ns / 1_000_000) as i64)
    }
}

record! {
    /// The part of a session's record that both roles have.
    #[derive(Clone, Debug, PartialEq)]
    pub struct LinkRec {
        pub id: u64,
        pub stream: String,
        pub ufrag: String,
        pub pwd: String,
        pub addr: SocketAddr,
        pub keys: Keys,
        /// Our own RTCP identity towards this peer.
        pub ssrc: u32,
        /// Index of the next SRTCP packet out: only grows, each is used once.
        pub rtcp_next: u32,
        pub rtcp_seen: Window,
        pub heard_ns: u64,
        pub doubt_ns: Option<u64>,
        pub round_trip: RoundTrip,
    }
}

/// A connected peer's transport.
pub struct Link {
    pub rec: LinkRec,
    pub raw: RawAddr,
    outgoing: Srtcp,
    incoming: Srtcp,
}

impl Link {
    /// `v6_socket`: whether our socket speaks IPv6.
    pub fn new(rec: LinkRec, v6_socket: bool) -> Self {
        Link {
            raw: RawAddr::new(rec.addr, v6_socket),
            outgoing: Srtcp::new(&rec.keys, Way::Out),
            incoming: Srtcp::new(&rec.keys, Way::In),
            rec,
        }
    }

    /// An authenticated packet came.
    pub fn heard(&mut self, now: u64) {
        self.rec.heard_ns = now;
        self.rec.doubt_ns = None;
    }

    /// The peer's newest authenticated address: where media goes from now on.
    pub fn moved(&mut self, to: RawAddr) {
        self.raw = to;
        self.rec.addr = to.addr();
    }

    /// A DTLS alert came from the peer's address; it cannot be read, so it only raises doubt.
    pub fn alert(&mut self, now: u64) {
        self.rec.doubt_ns.get_or_insert(now + DOUBT_NS);
    }

    /// Why the peer counts as gone, if it does.
    pub fn gone(&self, now: u64, silence_ns: u64) -> Option<&'static str> {
        if self.rec.doubt_ns.is_some_and(|t| now > t) {
            return Some("peer said goodbye");
        }
        (now.saturating_sub(self.rec.heard_ns) > silence_ns).then_some("silent")
    }

    /// The clear compound packet when it is authentic and new.
    pub fn open_rtcp<'a>(&mut self, packet: &'a mut [u8], now: u64) -> Option<&'a [u8]> {
        let (index, clear) = self.incoming.open(packet)?;
        if !self.rec.rtcp_seen.fresh(u64::from(index)) {
            return None;
        }
        self.rec.rtcp_seen.mark(u64::from(index));
        self.heard(now);
        Some(clear)
    }

    /// Seals and queues a compound. Its index is spent whether or not the kernel takes it.
    pub fn send_rtcp(&mut self, clear: &[u8], port: &mut Port) {
        let index = self.rec.rtcp_next;
        if clear.len() < 8 || index >= RTCP_INDEX_END {
            return;
        }
        self.rec.rtcp_next += 1;
        let packet = port.push(&self.raw, clear.len() + self.outgoing.extra());
        packet[..clear.len()].copy_from_slice(clear);
        self.outgoing.seal(packet, index);
    }
}
