//! A stream where it lives: makes one continuous sequence of packets out of whatever publishers and
//! sources come one after another, and keeps its clock.
//!
//! Every stream has one home worker; all its publishers are there. Per medium a `Lane` maps the
//! source's index and timestamp to the stream's: a new source goes on after a gap of one index, and
//! its timestamps go on by the time that has passed. What would map before the switch is dropped,
//! so no index is ever used for two packets.

use crate::clock::StreamClock;
use crate::keyframe::is_key;
use crate::packet::Packet;
use crate::rtcp::{self, SenderInfo};
use crate::sdp::Codec;
use crate::source::Arrival;

/// Streams begin here, so that nothing underflows.
const INDEX_START: u64 = 1 << 20;
const TS_START: u64 = 1 << 32;
/// Index numbers left out at a switch of sources: players see that something is missing.
const SWITCH_GAP: u64 = 1;
/// Timestamps that run away from the clock by more than this are those of a new source: at once,
/// or little by little.
const RUNAWAY_NS: i64 = 10_000_000_000;
/// Of what timestamps have run ahead, one part in so many of the time that passes is forgotten:
/// clocks differ by far less.
const LEAD_FADES: i64 = 100;
const PLI_GAP_NS: u64 = 1_000_000_000;
/// On a path that loses packets a request without an answer is repeated after this and two round
/// trips, so many times.
const PLI_ANSWER_NS: u64 = 150_000_000;
const PLI_REPEATS_MAX: u8 = 2;

/// Mapping of one medium from source to stream.
#[derive(Clone, Copy, Default)]
struct Lane {
    /// (session, epoch) that the mapping is for.
    owner: (u64, u32),
    /// Stream index minus source index.
    index_offset: i64,
    /// Lowest stream index of this owner.
    floor: u64,
    /// Newest index of the stream.
    top: u64,
    /// Newest timestamp: the source's and the stream's.
    source_ts: u32,
    ts: u64,
    at_ns: u64,
    /// How far the stream's timestamps have run ahead of the time that has passed.
    lead_ns: i64,
    started: bool,
}

/// What a key frame request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    Now,
    /// Too soon after the last; will be asked when the second is over.
    Later,
}

/// A stream at its home worker.
pub struct Home {
    lanes: [Lane; 2],
    pub clock: StreamClock,
    /// Codec of each medium as last seen.
    pub codecs: [Option<Codec>; 2],
    /// Session of the current publisher.
    pub publisher: Option<u64>,
    /// Audio, video.
    pub packets_in: [u64; 2],
    pub bytes_in: [u64; 2],
    /// Pictures whose last packet came.
    pub frames_in: u64,
    pub plis_out: u64,
    pub keyframe_ns: Option<u64>,
    /// A new source has begun in the middle of its pictures: to be asked and reset by the owner.
    pub keyframe_wanted: bool,
    last_pli_ns: Option<u64>,
    pli_wanted: bool,
    /// Repeats of the last request that are left, until a key frame comes.
    pli_repeats: u8,
}

impl Default for Home {
    fn default() -> Self {
        Home {
            lanes: [Lane::default(); 2],
            clock: StreamClock::new(Codec::Opus.clock_hz(), Codec::H264.clock_hz()),
            codecs: [None; 2],
            publisher: None,
            packets_in: [0; 2],
            bytes_in: [0; 2],
            frames_in: 0,
            plis_out: 0,
            keyframe_ns: None,
            keyframe_wanted: false,
            last_pli_ns: None,
            pli_wanted: false,
            pli_repeats: 0,
        }
    }
}

impl Home {
    /// Makes `session` the publisher; its sources start new lanes.
    pub fn take_over(&mut self, session: u64) {
        self.publisher = Some(session);
        self.clock.new_publisher();
        self.codecs = [None; 2];
        self.keyframe_ns = None;
    }

