//! The receiving client: opens packets, counts what came and what did not, reports like a player.

use super::latency::{Histogram, Stamp};
use super::offer::Payload;
use super::rtp::{self, Channel, Head};
use super::ClientStats;
use crate::keyframe::is_key;
use crate::rtcp::{self, feedback, Report};
use crate::sdp::Codec;
use crate::shared::now_ns;
use crate::srtp::Window;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Sources of one viewer: two media with retransmissions, and room for a change.
const SOURCES_MAX: usize = 8;
/// Packets whose tag is remembered per source, to tell a copy from a reused index.
const TAGS_MAX: usize = 1_024;
/// Missing packets asked for at a time.
const MISSING_MAX: usize = 512;
/// A missing packet may only be late: it is asked for after this long.
const NACK_FIRST: Duration = Duration::from_millis(10);
const NACK_AGAIN: Duration = Duration::from_millis(100);
const NACK_TRIES_MAX: u8 = 10;
const REPORT_EVERY: Duration = Duration::from_secs(1);
/// Video without a key frame for this long: one is asked for.
const PLI_AFTER: Duration = Duration::from_millis(800);

#[derive(Clone, Copy)]
enum Kind {
    Media(Codec),
    /// Retransmissions of the source with this payload type.
    Rtx(u8),
}

struct Miss {
    tries: u8,
    due: Instant,
}

/// One SSRC.
struct Source {
    ssrc: u32,
    kind: Kind,
    pt: u8,
    window: Window,
    first: u64,
    unique: u64,
    tags: Box<[(u64, u64)]>,
    missing: BTreeMap<u64, Miss>,
    nack: bool,
    pli: bool,
    last_key_ts: Option<u32>,
    /// Of the picture that is arriving: its RTP timestamp, and when it was sent.
    stamp: Option<(u32, u64)>,
    began: Instant,
    /// For the reports: RTP units of jitter times 16, last transit, expected and lost at the last.
    jitter16: u32,
    transit: Option<u32>,
    told: (u64, u64),
    last_sr: Option<(u32, Instant)>,
}

pub struct Viewer {
    decrypt: bool,
    feedback: bool,
    payloads: Vec<Payload>,
    pairs: Vec<(u32, u32)>,
    sources: Vec<Source>,
    origin: Option<Instant>,
    next_report: Option<Instant>,
    next_pli: Option<Instant>,
    /// Nothing is missing and nothing is due before.
    quiet_until: Option<Instant>,
}

impl Viewer {
    pub fn new(decrypt: bool, feedback: bool) -> Self {
        Viewer {
            decrypt,
            feedback,
            payloads: Vec::new(),
            pairs: Vec::new(),
            sources: Vec::new(),
            origin: None,
            next_report: None,
            next_pli: None,
            quiet_until: None,
        }
    }

    /// What the answer took.
    pub fn begin(&mut self, payloads: Vec<Payload>, pairs: Vec<(u32, u32)>) {
        self.payloads = payloads;
        self.pairs = pairs;
    }

    /// Takes one RTP datagram.
    pub fn receive(
        &mut self,
        packet: &mut [u8],
        channel: &Channel,
        now: Instant,
        stats: &mut ClientStats,
        latency: &mut Histogram,
    ) {
        let Some((head, head_bytes)) = rtp::read(packet) else {
            return;
        };
        let Some(at) = self.source(head, now) else {
            return;
        };
        stats.packets += 1;
        stats.bytes += packet.len() as u64;
        let index = self.sources[at].window.extend(head.sequence);
        let tag = tag(packet, channel.tag_bytes());
        if !self.sources[at].window.fresh(index) {
            let (known, old) = self.sources[at].tags[index as usize % TAGS_MAX];
            if known == index && old != tag {
                stats.index_repeats += 1;
            } else {
                stats.duplicates += 1;
            }
            return;
        }
        let clear: Option<&[u8]> = if self.decrypt {
            let Some(payload) = channel.open(packet, head_bytes, head, index) else {
                stats.decrypt_errors += 1;
                if !self.sources[at].window.any {
                    self.sources.remove(at);
                }
                return;
            };
            Some(payload)
        } else {
            None
        };
        self.sources[at].arrived(index, tag, now, stats);
        if !self.sources[at].missing.is_empty()
            || (self.sources[at].pli && self.sources[at].last_key_ts.is_none())
        {
            self.quiet_until = None;
        }
        match self.sources[at].kind {
            Kind::Media(codec) => {
                self.sources[at].measure(head.timestamp, codec, now, self.origin);
                self.sources[at].picture(head, codec, clear, stats);
                self.sources[at].measure_picture(head, clear, latency);
            }
            Kind::Rtx(pt) => {
                stats.rtx += 1;
                self.recover(head, pt, clear, stats);
            }
        }
    }

