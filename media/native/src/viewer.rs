//! A connected viewer: rewrites headers, encrypts, catches up from the packet log, answers NACK,
//! sends sender reports.
//!
//! Plain data (`ViewerRec`) plus derived keys. Theory of operation, per track:
//! - Our SRTP index is the stream's index minus `base`, so each is used once as long as each
//!   packet of the stream is sent once: `cursor` is the next index in order; an index below it that
//!   comes late was a hole when the cursor passed, and the stream lets every index through once.
//! - A joiner is `behind`: it gets the log from the key frame on, paced, until the cursor reaches
//!   the live edge; live packets wait in the log meanwhile. Timestamps before the join point are
//!   squeezed together 64-fold, so that players hurry through the old pictures; the join point is
//!   part of the record, so a packet gets the same timestamp however often it is sent.
//! - Without RTX a lost packet is sent again as it was: the header depends on nothing else, so the
//!   bytes are the same, and the nonce is not used for anything new.

use crate::clock::Mapping;
use crate::link::{Link, LinkRec};
use crate::log::Log;
use crate::net::Port;
use crate::packet::Packet;
use crate::rtcp::{self, be32, extended, feedback};
use crate::sdp::Codec;
use crate::shared::now_ns;
use crate::srtp::{Srtp, Way};
use crate::wire::record;

mod resends;
mod track;

use resends::Resends;
pub use track::OutTrack;

const REPORT_EVERY_NS: u64 = 1_000_000_000;
/// How fast a joiner catches up, and how much it gets at once at most.
const BURST_BYTES_PER_MS: u64 = 16_384;
const BURST_BYTES_MAX: u64 = 65_536;
/// Packets sent again for one RTCP compound.
const RESENDS_PER_COMPOUND_MAX: usize = 256;
/// Receivers of one viewer that measure the way to us: one a medium, and room for more.
const RECEIVERS_MAX: usize = 4;

record! {
    /// A viewer's record.
    #[derive(Clone, Debug, PartialEq)]
    pub struct ViewerRec {
        pub link: LinkRec,
        pub tracks: Vec<OutTrack>,
        pub next_report_ns: u64,
    }
}

/// What a viewer's RTCP wants of others.
#[derive(Default)]
pub struct Wishes {
    pub keyframe: bool,
    pub goodbye: bool,
    pub authentic: bool,
    /// Packets that were asked for beyond what may be sent again.
    pub unheard: u64,
}

/// What has been done for a viewer.
#[derive(Clone, Copy, Default)]
pub struct Counts {
    /// Audio, video.
    pub bytes: [u64; 2],
    pub packets: [u64; 2],
    pub rtx: u64,
    pub nacks: u64,
    pub plis: u64,
}

/// A connected viewer.
pub struct Viewer {
    pub link: Link,
    srtp: Srtp,
    tracks: Vec<OutTrack>,
    next_report_ns: u64,
    burst_ns: u64,
    resends: Resends,
    /// The last sender reports: middle of their NTP time, and when they left.
    reported: Option<(u32, u64)>,
    /// Receivers that told their time since: SSRC, the time, when it came.
    told: Vec<(u32, u32, u64)>,
    /// One has told for the first time: it gets its answer at once.
    answered: bool,
    /// The stream's codec is not the negotiated one any more.
    pub mismatch: Option<Codec>,
    pub counts: Counts,
    /// When the first packet was sent; 0: not yet.
    pub first_ns: u64,
    /// Whether the caller knows of it.
    pub first_told: bool,
}

impl Viewer {
    pub fn new(rec: ViewerRec, v6_socket: bool) -> Self {
        Viewer {
            srtp: Srtp::new(&rec.link.keys, Way::Out),
            link: Link::new(rec.link, v6_socket),
            tracks: rec.tracks,
            next_report_ns: rec.next_report_ns,
            burst_ns: 0,
            resends: Resends::default(),
            reported: None,
            told: vec![],
            answered: false,
            mismatch: None,
            counts: Counts::default(),
            first_ns: 0,
            first_told: false,
        }
    }

    /// The record as of now.
    pub fn record(&self) -> ViewerRec {
        ViewerRec {
            link: self.link.rec.clone(),
            tracks: self.tracks.clone(),
            next_report_ns: self.next_report_ns,
        }
    }

    /// Loss as the viewer reports it.
    pub fn lost(&self) -> u64 {
        self.tracks.iter().map(|t| u64::from(t.lost)).sum()
    }

    /// Whether the viewer is still catching up.
    pub fn behind(&self) -> bool {
        self.tracks.iter().any(|t| t.behind)
    }