    /// Places the current publisher's packet in the stream. None: it came too late.
    pub fn place(&mut self, session: u64, a: &Arrival, now: u64, unix_ns: i64) -> Option<Packet> {
        let medium = usize::from(a.codec.is_video());
        let hz = a.codec.clock_hz();
        let lane = &mut self.lanes[medium];
        let key = is_key(a.codec, a.payload);
        if lane.owner != (session, a.epoch) || !lane.started {
            lane.switch((session, a.epoch), a, hz, now);
            self.clock.new_source(medium);
            self.keyframe_wanted = !key;
        } else if lane.runs_away(a.ts, hz, now) {
            lane.rebase_ts(a.ts, hz, now);
            self.clock.new_source(medium);
        }
        let (index, ts) = lane.place(a, hz, now)?;
        self.clock.packet(medium, ts, unix_ns);
        self.codecs[medium] = Some(a.codec);
        self.packets_in[medium] += 1;
        self.bytes_in[medium] += a.payload.len() as u64;
        self.frames_in += u64::from(a.marker && a.codec.is_video());
        if key && a.codec.is_video() {
            self.keyframe_ns = Some(now);
            self.pli_wanted = false;
            self.pli_repeats = 0;
        }
        Some(Packet {
            codec: a.codec,
            key,
            marker: a.marker,
            index,
            ts,
            payload: a.payload.into(),
        })
    }

    /// The current publisher's sender report.
    pub fn report(&mut self, medium: usize, info: &SenderInfo, unix_ns: i64) {
        let lane = &self.lanes[medium];
        if lane.started && self.publisher == Some(lane.owner.0) {
            let ts = lane.extend(info.rtp);
            self.clock
                .report(medium, ts, rtcp::unix_ns_from_ntp(info.ntp), unix_ns);
        }
    }

    /// Somebody wants a key frame: at most one request a second goes to the publisher.
    pub fn ask(&mut self, now: u64) -> Ask {
        if self.last_pli_ns.is_some_and(|at| now - at < PLI_GAP_NS) {
            self.pli_wanted = true;
            return Ask::Later;
        }
        self.last_pli_ns = Some(now);
        self.pli_wanted = false;
        self.pli_repeats = PLI_REPEATS_MAX;
        Ask::Now
    }

    /// Whether the last request is to be repeated: on a path that loses packets it may never have
    /// come. Counts as repeated then.
    pub fn repeat_due(&mut self, round_trip_ns: Option<u64>, now: u64) -> bool {
        let patience = PLI_ANSWER_NS + 2 * round_trip_ns.unwrap_or(PLI_ANSWER_NS);
        let tries = u64::from(PLI_REPEATS_MAX + 1 - self.pli_repeats.min(PLI_REPEATS_MAX));
        let unanswered = self
            .last_pli_ns
            .is_some_and(|at| now - at >= tries * patience);
        if self.pli_repeats == 0 || !unanswered {
            return false;
        }
        self.pli_repeats -= 1;
        true
    }

    /// Whether a request that had to wait may go now.
    pub fn ask_due(&self, now: u64) -> bool {
        self.pli_wanted && self.last_pli_ns.is_none_or(|at| now - at >= PLI_GAP_NS)
    }
}

impl Lane {
    fn switch(&mut self, owner: (u64, u32), a: &Arrival, hz: u32, now: u64) {
        let (next, ts) = if self.started {
            (self.top + 1 + SWITCH_GAP, self.ts_now(hz, now))
        } else {
            (INDEX_START, TS_START)
        };
        *self = Lane {
            owner,
            index_offset: next as i64 - a.index as i64,
            floor: next,
            top: next - 1,
            source_ts: a.ts,
            ts,
            at_ns: now,
            lead_ns: 0,
            started: true,
        };
    }

    /// Where the timestamps would be now.
    fn ts_now(&self, hz: u32, now: u64) -> u64 {
        let elapsed = u128::from(now.saturating_sub(self.at_ns));
        self.ts + ((elapsed * u128::from(hz) / 1_000_000_000) as u64).max(1)
    }