    /// Takes a clear compound of the server.
    pub fn receive_rtcp(&mut self, compound: &[u8], now: Instant) {
        for part in rtcp::parts(compound) {
            let Some(report) = rtcp::read_sender_report(&part) else {
                continue;
            };
            if let Some(source) = self.sources.iter_mut().find(|s| s.ssrc == report.ssrc) {
                source.last_sr = Some(((report.ntp >> 16) as u32, now));
            }
        }
    }

    /// Writes what is due into `out`: reports, NACK, PLI.
    pub fn tick(&mut self, own_ssrc: u32, now: Instant, out: &mut Vec<u8>) {
        if !self.feedback || self.sources.is_empty() || self.quiet_until > Some(now) {
            return;
        }
        let report = *self.next_report.get_or_insert(now + REPORT_EVERY) <= now;
        if report {
            self.next_report = Some(now + REPORT_EVERY);
            let media = |s: &&mut Source| matches!(s.kind, Kind::Media(_));
            let blocks: Vec<Report> = self
                .sources
                .iter_mut()
                .filter(media)
                .map(|s| s.report(now))
                .collect();
            rtcp::receiver_report(out, own_ssrc, &blocks);
        }
        for source in &mut self.sources {
            let asked = source.overdue(now);
            if !asked.is_empty() {
                feedback::nack(out, own_ssrc, source.ssrc, &asked);
            }
        }
        let lacks = |s: &&Source| {
            let waited = s.last_key_ts.is_none() && now.duration_since(s.began) > PLI_AFTER;
            matches!(s.kind, Kind::Media(codec) if codec.is_video()) && s.pli && waited
        };
        let due = self.decrypt && self.next_pli.is_none_or(|at| at <= now);
        if let Some(source) = self.sources.iter().find(lacks).filter(|_| due) {
            feedback::pli(out, own_ssrc, source.ssrc);
            self.next_pli = Some(now + REPORT_EVERY);
        }
        let quiet = |s: &Source| s.missing.is_empty() && (s.last_key_ts.is_some() || !s.pli);
        self.quiet_until = self.next_report.filter(|_| self.sources.iter().all(quiet));
    }

    /// Media packets missing now.
    pub fn lost(&self) -> u64 {
        let media = self
            .sources
            .iter()
            .filter(|s| matches!(s.kind, Kind::Media(_)));
        media.map(Source::lost).sum()
    }

    /// The source of a packet, made on its first; None for payload types the answer did not take.
    fn source(&mut self, head: Head, now: Instant) -> Option<usize> {
        self.origin.get_or_insert(now);
        if let Some(at) = self.sources.iter().position(|s| s.ssrc == head.ssrc) {
            return Some(at);
        }
        if self.sources.len() == SOURCES_MAX {
            return None;
        }
        let media = self.payloads.iter().find(|p| p.pt == head.pt);
        let rtx = self.payloads.iter().find(|p| p.rtx_pt == Some(head.pt));
        let (kind, payload) = match (media, rtx) {
            (Some(payload), _) => (Kind::Media(payload.codec), payload),
            (None, Some(payload)) => (Kind::Rtx(payload.pt), payload),
            (None, None) => return None,
        };
        let is_media = matches!(kind, Kind::Media(_));
        self.sources.push(Source {
            ssrc: head.ssrc,
            kind,
            pt: head.pt,
            window: Window::default(),
            first: 0,
            unique: 0,
            tags: vec![(u64::MAX, 0); TAGS_MAX].into(),
            missing: BTreeMap::new(),
            nack: is_media && payload.nack && self.feedback && self.decrypt,
            pli: is_media && payload.pli,
            last_key_ts: None,
            stamp: None,
            began: now,
            jitter16: 0,
            transit: None,
            told: (0, 0),
            last_sr: None,
        });
        Some(self.sources.len() - 1)
    }

    /// Puts a retransmitted packet in its place; without its clear text it is only counted.
    fn recover(&mut self, head: Head, pt: u8, clear: Option<&[u8]>, stats: &mut ClientStats) {
        let Some([high, low, payload @ ..]) = clear else {
            return;
        };
        let paired = self
            .pairs
            .iter()
            .find(|(_, rtx)| *rtx == head.ssrc)
            .map(|(main, _)| *main);
        let fits = |s: &&mut Source| match paired {
            Some(main) => s.ssrc == main,
            None => s.pt == pt,
        };
        let Some(source) = self.sources.iter_mut().find(fits) else {
            return;
        };
        let index = source.window.extend(u16::from_be_bytes([*high, *low]));
        if index < source.first || !source.window.fresh(index) {
            return;
        }
        source.window.mark(index);
        source.unique += 1;
        source.missing.remove(&index);
        if let Kind::Media(codec) = source.kind {
            source.picture(head, codec, Some(payload), stats);
        }
    }
}

