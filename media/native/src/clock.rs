//! The stream clock: says at which instant of our time a sample was captured.
//!
//! Theory of operation. For each medium the clock is one number: the unix time of timestamp 0.
//! - Before the first sender report (SR) of a medium it is the least of "arrival - timestamp" over
//!   the last seconds: the packets that waited least.
//! - With an SR it is the publisher's word, moved to our time: `ntp - timestamp + D`, where D is
//!   the least of "arrival - ntp" over the last reports. Both media share D, so lip-sync is the
//!   publisher's. An SR that contradicts the arrivals by seconds is not believed.
//! - What the number should be is the target. The first SRs of a source are taken as they are: its
//!   first packets waited for the encoder, and a player that met a clock on the move would delay
//!   the picture for it. Later on the number stays while the target is near, so that reports that
//!   wobble move nothing; else it follows by at most 1 ms per 100 ms, so that no player sees a
//!   step. A difference above 500 ms is taken at once and counted.
//!
//! Pure: no I/O, time is passed in. Timestamps are those of the stream, extended to 64 bits.

use std::collections::VecDeque;

/// The applied value follows its target by one part in this many of the time that passes.
const SLEW_DIVISOR: i64 = 100;
/// Longest time that one step makes up for: a pause is not an occasion to jump.
const SLEW_ELAPSED_MAX_NS: i64 = 100_000_000;
/// A difference that is not worth beginning to move for.
const NEAR_NS: i64 = 8_000_000;
/// The reports of a source's first time are taken as they are.
const SETTLING_NS: i64 = 3_000_000_000;
/// A difference that is not worth slewing.
const JUMP_NS: i64 = 500_000_000;
/// Sender reports whose D is remembered; about half a minute of two media.
const REPORTS_MAX: usize = 32;
/// An SR that puts a medium further than this from where its packets arrive is not believed.
const DISBELIEF_NS: i64 = 5_000_000_000;
/// The arrival filter keeps the least of this long, twice.
const ARRIVALS_NS: i64 = 5_000_000_000;

/// A snapshot of one medium's clock: enough to date timestamps both ways.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// Unix time of timestamp 0.
    pub zero_ns: i64,
    pub hz: u32,
}

impl Mapping {
    /// Unix time of a timestamp.
    pub fn at_ns(&self, ts: u64) -> i64 {
        self.zero_ns + ticks_to_ns(ts, self.hz)
    }

    /// Timestamp of a unix time.
    pub fn ts_at(&self, unix_ns: i64) -> u64 {
        let ns = i128::from(unix_ns) - i128::from(self.zero_ns);
        (ns.max(0) * i128::from(self.hz) / 1_000_000_000) as u64
    }
}

fn ticks_to_ns(ts: u64, hz: u32) -> i64 {
    (u128::from(ts) * 1_000_000_000 / u128::from(hz)) as i64
}

/// Least value of the last `ARRIVALS_NS` to twice that.
#[derive(Clone, Copy, Default)]
struct Least {
    began_ns: i64,
    now: Option<i64>,
    before: Option<i64>,
}

impl Least {
    fn push(&mut self, value: i64, at_ns: i64) -> i64 {
        if self.now.is_none() || at_ns - self.began_ns >= ARRIVALS_NS {
            self.before = self.now;
            self.now = None;
            self.began_ns = at_ns;
        }
        let least = self.now.map_or(value, |n| n.min(value));
        self.now = Some(least);
        self.before.map_or(least, |b| b.min(least))
    }
}

#[derive(Clone, Copy)]
struct Medium {
    hz: u32,
    arrivals: Least,
    /// "arrival - timestamp" as filtered; None before the first packet.
    arrived_ns: Option<i64>,
    /// "ntp - timestamp" of the last believed SR.
    reported_ns: Option<i64>,
    applied_ns: i64,
    moved_ns: i64,
    moving: bool,
    /// When this source's first packet came.
    since_ns: Option<i64>,
}

/// The clock of one stream: audio at index 0, video at 1.
pub struct StreamClock {
    media: [Medium; 2],
    /// "arrival - ntp" of the last SRs of the publisher.
    offsets: VecDeque<i64>,
    jumps: u64,
    disbelieved: u64,
}

impl StreamClock {
    pub fn new(audio_hz: u32, video_hz: u32) -> Self {
        let medium = |hz| Medium {
            hz,
            arrivals: Least::default(),
            arrived_ns: None,
            reported_ns: None,
            applied_ns: 0,
            moved_ns: 0,
            moving: false,
            since_ns: None,
        };
        StreamClock {
            media: [medium(audio_hz), medium(video_hz)],
            offsets: VecDeque::with_capacity(REPORTS_MAX),
            jumps: 0,
            disbelieved: 0,
        }
    }

