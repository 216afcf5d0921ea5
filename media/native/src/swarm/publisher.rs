//! The sending client: loops recorded units in real time, reports, repeats what was lost.

use super::latency::{Stamp, STAMP_BYTES};
use super::offer::{Payload, Sources};
use super::packetize::{h264, is_before_slices, profile_level_id};
use super::rtp::{Channel, Head};
use super::{ClientStats, Unit};
use crate::rtcp::{self, feedback, SenderInfo};
use crate::sdp::Codec;
use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime};

/// Units of a recording and their bytes.
pub const UNITS_MAX: usize = 200_000;
pub const RECORDING_BYTES_MAX: usize = 256 * 1024 * 1024;
/// Longest loop.
pub const LOOP_MS_MAX: u64 = 3_600_000;
/// Packets of a medium that a NACK can bring back.
const CACHE_MAX: usize = 1_024;
/// Units sent in one go, to catch up after the thread was late.
const BURST_MAX: usize = 64;
/// Longest pace: audio comes every 20 ms, pictures seldom sooner.
pub const PACE_MAX: Duration = Duration::from_millis(20);
/// Further behind than this, the schedule moves instead of being caught up.
const BEHIND_MAX: Duration = Duration::from_secs(1);
const REPORT_EVERY: Duration = Duration::from_secs(1);
const PLI: (u8, u8, u8) = (rtcp::PSFB, rtcp::PLI, rtcp::FIR);

struct Prepared {
    video: bool,
    at_ms: u64,
    keyframe: bool,
    payloads: Vec<Box<[u8]>>,
    /// Which payload is the stamp: what lies there is replaced when it is sent.
    stamp: Option<usize>,
}

impl Prepared {
    fn new(unit: &Unit, stamp: bool) -> Self {
        let mut payloads = if unit.video {
            h264(unit.data)
        } else {
            vec![unit.data.into()]
        };
        let stamp = (stamp && unit.video && !payloads.is_empty()).then(|| {
            let before = payloads.iter().take_while(|p| is_before_slices(p)).count();
            payloads.insert(before, Box::default());
            before
        });
        Prepared {
            video: unit.video,
            at_ms: unit.at_ms,
            keyframe: unit.keyframe,
            payloads,
            stamp,
        }
    }

    /// One payload as it is sent; `room`: for the stamp, if it is that.
    fn payload<'a>(
        &'a self,
        piece: usize,
        stamp: Stamp,
        room: &'a mut [u8; STAMP_BYTES],
    ) -> &'a [u8] {
        if self.stamp != Some(piece) {
            return &self.payloads[piece];
        }
        *room = stamp.nal();
        room
    }
}

/// Units in order of time, cut into RTP payloads.
pub struct Recording {
    units: Vec<Prepared>,
    loop_ms: u64,
    /// "profile-level-id" of its H.264.
    pub profile: String,
}

impl Recording {
    /// `stamp`: each picture gets a payload more, see `latency`.
    pub fn new(units: &[Unit], loop_ms: u64, stamp: bool) -> Result<Self, String> {
        let bytes: usize = units.iter().map(|unit| unit.data.len()).sum();
        if units.is_empty() || units.len() > UNITS_MAX || bytes > RECORDING_BYTES_MAX {
            return Err(format!(
                "not 1 to {UNITS_MAX} units of {RECORDING_BYTES_MAX} bytes in all"
            ));
        }
        if !(1..=LOOP_MS_MAX).contains(&loop_ms) {
            return Err(format!("loop_ms is not 1 to {LOOP_MS_MAX}"));
        }
        if let Some(late) = units.iter().find(|unit| unit.at_ms >= loop_ms) {
            return Err(format!(
                "a unit at {} ms lies past the loop's end",
                late.at_ms
            ));
        }
        let prepare = |unit: &Unit| Prepared::new(unit, stamp);
        let mut prepared: Vec<Prepared> = units.iter().map(prepare).collect();
        if prepared.iter().any(|unit| unit.payloads.is_empty()) {
            return Err("a video unit has no NAL unit between start codes".into());
        }
        prepared.sort_by_key(|unit| unit.at_ms);
        let video = units.iter().filter(|unit| unit.video);
        let profile = video
            .map(|unit| profile_level_id(unit.data))
            .find(Option::is_some);
        let profile = profile.flatten().unwrap_or_else(|| "42e01f".into());
        Ok(Recording {
            units: prepared,
            loop_ms,
            profile,
        })
    }