    fn rebase_ts(&mut self, source_ts: u32, hz: u32, now: u64) {
        self.ts = self.ts_now(hz, now);
        self.source_ts = source_ts;
        self.lead_ns = self.faded(now);
        self.at_ns = now;
    }

    fn extend(&self, ts: u32) -> u64 {
        let step = i64::from(ts.wrapping_sub(self.source_ts) as i32);
        self.ts.saturating_add_signed(step)
    }

    /// The lead that a packet with this timestamp would have.
    fn lead(&self, ts: u32, hz: u32, now: u64) -> i64 {
        let step = i64::from(ts.wrapping_sub(self.source_ts) as i32);
        let ns = step * 1_000_000_000 / i64::from(hz);
        let since = ns.saturating_sub(self.elapsed(now));
        self.faded(now).saturating_add(since)
    }

    fn faded(&self, now: u64) -> i64 {
        let fades = (self.elapsed(now) / LEAD_FADES).min(self.lead_ns.abs());
        self.lead_ns - fades * self.lead_ns.signum()
    }

    fn elapsed(&self, now: u64) -> i64 {
        i64::try_from(now.saturating_sub(self.at_ns)).unwrap_or(i64::MAX)
    }

    fn runs_away(&self, ts: u32, hz: u32, now: u64) -> bool {
        self.lead(ts, hz, now).saturating_abs() > RUNAWAY_NS
    }

    fn place(&mut self, a: &Arrival, hz: u32, now: u64) -> Option<(u64, u64)> {
        let index = u64::try_from(a.index as i64 + self.index_offset).ok()?;
        if index < self.floor {
            return None;
        }
        let ts = self.extend(a.ts);
        if index > self.top {
            self.top = index;
        }
        if ts > self.ts {
            self.lead_ns = self.lead(a.ts, hz, now);
            self.ts = ts;
            self.source_ts = a.ts;
            self.at_ns = now;
        }
        Some((index, ts))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    fn arrival(epoch: u32, index: u64, ts: u32) -> Arrival<'static> {
        Arrival {
            codec: Codec::H264,
            epoch,
            index,
            ts,
            marker: true,
            payload: &[0x65, 1],
        }
    }

    fn place(h: &mut Home, session: u64, a: &Arrival, now: u64) -> Option<(u64, u64)> {
        h.place(session, a, now, now as i64)
            .map(|p| (p.index, p.ts))
    }

    #[test]
    fn a_new_publisher_goes_on_after_a_gap_and_by_the_time_that_passed() {
        let mut h = Home::default();
        h.take_over(1);
        let (i0, t0) = place(&mut h, 1, &arrival(1, 500, 10_000), MS).unwrap();
        let (i1, t1) = place(&mut h, 1, &arrival(1, 501, 13_000), 34 * MS).unwrap();
        assert_eq!((i1 - i0, t1 - t0), (1, 3_000));
        h.take_over(2);
        let (i2, t2) = place(&mut h, 2, &arrival(1, 9, 77), 1_034 * MS).unwrap();
        assert_eq!((i2 - i1, t2 - t1), (2, 90_000));
        let (i3, t3) = place(&mut h, 2, &arrival(1, 10, 77 + 3_000), 1_067 * MS).unwrap();
        assert_eq!((i3 - i2, t3 - t2), (1, 3_000));
    }

    #[test]
    fn what_would_land_before_the_switch_is_dropped() {
        let mut h = Home::default();
        h.take_over(1);
        place(&mut h, 1, &arrival(1, 500, 10_000), MS).unwrap();
        let (top, _) = place(&mut h, 1, &arrival(2, 100, 5), 2 * MS).unwrap();
        assert_eq!(place(&mut h, 1, &arrival(2, 99, 5), 3 * MS), None);
        assert_eq!(
            place(&mut h, 1, &arrival(2, 101, 5), 3 * MS).unwrap().0,
            top + 1
        );
    }