    /// Starts every track the logs have something for. True: a key frame is wanted.
    pub fn start(&mut self, logs: &[Log; 2], now: u64) -> bool {
        let mut wanted = false;
        for track in self.tracks.iter_mut().filter(|t| !t.started) {
            let video = track.codec.is_video();
            let log = &logs[usize::from(video)];
            let end = log.end();
            let matches = |index: u64| log.get(index).is_some_and(|p| p.codec == track.codec);
            let group = log.group_start().filter(|start| video && matches(*start));
            match (end, group) {
                (Some(end), Some(start)) => {
                    track.start(start, end, log.top_ts());
                    self.burst_ns = now.saturating_sub(1_000_000);
                }
                (Some(end), None) => track.start(end, end, log.top_ts()),
                (None, _) => {}
            }
            wanted |= video && group.is_none();
        }
        wanted
    }

    /// Live packets of one medium, each of which the stream lets through once.
    pub fn forward(&mut self, packets: &[Packet], medium: usize, port: &mut Port) {
        let video = medium == 1;
        let Some(track) = self.tracks.iter_mut().find(|t| t.codec.is_video() == video) else {
            return;
        };
        for packet in packets.iter().filter(|p| p.is_video() == video) {
            if packet.codec != track.codec {
                self.mismatch = Some(packet.codec);
                continue;
            }
            if !track.started {
                track.start(packet.index, packet.index, packet.ts);
            }
            let late = packet.index < track.cursor;
            if packet.index < track.first || (track.behind && !late) {
                continue;
            }
            if track.packets == 0 {
                self.next_report_ns = 0;
                if self.first_ns == 0 {
                    self.first_ns = now_ns();
                }
            }
            track.emit(packet, false, &self.link.raw, &self.srtp, port);
            track.count(packet);
            self.counts.packets[medium] += 1;
            self.counts.bytes[medium] += packet.payload.len() as u64;
            if !late {
                track.cursor = packet.index + 1;
            }
        }
    }

    /// Gives a viewer that is behind what it may have by now. False: it has caught up.
    pub fn catch_up(&mut self, log: &Log, now: u64, port: &mut Port) -> bool {
        let elapsed = now.saturating_sub(self.burst_ns);
        let mut allowed = (elapsed * BURST_BYTES_PER_MS / 1_000_000).min(BURST_BYTES_MAX);
        if allowed == 0 {
            return true;
        }
        self.burst_ns = now;
        let Some(track) = self.tracks.iter_mut().find(|t| t.behind) else {
            return false;
        };
        let end = log.end().unwrap_or(track.cursor);
        track.cursor = track.cursor.max(log.first());
        while track.cursor < end && allowed > 0 {
            if let Some(packet) = log.get(track.cursor).filter(|p| p.codec == track.codec) {
                if track.packets == 0 {
                    self.next_report_ns = 0;
                    if self.first_ns == 0 {
                        self.first_ns = now;
                    }
                }
                track.emit(packet, false, &self.link.raw, &self.srtp, port);
                track.count(packet);
                let medium = packet.medium();
                self.counts.packets[medium] += 1;
                self.counts.bytes[medium] += packet.payload.len() as u64;
                allowed = allowed.saturating_sub(packet.payload.len() as u64);
            }
            track.cursor += 1;
        }
        track.behind = track.cursor < end;
        track.behind
    }

    /// Reads a compound; answers NACKs from the logs.
    pub fn rtcp(
        &mut self,
        packet: &mut [u8],
        logs: &[Log; 2],
        now: u64,
        port: &mut Port,
    ) -> Wishes {
        self.rtcp_within(packet, logs, (now, RESENDS_PER_COMPOUND_MAX), port)
    }