    /// Whether there are units of the medium.
    pub fn has(&self, video: bool) -> bool {
        self.units.iter().any(|unit| unit.video == video)
    }
}

/// Where a sent packet's payload lies.
#[derive(Clone, Copy)]
struct Sent {
    index: u64,
    timestamp: u32,
    marker: bool,
    unit: u32,
    piece: u16,
    /// Of the unit, if it has one.
    stamp: Stamp,
}

/// A unit that is being sent.
#[derive(Clone, Copy)]
struct Outgoing {
    unit: usize,
    /// The next of its payloads, due its share of the pace after `from`.
    piece: usize,
    from: Instant,
    timestamp: u32,
    stamp: Stamp,
}

/// One medium going out.
struct Track {
    sources: Sources,
    payload: Option<Payload>,
    next: u64,
    rtx_next: u64,
    /// RTP timestamp of the origin.
    base: u32,
    packets: u32,
    octets: u32,
    cache: VecDeque<Sent>,
    /// Units sent.
    units: u32,
}

pub struct Publisher {
    recording: Recording,
    answer_pli: bool,
    /// Over which time a picture's packets are spread.
    pace: Duration,
    /// The picture that is on its way.
    outgoing: Option<Outgoing>,
    /// Audio, video.
    tracks: [Track; 2],
    /// When the loop's first unit would have been due.
    origin: Option<Instant>,
    /// Media time at `origin` of the position's clock: grows when a PLI jumps ahead.
    skipped: Duration,
    loops: u64,
    position: usize,
    next_report: Option<Instant>,
}

impl Publisher {
    /// `pace`: over which a picture's packets are spread, as senders' pacers do; `seed`: random
    /// bytes for sources, sequence numbers and timestamps.
    pub fn new(recording: Recording, answer_pli: bool, pace: Duration, seed: [u8; 32]) -> Self {
        let word = |at: usize| rtcp::be32(&seed, at) | 1;
        let track = |at: usize| Track {
            sources: Sources {
                ssrc: word(at),
                rtx_ssrc: word(at + 4) ^ 0x8000_0000,
            },
            payload: None,
            next: 1_000 + u64::from(word(at + 8) & 0x3fff),
            rtx_next: 1_000 + u64::from(word(at + 8) >> 16 & 0x3fff),
            base: word(at + 12),
            packets: 0,
            octets: 0,
            cache: VecDeque::with_capacity(CACHE_MAX),
            units: 0,
        };
        Publisher {
            recording,
            answer_pli,
            pace,
            outgoing: None,
            tracks: [track(0), track(16)],
            origin: None,
            skipped: Duration::ZERO,
            loops: 0,
            position: 0,
            next_report: None,
        }
    }

    pub fn profile(&self) -> &str {
        &self.recording.profile
    }

    /// The sources of a medium, if it is recorded.
    pub fn sources(&self, video: bool) -> Option<Sources> {
        self.recording
            .has(video)
            .then(|| self.tracks[usize::from(video)].sources)
    }

    /// Our sources with media, for a BYE.
    pub fn ssrcs(&self) -> Vec<u32> {
        self.tracks
            .iter()
            .filter(|t| t.packets > 0)
            .map(|t| t.sources.ssrc)
            .collect()
    }

    /// What the answer took; a medium that it refused is not sent.
    pub fn begin(&mut self, payloads: &[Payload]) {
        let of = |codec: Codec| payloads.iter().find(|p| p.codec == codec).copied();
        self.tracks[0].payload = of(Codec::Opus);
        self.tracks[1].payload = of(Codec::H264);
    }

    /// When `tick` has something to do next.
    pub fn next(&self) -> Option<Instant> {
        let unit = self.due(self.origin?);
        Some(self.piece_due().map_or(unit, |piece| piece.min(unit)))
    }

    /// When the next packet of the picture on its way is due.
    fn piece_due(&self) -> Option<Instant> {
        let out = self.outgoing.as_ref()?;
        Some(out.from + self.after(out.piece, out.unit))
    }

