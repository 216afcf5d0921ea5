//! A connected publisher: opens its packets, drops repeats, recovers retransmissions, asks for what
//! is missing, reports.
//!
//! Plain data (`SourceRec`) plus derived keys. It knows nothing of streams or viewers: `rtp` gives
//! media packets with the source's own extended index, each index of a source exactly once, whether
//! the original or a retransmission came first. That `sent` window is what keeps viewers' SRTP
//! indexes single-use.

use crate::link::{Link, LinkRec};
use crate::net::Port;
use crate::rtcp::{self, be16, be32, extended, feedback, SenderInfo};
use crate::sdp::Codec;
use crate::srtp::{Srtp, Way};
use crate::wire::record;

mod header;
mod medium;
mod ssrc;
mod transport;

pub use medium::Medium;
pub use ssrc::InSsrc;
pub use transport::TransportIn;

const RR_EVERY_NS: u64 = 1_000_000_000;
/// A publisher that has lost something within this time counts as one that loses.
const LOSSY_NS: u64 = 5_000_000_000;
/// SSRCs of one publisher; never forgotten, so that none can be replayed.
const SSRCS_MAX: usize = 32;
/// What a publisher without transport-cc is told it may send.
const REMB_BITS_PER_SECOND: u64 = 30_000_000;

record! {
    /// What a payload type means.
    #[derive(Clone, Debug, PartialEq)]
    pub struct PayloadType { pub pt: u8, pub codec: Codec, pub rtx: bool }
}

record! {
    /// A publisher's record.
    #[derive(Clone, Debug, PartialEq)]
    pub struct SourceRec {
        pub link: LinkRec,
        pub types: Vec<PayloadType>,
        pub nack: [bool; 2],
        pub remb: bool,
        /// It measures round trips by extended reports (RFC 3611).
        pub extended: bool,
        pub ssrcs: Vec<InSsrc>,
        /// Audio, video.
        pub media: [Option<Medium>; 2],
        pub transport: TransportIn,
        pub next_report_ns: u64,
    }
}

/// A media packet of the publisher, clear.
pub struct Arrival<'a> {
    pub codec: Codec,
    /// Counts the sources (SSRCs) of this medium: with a new one indexes and timestamps start anew.
    pub epoch: u32,
    pub index: u64,
    pub ts: u32,
    pub marker: bool,
    pub payload: &'a [u8],
}

/// What a publisher's RTCP says.
#[derive(Default)]
pub struct Heard {
    /// (medium, its report)
    pub reports: Vec<(usize, SenderInfo)>,
    pub goodbye: bool,
    pub authentic: bool,
}

/// What has been got from a publisher, and asked of it.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    pub packets: u64,
    pub bytes: u64,
    /// For good, or not yet recovered.
    pub lost: u64,
    /// Recovered by retransmission.
    pub rtx: u64,
    pub nacks: u64,
    pub plis: u64,
}

/// A connected publisher.
pub struct Source {
    pub link: Link,
    srtp: Srtp,
    rec: SourceRec,
    counts: Counts,
}

impl Source {
    pub fn new(rec: SourceRec, v6_socket: bool) -> Self {
        Source {
            link: Link::new(rec.link.clone(), v6_socket),
            srtp: Srtp::new(&rec.link.keys, Way::In),
            rec,
            counts: Counts::default(),
        }
    }

    /// The record as of now.
    pub fn record(&self) -> SourceRec {
        SourceRec {
            link: self.link.rec.clone(),
            ..self.rec.clone()
        }
    }

    pub fn counts(&self) -> Counts {
        let originals = self.rec.ssrcs.iter().filter(|s| !s.rtx);
        let lost: u64 = originals.map(InSsrc::lost).sum();
        Counts {
            lost: lost.saturating_sub(self.counts.rtx),
            ..self.counts
        }
    }