    #[test]
    fn timestamps_wrap_and_late_packets_keep_theirs() {
        let mut h = Home::default();
        h.take_over(1);
        let first = u32::MAX - 1_000;
        let (_, t0) = place(&mut h, 1, &arrival(1, 1, first), MS).unwrap();
        let (_, t2) = place(
            &mut h,
            1,
            &arrival(1, 3, first.wrapping_add(6_000)),
            67 * MS,
        )
        .unwrap();
        let (_, t1) = place(
            &mut h,
            1,
            &arrival(1, 2, first.wrapping_add(3_000)),
            68 * MS,
        )
        .unwrap();
        assert_eq!((t1 - t0, t2 - t0), (3_000, 6_000));
    }

    #[test]
    fn timestamps_that_run_away_are_caught() {
        let mut h = Home::default();
        h.take_over(1);
        let (i0, t0) = place(&mut h, 1, &arrival(1, 1, 0), MS).unwrap();
        let (i1, t1) = place(&mut h, 1, &arrival(1, 2, 1 << 31), 34 * MS).unwrap();
        assert_eq!((i1 - i0, t1 - t0), (1, 2_970));
    }

    #[test]
    fn timestamps_that_creep_away_are_caught_too() {
        let mut h = Home::default();
        h.take_over(1);
        let (_, first) = place(&mut h, 1, &arrival(1, 1, 0), MS).unwrap();
        let (mut ts, mut last) = (0u32, first);
        for n in 1..2_000u64 {
            ts = ts.wrapping_add(9 * 90_000); // nine seconds on, every 10 ms
            let now = MS + n * 10 * MS;
            last = place(&mut h, 1, &arrival(1, 1 + n, ts), now).unwrap().1;
        }
        let seconds = (last - first) / 90_000;
        assert!((20..=31).contains(&seconds), "{seconds} s in 20 s");
    }

    #[test]
    fn a_clock_that_drifts_for_days_is_followed() {
        let mut h = Home::default();
        h.take_over(1);
        let (_, first) = place(&mut h, 1, &arrival(1, 1, 0), MS).unwrap();
        let (mut ts, mut last) = (0u32, first);
        for n in 1..300_000u64 {
            ts = ts.wrapping_add(90_090); // a thousandth too fast, for three and a half days
            let now = MS + n * 1_000 * MS;
            last = place(&mut h, 1, &arrival(1, 1 + n, ts), now).unwrap().1;
        }
        assert_eq!(last - first, 299_999 * 90_090);
    }

    #[test]
    fn key_frames_are_asked_for_once_a_second_however_many_want_one() {
        let mut h = Home::default();
        assert_eq!(h.ask(5_000 * MS), Ask::Now);
        for t in 5_001..5_900 {
            assert_eq!(h.ask(t * MS), Ask::Later);
        }
        assert!(!h.ask_due(5_999 * MS));
        assert!(h.ask_due(6_000 * MS));
        h.take_over(1);
        place(&mut h, 1, &arrival(1, 1, 0), 6_000 * MS).unwrap();
        assert!(!h.ask_due(6_000 * MS), "the key frame has come");
    }

    #[test]
    fn a_request_without_an_answer_is_repeated_twice_and_never_after_a_key_frame() {
        let mut h = Home::default();
        h.take_over(1);
        let way = Some(25 * MS);
        assert!(!h.repeat_due(way, 5_000 * MS), "nobody has asked");
        h.ask(5_000 * MS);
        let at: Vec<u64> = (5_000..6_500)
            .filter(|t| h.repeat_due(way, t * MS))
            .collect();
        assert_eq!(at, [5_200, 5_400]);
        h.ask(7_000 * MS);
        place(&mut h, 1, &arrival(1, 1, 0), 7_100 * MS).unwrap();
        assert!(!h.repeat_due(way, 7_900 * MS));
    }
}