    /// How long after the first of a unit's payloads this one goes.
    fn after(&self, piece: usize, unit: usize) -> Duration {
        self.pace * piece as u32 / self.recording.units[unit].payloads.len() as u32
    }

    /// Sends what is due. The loop begins with the first call.
    pub fn tick(&mut self, channel: &mut Channel, now: Instant, stats: &mut ClientStats) {
        let origin = *self.origin.get_or_insert(now);
        if now > self.due(origin) + BEHIND_MAX {
            self.origin = Some(origin + (now - self.due(origin)));
        }
        while self.piece_due().is_some_and(|due| due <= now) {
            self.send_piece(channel, stats);
        }
        for _ in 0..BURST_MAX {
            let due = self.due(self.origin.unwrap_or(now));
            if due > now {
                break;
            }
            self.send_unit(channel, due, now, stats);
            self.position += 1;
            if self.position == self.recording.units.len() {
                self.position = 0;
                self.loops += 1;
            }
        }
        if self.next_report.is_none_or(|at| at <= now) {
            self.next_report = Some(now + REPORT_EVERY);
            self.report(channel, now);
        }
    }

    /// Takes a clear compound of the server: PLI, FIR, NACK.
    pub fn receive_rtcp(
        &mut self,
        channel: &mut Channel,
        compound: &[u8],
        stats: &mut ClientStats,
    ) {
        let mut wanted = false;
        for part in rtcp::parts(compound) {
            if part.kind == PLI.0 && (part.count == PLI.1 || part.count == PLI.2) {
                stats.plis_received += 1;
                wanted = true;
            }
            if part.kind == rtcp::RTPFB && part.count == rtcp::NACK && part.bytes.len() >= 12 {
                let media = rtcp::be32(part.bytes, 8);
                let asked: Vec<u16> = feedback::nacked(part.bytes).take(CACHE_MAX).collect();
                self.send_again(channel, media, &asked, stats);
            }
        }
        if wanted && self.answer_pli {
            self.jump();
        }
    }

    /// When the unit at the position is due.
    fn due(&self, origin: Instant) -> Instant {
        origin + self.media_time().saturating_sub(self.skipped)
    }

    /// Time of the unit at the position, from the first loop's start.
    fn media_time(&self) -> Duration {
        let unit = &self.recording.units[self.position];
        Duration::from_millis(self.loops * self.recording.loop_ms + unit.at_ms)
    }

    /// Goes on with the next key frame at the time of what would have come now.
    fn jump(&mut self) {
        let units = &self.recording.units;
        let is_key = |unit: &Prepared| unit.video && unit.keyframe;
        let ahead = units[self.position..].iter().position(is_key);
        let Some(at) = ahead
            .map(|n| self.position + n)
            .or_else(|| units.iter().position(is_key))
        else {
            return;
        };
        let before = self.media_time();
        self.loops += u64::from(ahead.is_none());
        self.position = at;
        self.skipped += self.media_time().saturating_sub(before);
    }

    fn send_unit(
        &mut self,
        channel: &mut Channel,
        due: Instant,
        now: Instant,
        stats: &mut ClientStats,
    ) {
        let unit = &self.recording.units[self.position];
        let last = unit.payloads.len() - 1;
        let track = &mut self.tracks[usize::from(unit.video)];
        let Some(payload) = track.payload else { return };
        let elapsed = due.duration_since(self.origin.unwrap_or(now));
        let timestamp = track.timestamp(payload.codec, elapsed);
        track.units = track.units.wrapping_add(1);
        let number = track.units;
        stats.frames += u64::from(unit.video);
        stats.keyframes += u64::from(unit.video && unit.keyframe);
        let mut out = Outgoing {
            unit: self.position,
            piece: 0,
            from: now,
            timestamp,
            stamp: Stamp::now(number).later(self.after(last, self.position)),
        };
        if unit.video {
            while self.outgoing.is_some() {
                self.send_piece(channel, stats); // what the pace has left over
            }
            self.outgoing = Some(out);
            while self.piece_due().is_some_and(|due| due <= now) {
                self.send_piece(channel, stats);
            }
        } else {
            while self.send(&mut out, channel, stats) {}
        }
    }