    /// Opens one SRTP packet. None: not authentic, a repeat, or of no interest.
    pub fn rtp<'a>(&mut self, packet: &'a mut [u8], now: u64) -> Option<Arrival<'a>> {
        let head = header::parse(packet)?;
        let kind = self.rec.types.iter().find(|t| t.pt == head.pt)?.clone();
        let at = self.ssrc_slot(&head, &kind)?;
        let s = &mut self.rec.ssrcs[at];
        let index = s.seen.extend(head.sequence);
        let opened =
            s.seen.fresh(index) && self.srtp.open(packet, head.len, head.ssrc, index).is_some();
        if !opened {
            if s.got == 0 {
                self.rec.ssrcs.remove(at); // an unauthenticated SSRC leaves nothing behind
            }
            return None;
        }
        s.arrived(index, head.ts, kind.codec.clock_hz(), now);
        self.link.heard(now);
        let transport = header::extension(packet, &head, self.rec.transport.id);
        if let Some(sequence) = transport {
            self.rec.transport.add(sequence, now);
        }
        let end = packet.len() - self.srtp.tag_len();
        let clear = header::unpadded(&packet[head.len..end], head.padded)?;
        let (index, payload) = if kind.rtx {
            let medium = self.rec.media[usize::from(kind.codec.is_video())].as_ref()?;
            let original = clear.get(..2)?;
            (medium.sent.extend(be16(original, 0)), &clear[2..])
        } else {
            (index, clear)
        };
        let epoch = self.admit(at, index, payload, now)?;
        self.counts.packets += 1;
        self.counts.bytes += payload.len() as u64;
        self.counts.rtx += u64::from(kind.rtx);
        Some(Arrival {
            codec: kind.codec,
            epoch,
            index,
            ts: head.ts,
            marker: head.marker,
            payload,
        })
    }

    /// Where the SSRC is kept, made if it is new.
    fn ssrc_slot(&mut self, head: &header::Header, kind: &PayloadType) -> Option<usize> {
        let known = self.rec.ssrcs.iter().position(|s| s.ssrc == head.ssrc);
        if known.is_some() {
            return known;
        }
        if self.rec.ssrcs.len() >= SSRCS_MAX {
            return None;
        }
        let video = kind.codec.is_video();
        let current = self.rec.media[usize::from(video)].as_ref();
        let epoch = match (current, kind.rtx) {
            (None, true) => return None, // nothing yet that it could be a retransmission of
            (Some(m), true) => m.epoch,
            (_, false) => 0, // decided when it is admitted
        };
        self.rec
            .ssrcs
            .push(InSsrc::new(head, video, kind.rtx, epoch));
        Some(self.rec.ssrcs.len() - 1)
    }

    /// Whether a media packet is new to its medium: its epoch, or None.
    fn admit(&mut self, at: usize, index: u64, payload: &[u8], now: u64) -> Option<u32> {
        let s = &mut self.rec.ssrcs[at];
        let slot = &mut self.rec.media[usize::from(s.video)];
        if slot.as_ref().is_none_or(|m| m.may_give_way(s, now)) {
            *slot = Some(Medium::new(s, slot.as_ref()));
        }
        let medium = slot.as_mut()?;
        if s.epoch != medium.epoch {
            return None;
        }
        let new = medium.sent.fresh(index);
        if payload.is_empty() && s.rtx {
            return None; // padding that probes the bandwidth
        }
        if new {
            // padding of the medium itself is not asked for again either
            if let Some(way_ns) = medium.got(index, now) {
                self.link.rec.round_trip.add(way_ns);
            }
        }
        (new && !payload.is_empty()).then_some(medium.epoch)
    }

    /// Reads a compound.
    pub fn rtcp(&mut self, packet: &mut [u8], now: u64) -> Heard {
        let mut heard = Heard::default();
        let Some(clear) = self.link.open_rtcp(packet, now) else {
            return heard;
        };
        heard.authentic = true;
        let mut ways = vec![];
        for part in rtcp::parts(clear) {
            ways.extend(extended::read_delays(&part));
            if let Some(info) = rtcp::read_sender_report(&part) {
                let known = self
                    .rec
                    .ssrcs
                    .iter_mut()
                    .find(|s| s.ssrc == info.ssrc && !s.rtx);
                let Some(s) = known else { continue };
                s.sr = Some(((info.ntp >> 16) as u32, now));
                let medium = usize::from(s.video);
                let current = self.rec.media[medium].as_ref();
                if current.is_some_and(|m| m.ssrc == info.ssrc) {
                    heard.reports.push((medium, info));
                }
            } else if part.kind == rtcp::BYE {
                let named = 4 * usize::from(part.count);
                let named = part.bytes.get(4..4 + named).unwrap_or(&[]);
                for ssrc in named.chunks_exact(4) {
                    let gone = be32(ssrc, 0);
                    let media = self.rec.media.iter_mut().flatten();
                    media.filter(|m| m.ssrc == gone).for_each(|m| m.left = true);
                }
            }
        }
        for delay in ways.iter().filter(|d| d.ssrc == self.link.rec.ssrc) {
            let way = extended::round_trip_ns(extended::middle(now), delay.last, delay.kept);
            if let Some(ns) = way {
                self.link.rec.round_trip.add(ns);
            }
        }
        let mut media = self.rec.media.iter().flatten().peekable();
        heard.goodbye = media.peek().is_some() && media.all(|m| m.left);
        heard
    }

    /// Asks for a key frame. False: no video has come yet.
    pub fn pli(&mut self, port: &mut Port) -> bool {
        let Some(video) = &self.rec.media[1] else {
            return false;
        };
        let me = self.link.rec.ssrc;
        let mut compound = vec![];
        rtcp::receiver_report(&mut compound, me, &[]);
        feedback::pli(&mut compound, me, video.ssrc);
        self.link.send_rtcp(&compound, port);
        self.counts.plis += 1;
        true
    }

    /// Every 10 ms or so: NACKs that are due, feedback, reports. How many packets were asked for.
    pub fn tick(&mut self, now: u64, port: &mut Port) -> u64 {
        let me = self.link.rec.ssrc;
        let mut body = vec![];
        let mut asked = 0;
        let way = self.link.rec.round_trip.smooth_ns;
        for (medium, wanted) in self.rec.media.iter_mut().zip(self.rec.nack) {
            match medium {
                Some(m) if wanted => asked += m.ask(me, way, now, &mut body),
                Some(m) => m.resign(),
                None => {}
            }
        }
        let media = self.rec.ssrcs.first().map_or(0, |s| s.ssrc);
        self.rec.transport.report(&mut body, me, media, now);
        self.counts.nacks += asked;
        let mut compound = vec![];
        if now >= self.rec.next_report_ns && !self.rec.ssrcs.is_empty() {
            self.rec.next_report_ns = now + RR_EVERY_NS;
            self.reports(&mut compound, now);
        } else if !body.is_empty() {
            rtcp::receiver_report(&mut compound, me, &[]);
        }
        compound.extend_from_slice(&body);
        self.link.send_rtcp(&compound, port);
        asked
    }

    /// When `tick` has something to ask for; None: nothing is missing.
    pub fn due_ns(&self) -> Option<u64> {
        let media = self.rec.media.iter().flatten();
        media.filter_map(Medium::due_ns).min()
    }

    /// Whether pictures have been lost for good since this was last asked.
    pub fn take_broken(&mut self) -> bool {
        let video = self.rec.media[1].as_mut();
        video.is_some_and(|m| std::mem::take(&mut m.broken))
    }

    /// Whether packets get lost on the way from, and so perhaps to, the publisher.
    pub fn lossy(&self, now: u64) -> bool {
        let mut missed = self.rec.media.iter().flatten().filter_map(|m| m.missed_ns);
        missed.any(|at| now.saturating_sub(at) < LOSSY_NS)
    }

    fn reports(&mut self, compound: &mut Vec<u8>, now: u64) {
        let me = self.link.rec.ssrc;
        let media = &self.rec.media;
        let current = |s: &InSsrc| {
            let medium = media[usize::from(s.video)].as_ref();
            medium.is_some_and(|m| m.epoch == s.epoch)
        };
        let ssrcs = self.rec.ssrcs.iter_mut();
        let blocks: Vec<_> = ssrcs
            .filter(|s| current(s))
            .map(|s| s.report(now))
            .take(8)
            .collect();
        rtcp::receiver_report(compound, me, &blocks);
        rtcp::sdes(compound, me);
        if self.rec.extended {
            extended::receiver_time(compound, me, now);
        }
        if self.rec.remb {
            let ssrcs: Vec<u32> = blocks.iter().map(|b| b.ssrc).collect();
            feedback::remb(compound, me, REMB_BITS_PER_SECOND, &ssrcs);
        }
    }

    /// Says goodbye.
    pub fn bye(&mut self, port: &mut Port) {
        let me = self.link.rec.ssrc;
        let mut compound = vec![];
        rtcp::receiver_report(&mut compound, me, &[]);
        rtcp::bye(&mut compound, &[me]);
        self.link.send_rtcp(&compound, port);
    }
}

#[cfg(test)]
mod tests;
