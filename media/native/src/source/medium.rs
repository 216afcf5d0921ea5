//! One medium of a publisher: its current source, and what of it is missing.

use super::InSsrc;
use crate::rtcp::feedback;
use crate::srtp::Window;
use crate::wire::record;

const NACK_FIRST_NS: u64 = 5_000_000;
const NACK_AGAIN_NS: u64 = 50_000_000;
const NACK_TRIES_MAX: u8 = 10;
/// Missing packets remembered per medium.
const MISSES_MAX: usize = 512;
/// A gap of more packets than this is not asked for: the publisher has gone on.
const GAP_MAX: u64 = 256;
/// Another SSRC may take over once the current one has been silent for this long.
const SILENCE_NS: u64 = 100_000_000;

record! {
    /// A packet that has not come.
    #[derive(Clone, Debug, PartialEq)]
    pub struct Miss { pub index: u64, pub tries: u8, pub due_ns: u64 }
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
        }
    }

    /// Whether a packet of another source makes that one the current: it has never been, and the
    /// one before it has gone. Two at once, as with simulcast, do not take turns.
    pub(super) fn may_give_way(&self, to: &InSsrc, now: u64) -> bool {
        let gone = self.left || now.saturating_sub(self.last_ns) > SILENCE_NS;
        to.epoch == 0 && !to.rtx && gone
    }

    /// A packet came: remember it, and what is missing before it.
    pub(super) fn got(&mut self, index: u64, now: u64) {
        let top = self.sent.top;
        if self.sent.any && index > top + 1 && index - top <= GAP_MAX {
            let room = MISSES_MAX.saturating_sub(self.misses.len());
            let gap = (top + 1..index).take(room);
            self.misses.extend(gap.map(|index| Miss {
                index,
                tries: 0,
                due_ns: now + NACK_FIRST_NS,
            }));
        }
        self.sent.mark(index);
        self.misses.retain(|m| m.index != index);
        self.last_ns = now;
        self.left = false;
    }

    pub(super) fn ask(&mut self, me: u32, now: u64, out: &mut Vec<u8>) -> u64 {
        self.misses.retain(|m| m.tries < NACK_TRIES_MAX);
        let mut due: Vec<u64> = vec![];
        for miss in self.misses.iter_mut().filter(|m| m.due_ns <= now) {
            due.push(miss.index);
            miss.tries += 1;
            miss.due_ns = now + NACK_AGAIN_NS;
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
