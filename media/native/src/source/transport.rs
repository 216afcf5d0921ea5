//! Transport-wide congestion control, the receiver's side: which numbers came, and when.

use crate::rtcp::feedback::{transport_feedback, Arrivals};
use crate::srtp::Window;
use crate::wire::record;

const EVERY_NS: u64 = 100_000_000;
/// Arrivals remembered between two reports.
const ARRIVALS_MAX: usize = 512;
/// Numbers that one report covers.
const SPAN_MAX: u64 = 1_024;

record! {
    /// What has come since the last report.
    #[derive(Clone, Debug, Default, PartialEq)]
    pub struct TransportIn {
        /// The header extension's id; None: not negotiated.
        pub id: Option<u8>,
        pub seen: Window,
        pub next: u64,
        pub arrivals: Vec<(u64, u64)>,
        pub count: u8,
        pub due_ns: u64,
    }
}

impl TransportIn {
    pub fn new(id: Option<u8>) -> Self {
        TransportIn {
            id,
            ..TransportIn::default()
        }
    }

    pub fn add(&mut self, sequence: u16, now: u64) {
        let index = self.seen.extend(sequence);
        if self.seen.fresh(index) && self.arrivals.len() < ARRIVALS_MAX {
            self.seen.mark(index);
            self.arrivals.push((index, now));
        }
    }

    /// Appends the report if one is due.
    pub fn report(&mut self, out: &mut Vec<u8>, me: u32, media: u32, now: u64) {
        if now < self.due_ns || self.arrivals.is_empty() {
            return;
        }
        self.due_ns = now + EVERY_NS;
        let mut arrivals = std::mem::take(&mut self.arrivals);
        arrivals.sort_unstable();
        let (first, last) = (arrivals[0].0, arrivals[arrivals.len() - 1].0);
        let base = if self.next == 0 {
            first
        } else {
            self.next.min(first)
        };
        self.next = self.next.max(last + 1);
        if last - base >= SPAN_MAX {
            return; // the publisher's numbers have jumped: nothing sensible can be said
        }
        let mut times = vec![None; (last - base + 1) as usize];
        for (index, at) in arrivals {
            times[(index - base) as usize] = Some(at);
        }
        let arrivals = Arrivals {
            base: base as u16,
            count: self.count,
            times_ns: &times,
        };
        transport_feedback(out, me, media, &arrivals);
        self.count = self.count.wrapping_add(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rtcp::{be16, parts};

    #[test]
    fn reports_cover_what_came_without_gaps_between_them() {
        let mut t = TransportIn::new(Some(3));
        let mut now = 1_000_000_000;
        let mut next = 65_500u16;
        for round in 0..20u8 {
            for _ in 0..10 {
                t.add(next, now);
                next = next.wrapping_add(1);
                now += 5_000_000;
            }
            now += EVERY_NS;
            let mut out = vec![];
            t.report(&mut out, 1, 2, now);
            let part = parts(&out).next().expect("a report is due");
            assert_eq!(be16(part.bytes, 12), next.wrapping_sub(10));
            assert_eq!(be16(part.bytes, 14), 10);
            assert_eq!(part.bytes[19], round);
        }
        let mut out = vec![];
        t.report(&mut out, 1, 2, now + 2 * EVERY_NS);
        assert!(out.is_empty(), "nothing came, nothing is said");
    }

    #[test]
    fn numbers_that_jump_do_not_make_giant_reports() {
        let mut t = TransportIn::new(Some(3));
        for i in 0..40u16 {
            t.add(i.wrapping_mul(1_500), 5);
        }
        let mut out = vec![];
        t.report(&mut out, 1, 2, EVERY_NS);
        assert!(out.len() < 2_000);
    }
}