    /// Another publisher: forget the former one's words, keep the time that viewers see.
    pub fn new_publisher(&mut self) {
        self.forget_reports();
        for medium in 0..2 {
            self.new_source(medium);
        }
    }

    /// Another source of one medium.
    pub fn new_source(&mut self, medium: usize) {
        self.media[medium].reported_ns = None;
        self.media[medium].arrivals = Least::default();
        self.media[medium].since_ns = None;
    }

    /// A packet came. `unix_ns`: our time of its arrival.
    pub fn packet(&mut self, medium: usize, ts: u64, unix_ns: i64) {
        let m = &mut self.media[medium];
        let first = m.arrived_ns.is_none();
        let value = unix_ns - ticks_to_ns(ts, m.hz);
        m.arrived_ns = Some(m.arrivals.push(value, unix_ns));
        m.since_ns.get_or_insert(unix_ns);
        if first {
            m.applied_ns = value;
            m.moved_ns = unix_ns;
        }
        self.follow(medium, unix_ns);
    }

    /// A sender report came: `ntp_unix_ns` is the publisher's unix time of timestamp `ts`.
    pub fn report(&mut self, medium: usize, ts: u64, ntp_unix_ns: i64, unix_ns: i64) {
        let m = &self.media[medium];
        let Some(arrived) = m.arrived_ns else {
            return; // nothing to compare it with yet; the next one will do
        };
        let reported = ntp_unix_ns.wrapping_sub(ticks_to_ns(ts, m.hz));
        let offset = unix_ns.wrapping_sub(ntp_unix_ns);
        let usual = self.offsets.iter().min();
        if usual.is_some_and(|u| u.abs_diff(offset) > DISBELIEF_NS as u64) {
            self.forget_reports(); // the publisher's wall clock has been set
        }
        let least = self.offsets.iter().copied().fold(offset, i64::min);
        let target = reported.wrapping_add(least);
        if arrived.wrapping_sub(target).unsigned_abs() > DISBELIEF_NS as u64 {
            self.disbelieved += 1;
            return;
        }
        if self.offsets.len() == REPORTS_MAX {
            self.offsets.pop_front();
        }
        self.offsets.push_back(offset);
        self.media[medium].reported_ns = Some(reported);
        self.follow(medium, unix_ns);
        self.settle(unix_ns);
    }

    /// In a source's first time: what its reports say is what holds.
    fn settle(&mut self, unix_ns: i64) {
        for medium in 0..2 {
            let m = &self.media[medium];
            let young = m
                .since_ns
                .is_some_and(|since| unix_ns - since < SETTLING_NS);
            if let (true, Some(_), Some(target)) = (young, m.reported_ns, self.target(medium)) {
                self.media[medium].applied_ns = target;
                self.media[medium].moved_ns = unix_ns;
                self.media[medium].moving = false;
            }
        }
    }

    /// How the medium's timestamps are dated now; None before its first packet.
    pub fn mapping(&self, medium: usize) -> Option<Mapping> {
        let m = &self.media[medium];
        m.arrived_ns.map(|_| Mapping {
            zero_ns: m.applied_ns,
            hz: m.hz,
        })
    }

    /// Differences that were too big to slew.
    pub fn jumps(&self) -> u64 {
        self.jumps
    }

    /// Sender reports that contradicted their packets.
    pub fn disbelieved(&self) -> u64 {
        self.disbelieved
    }

    fn forget_reports(&mut self) {
        self.offsets.clear();
        for m in &mut self.media {
            m.reported_ns = None;
        }
    }

    fn target(&self, medium: usize) -> Option<i64> {
        let m = &self.media[medium];
        match (m.reported_ns, self.offsets.iter().min()) {
            (Some(reported), Some(least)) => Some(reported + least),
            _ => m.arrived_ns,
        }
    }

    fn follow(&mut self, medium: usize, unix_ns: i64) {
        let Some(target) = self.target(medium) else {
            return;
        };
        let m = &mut self.media[medium];
        let difference = target - m.applied_ns;
        if difference.abs() > JUMP_NS {
            m.applied_ns = target;
            m.moved_ns = unix_ns;
            self.jumps += 1;
            return;
        }
        m.moving |= difference.abs() > NEAR_NS;
        if !m.moving {
            m.moved_ns = unix_ns;
            return;
        }
        let step = (unix_ns - m.moved_ns).clamp(0, SLEW_ELAPSED_MAX_NS) / SLEW_DIVISOR;
        if step == 0 {
            return;
        }
        m.applied_ns += difference.clamp(-step, step);
        m.moved_ns = unix_ns;
        m.moving = difference.abs() > step;
    }
}

#[cfg(test)]
mod tests;