    /// The same for a viewer that may have `most` packets sent again just `now`.
    pub fn rtcp_within(
        &mut self,
        packet: &mut [u8],
        logs: &[Log; 2],
        (now, most): (u64, usize),
        port: &mut Port,
    ) -> Wishes {
        let mut wishes = Wishes::default();
        let Some(clear) = self.link.open_rtcp(packet, now) else {
            return wishes;
        };
        wishes.authentic = true;
        let mut budget = RESENDS_PER_COMPOUND_MAX.min(most);
        let (mut blocks, mut times) = (vec![], vec![]);
        for part in rtcp::parts(clear) {
            match (part.kind, part.count) {
                (rtcp::PSFB, rtcp::PLI | rtcp::FIR) => {
                    wishes.keyframe = true;
                    self.counts.plis += 1;
                }
                (rtcp::RTPFB, rtcp::NACK) if part.bytes.len() >= 12 => {
                    self.counts.nacks += 1;
                    let media = be32(part.bytes, 8);
                    let Some(at) = self.tracks.iter().position(|t| t.ssrc == media) else {
                        continue;
                    };
                    for sequence in feedback::nacked(part.bytes) {
                        if budget == 0 {
                            wishes.unheard += 1;
                            continue;
                        }
                        self.resend(at, sequence, logs, now, port);
                        budget -= 1;
                    }
                }
                (rtcp::BYE, _) => wishes.goodbye = true,
                (rtcp::SR | rtcp::RR, _) => {
                    for block in rtcp::read_reports(&part) {
                        if let Some(t) = self.tracks.iter_mut().find(|t| t.ssrc == block.ssrc) {
                            t.lost = block.lost.max(0) as u32;
                            blocks.push(block);
                        }
                    }
                }
                (rtcp::XR, _) => times.extend(extended::read_times(&part)),
                _ => {}
            }
        }
        blocks.iter().for_each(|block| self.measure(block, now));
        times.iter().for_each(|time| self.was_told(*time, now));
        wishes
    }

    /// The way there and back, when a reception block is about our last sender reports.
    fn measure(&mut self, block: &rtcp::Report, now: u64) {
        let Some((middle, at)) = self.reported.filter(|(middle, _)| *middle == block.lsr) else {
            return;
        };
        let gone = extended::middle(now.saturating_sub(at));
        let way = extended::round_trip_ns(middle.wrapping_add(gone), block.lsr, block.dlsr);
        if let Some(ns) = way {
            self.link.rec.round_trip.add(ns);
        }
    }

    /// A receiver told its time (RFC 3611): it gets it back with the next sender reports.
    fn was_told(&mut self, (ssrc, time): (u32, u32), now: u64) {
        self.told.retain(|(known, _, _)| *known != ssrc);
        if self.told.len() < RECEIVERS_MAX {
            self.told.push((ssrc, time, now));
        }
        if !std::mem::replace(&mut self.answered, true) {
            self.next_report_ns = 0;
        }
    }

    fn resend(&mut self, at: usize, sequence: u16, logs: &[Log; 2], now: u64, port: &mut Port) {
        let track = &mut self.tracks[at];
        let Some(index) = track.index_of(sequence) else {
            return;
        };
        let medium = usize::from(track.codec.is_video());
        let Some(packet) = logs[medium].get(index).filter(|p| p.codec == track.codec) else {
            return;
        };
        let (key, way) = (
            index << 1 | medium as u64,
            self.link.rec.round_trip.smooth_ns,
        );
        if self.resends.allow(key, way, now) {
            track.emit(packet, true, &self.link.raw, &self.srtp, port);
            self.counts.rtx += 1;
        }
    }

    /// Sender reports, when they are due. `unix_ns`: our time now.
    pub fn tick(&mut self, now: u64, unix_ns: i64, clocks: &[Option<Mapping>; 2], port: &mut Port) {
        if now < self.next_report_ns {
            return;
        }
        let mut compound = vec![];
        for track in self.tracks.iter().filter(|t| t.packets > 0) {
            let Some(clock) = clocks[usize::from(track.codec.is_video())] else {
                continue;
            };
            let info = rtcp::SenderInfo {
                ssrc: track.ssrc,
                ntp: rtcp::ntp_from_unix_ns(unix_ns),
                rtp: track.offset(clock.ts_at(unix_ns)),
                packets: track.packets,
                octets: track.octets,
            };
            rtcp::sender_report(&mut compound, &info);
        }
        if !compound.is_empty() {
            self.next_report_ns = now + REPORT_EVERY_NS;
            self.reported = Some(((rtcp::ntp_from_unix_ns(unix_ns) >> 16) as u32, now));
            let times = self.told.drain(..).map(|(ssrc, last, at)| extended::Delay {
                ssrc,
                last,
                kept: extended::middle(now.saturating_sub(at)),
            });
            let times: Vec<_> = times.collect();
            if !times.is_empty() {
                extended::delays(&mut compound, self.link.rec.ssrc, &times);
            }
            self.link.send_rtcp(&compound, port);
        }
    }

    /// Says goodbye.
    pub fn bye(&mut self, port: &mut Port) {
        let ssrcs: Vec<u32> = self.tracks.iter().map(|t| t.ssrc).collect();
        let mut compound = vec![];
        rtcp::receiver_report(&mut compound, self.link.rec.ssrc, &[]);
        rtcp::bye(&mut compound, &ssrcs);
        self.link.send_rtcp(&compound, port);
    }
}

#[cfg(test)]
mod tests;