    /// Sends the next packet of the picture on its way.
    fn send_piece(&mut self, channel: &mut Channel, stats: &mut ClientStats) {
        if let Some(mut out) = self.outgoing.take() {
            if self.send(&mut out, channel, stats) {
                self.outgoing = Some(out);
            }
        }
    }

    /// Sends one packet of a unit; false: it was the last.
    fn send(&mut self, out: &mut Outgoing, channel: &mut Channel, stats: &mut ClientStats) -> bool {
        let unit = &self.recording.units[out.unit];
        let track = &mut self.tracks[usize::from(unit.video)];
        let Some(payload) = track.payload else {
            return false;
        };
        let more = out.piece + 1 < unit.payloads.len();
        let mut room = [0; STAMP_BYTES];
        let bytes = unit.payload(out.piece, out.stamp, &mut room);
        let sent = Sent {
            index: track.next,
            timestamp: out.timestamp,
            marker: unit.video && !more,
            unit: out.unit as u32,
            piece: out.piece as u16,
            stamp: out.stamp,
        };
        track.next += 1;
        let length = channel.send(track.head(payload.pt, sent), sent.index, &[], bytes);
        track.packets = track.packets.wrapping_add(1);
        track.octets = track.octets.wrapping_add(bytes.len() as u32);
        if track.cache.len() == CACHE_MAX {
            track.cache.pop_front();
        }
        track.cache.push_back(sent);
        stats.packets += 1;
        stats.bytes += length as u64;
        out.piece += 1;
        more
    }

    /// Answers a NACK: by RTX, or with the very same packet (same index, same bytes).
    fn send_again(
        &mut self,
        channel: &mut Channel,
        media: u32,
        asked: &[u16],
        stats: &mut ClientStats,
    ) {
        let Some(track) = self.tracks.iter_mut().find(|t| t.sources.ssrc == media) else {
            return;
        };
        let Some(payload) = track.payload else { return };
        for sequence in asked {
            let found = track
                .cache
                .iter()
                .rev()
                .find(|sent| sent.index as u16 == *sequence);
            let Some(&sent) = found else { continue };
            let unit = &self.recording.units[sent.unit as usize];
            let mut room = [0; STAMP_BYTES];
            let bytes = unit.payload(usize::from(sent.piece), sent.stamp, &mut room);
            let mut head = track.head(payload.pt, sent);
            if let Some(rtx_pt) = payload.rtx_pt {
                let index = track.rtx_next;
                track.rtx_next += 1;
                head.pt = rtx_pt;
                head.ssrc = track.sources.rtx_ssrc;
                head.sequence = index as u16;
                channel.send(head, index, &sequence.to_be_bytes(), bytes);
            } else {
                channel.send(head, sent.index, &[], bytes);
            }
            stats.rtx += 1;
        }
    }

    fn report(&mut self, channel: &mut Channel, now: Instant) {
        let unix = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let ntp = rtcp::ntp_from_unix_ns(i64::try_from(unix.as_nanos()).unwrap_or(0));
        let elapsed = now.duration_since(self.origin.unwrap_or(now));
        let mut out = Vec::new();
        for track in &self.tracks {
            let Some(payload) = track.payload.filter(|_| track.packets > 0) else {
                continue;
            };
            rtcp::sender_report(
                &mut out,
                &SenderInfo {
                    ssrc: track.sources.ssrc,
                    ntp,
                    rtp: track.timestamp(payload.codec, elapsed),
                    packets: track.packets,
                    octets: track.octets,
                },
            );
        }
        channel.send_rtcp(&out);
    }
}

impl Track {
    fn timestamp(&self, codec: Codec, elapsed: Duration) -> u32 {
        let ticks = elapsed.as_micros() * u128::from(codec.clock_hz()) / 1_000_000;
        self.base.wrapping_add(ticks as u32)
    }

    fn head(&self, pt: u8, sent: Sent) -> Head {
        Head {
            pt,
            marker: sent.marker,
            sequence: sent.index as u16,
            timestamp: sent.timestamp,
            ssrc: self.sources.ssrc,
        }
    }
}