impl Source {
    fn arrived(&mut self, index: u64, tag: u64, now: Instant, stats: &mut ClientStats) {
        if !self.window.any {
            self.first = index;
        } else if index < self.window.top {
            stats.reordered += 1;
            self.first = self.first.min(index);
        } else if self.nack && index - self.window.top <= MISSING_MAX as u64 {
            for missing in self.window.top + 1..index {
                if self.missing.len() < MISSING_MAX {
                    self.missing.insert(
                        missing,
                        Miss {
                            tries: 0,
                            due: now + NACK_FIRST,
                        },
                    );
                }
            }
        }
        self.missing.remove(&index);
        self.window.mark(index);
        self.unique += 1;
        self.tags[index as usize % TAGS_MAX] = (index, tag);
    }

    fn picture(&mut self, head: Head, codec: Codec, clear: Option<&[u8]>, stats: &mut ClientStats) {
        if !codec.is_video() {
            return;
        }
        stats.frames += u64::from(head.marker);
        let key = clear.is_some_and(|payload| is_key(codec, payload));
        if key && self.last_key_ts != Some(head.timestamp) {
            self.last_key_ts = Some(head.timestamp);
            stats.keyframes += 1;
        }
    }

    /// Interarrival jitter (RFC 3550, 6.4.1).
    fn measure(&mut self, timestamp: u32, codec: Codec, now: Instant, origin: Option<Instant>) {
        let since = now.duration_since(origin.unwrap_or(now)).as_micros();
        let ticks = (since * u128::from(codec.clock_hz()) / 1_000_000) as u32;
        let transit = ticks.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let change = (transit.wrapping_sub(before) as i32)
                .unsigned_abs()
                .min(1 << 24);
            self.jitter16 = self.jitter16 + change - ((self.jitter16 + 8) >> 4);
        }
    }

    /// A picture's latency: from its stamp to its last packet, if that is not a retransmission.
    fn measure_picture(&mut self, head: Head, clear: Option<&[u8]>, latency: &mut Histogram) {
        if let Some(stamp) = clear.and_then(Stamp::find) {
            self.stamp = Some((head.timestamp, stamp.at_ns));
        }
        if !head.marker {
            return;
        }
        if let Some((_, sent_ns)) = self.stamp.take().filter(|(ts, _)| *ts == head.timestamp) {
            latency.add(now_ns().saturating_sub(sent_ns) / 1_000);
        }
    }

    fn expected(&self) -> u64 {
        if self.window.any {
            self.window.top - self.first + 1
        } else {
            0
        }
    }

    fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.unique)
    }

    fn report(&mut self, now: Instant) -> Report {
        let (expected, lost) = (self.expected(), self.lost());
        let (expected_new, lost_new) = (
            expected.saturating_sub(self.told.0),
            lost.saturating_sub(self.told.1),
        );
        self.told = (expected, lost);
        let delay = |at: Instant| (now.duration_since(at).as_micros() * 65_536 / 1_000_000) as u32;
        Report {
            ssrc: self.ssrc,
            fraction: (lost_new * 256)
                .checked_div(expected_new)
                .unwrap_or(0)
                .min(255) as u8,
            lost: lost.min(0x7f_ffff) as i32,
            top: self.window.top as u32,
            jitter: self.jitter16 >> 4,
            lsr: self.last_sr.map_or(0, |(ntp, _)| ntp),
            dlsr: self.last_sr.map_or(0, |(_, at)| delay(at)),
        }
    }

    /// Missing packets to ask for now.
    fn overdue(&mut self, now: Instant) -> Vec<u16> {
        let mut asked = Vec::new();
        self.missing.retain(|index, miss| {
            if miss.due <= now {
                asked.push(*index as u16);
                miss.tries += 1;
                miss.due = now + NACK_AGAIN;
            }
            miss.tries < NACK_TRIES_MAX
        });
        asked
    }
}

/// What tells two packets with one index apart: the end of the authentication tag.
fn tag(packet: &[u8], tag_bytes: usize) -> u64 {
    let end = packet.len();
    let mut word = [0; 8];
    let from = end.saturating_sub(tag_bytes.min(8));
    word[..end - from].copy_from_slice(&packet[from..]);
    u64::from_be_bytes(word)
}
