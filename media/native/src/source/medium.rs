//! One medium of a publisher: its current source, and what of it is missing.
//!
//! A missing packet is asked for once reordering has had its time, then again whenever an answer is
//! overdue by the round trip: three times at that pace, then at twice that, and so on. When hope is
//! lost the medium is `broken` until its owner has taken note: only a key frame helps then.

use super::InSsrc;
use crate::rtcp::feedback;
use crate::srtp::Window;
use crate::wire::record;

/// How long a packet may be late by reordering before it is asked for.
const NACK_FIRST_NS: u64 = 5_000_000;
/// What an answer may take beyond the round trip.
const NACK_ROOM_NS: u64 = 10_000_000;
const NACK_AGAIN_MIN_NS: u64 = 20_000_000;
/// As long as the round trip is unknown.
const ROUND_TRIP_NS: u64 = 40_000_000;
/// Tries at one pace.
const TRIES_A_PACE: u8 = 3;
const NACK_TRIES_MAX: u8 = 10;
/// A packet that is missing for longer is of no use to anyone.
const MISS_MAX_NS: u64 = 1_500_000_000;
/// Packets asked for at once: they fit one datagram wherever they lie.
const ASKED_AT_ONCE_MAX: usize = 256;
/// Missing packets remembered per medium.
const MISSES_MAX: usize = 512;
/// A gap of more packets than this is not asked for: the publisher has gone on.
const GAP_MAX: u64 = 256;
/// Another SSRC may take over once the current one has been silent for this long.
const SILENCE_NS: u64 = 100_000_000;

record! {
    /// A packet that has not come.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Miss {
        pub index: u64,
        pub tries: u8,
        pub since_ns: u64,
        pub asked_ns: u64,
        pub due_ns: u64,
    }
}

record! {
    /// One medium's current source.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Medium {
        pub ssrc: u32,
        pub epoch: u32,
        /// Originals and retransmissions alike.
        pub sent: Window,
        pub misses: Vec<Miss>,
        /// When its last packet came.
        pub last_ns: u64,
        /// It has said goodbye.
        pub left: bool,
        /// When something was last found missing.
        pub missed_ns: Option<u64>,
        /// Something will never come.
        pub broken: bool,
    }
}

impl Medium {
    /// The medium with `source` as its next source.
    pub(super) fn new(source: &mut InSsrc, before: Option<&Medium>) -> Self {
        source.epoch = before.map_or(0, |m| m.epoch) + 1;
        Medium {
            ssrc: source.ssrc,
            epoch: source.epoch,
            sent: Window::default(),
            misses: vec![],
            last_ns: 0,
            left: false,
            missed_ns: None,
            broken: false,
        }
    }

    /// Whether a packet of another source makes that one the current: it has never been, and the
    /// one before it has gone. Two at once, as with simulcast, do not take turns.
    pub(super) fn may_give_way(&self, to: &InSsrc, now: u64) -> bool {
        let gone = self.left || now.saturating_sub(self.last_ns) > SILENCE_NS;
        to.epoch == 0 && !to.rtx && gone
    }

    /// A packet came: remember it, and what is missing before it. The time since it was asked for,
    /// if that was done once: then it tells the round trip.
    pub(super) fn got(&mut self, index: u64, now: u64) -> Option<u64> {
        let top = self.sent.top;
        if self.sent.any && index > top + 1 {
            self.missed_ns = Some(now);
            let gap = index - top - 1;
            let room = MISSES_MAX.saturating_sub(self.misses.len()) as u64;
            self.broken |= gap >= GAP_MAX || gap > room;
            if gap < GAP_MAX {
                let missing = (top + 1..index).take(room as usize);
                self.misses.extend(missing.map(|index| Miss {
                    index,
                    tries: 0,
                    since_ns: now,
                    asked_ns: 0,
                    due_ns: now + NACK_FIRST_NS,
                }));
            }
        }
        self.sent.mark(index);
        self.last_ns = now;
        self.left = false;
        let at = self.misses.iter().position(|m| m.index == index)?;
        let miss = self.misses.remove(at);
        (miss.tries == 1).then(|| now.saturating_sub(miss.asked_ns))
    }

    /// When something is to be asked for, if anything is missing.
    pub(super) fn due_ns(&self) -> Option<u64> {
        self.misses.iter().map(|m| m.due_ns).min()
    }

    /// Nothing can be asked for: what was missing is given up.
    pub(super) fn resign(&mut self) {
        self.broken |= !self.misses.is_empty();
        self.misses.clear();
    }

    /// Asks for what is due; how many packets that was. `round_trip_ns`: as far as it is known.
    pub(super) fn ask(
        &mut self,
        me: u32,
        round_trip_ns: Option<u64>,
        now: u64,
        out: &mut Vec<u8>,
    ) -> u64 {
        let before = self.misses.len();
        self.misses.retain(|m| {
            m.due_ns > now || (m.tries < NACK_TRIES_MAX && now - m.since_ns < MISS_MAX_NS)
        });
        self.broken |= self.misses.len() < before;
        let pace = (round_trip_ns.unwrap_or(ROUND_TRIP_NS) + NACK_ROOM_NS).max(NACK_AGAIN_MIN_NS);
        let mut due: Vec<u64> = vec![];
        let overdue = self.misses.iter_mut().filter(|m| m.due_ns <= now);
        for miss in overdue.take(ASKED_AT_ONCE_MAX) {
            due.push(miss.index);
            miss.asked_ns = now;
            miss.due_ns = now + (pace << (miss.tries / TRIES_A_PACE));
            miss.tries += 1;
        }
        if due.is_empty() {
            return 0;
        }
        due.sort_unstable();
        let sequences: Vec<u16> = due.iter().map(|i| *i as u16).collect();
        feedback::nack(out, me, self.ssrc, &sequences);
        due.len() as u64
    }
}
