//! Events and access units on their way to the caller, behind one eventfd.
//!
//! Both queues are bounded: when full they lose their oldest, and count it. Events wake at once,
//! units at most every `UNITS_EVERY_NS`.

use crate::shared::{lock, now_ns, EventFd};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

const EVENTS_MAX: usize = 65_536;
const UNITS_MAX: usize = 16_384;
const UNITS_BYTES_MAX: usize = 64 << 20;
const UNITS_EVERY_NS: u64 = 20_000_000;

/// Something that happened to a session.
pub struct Event {
    pub session: u64,
    pub stream: Arc<str>,
    pub kind: &'static str,
    pub detail: String,
}

/// One access unit of a tapped stream.
pub struct Unit {
    pub stream: Arc<str>,
    pub session: u64,
    pub video: bool,
    pub at_ns: i64,
    pub timestamp: u64,
    pub keyframe: bool,
    pub lost: bool,
    pub data: Vec<u8>,
    pub sps: Vec<u8>,
    pub pps: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Units {
    queue: VecDeque<Unit>,
    bytes: usize,
    dropped: u64,
    /// When the caller was last woken for units.
    woken_ns: u64,
    /// Units wait that nobody has been woken for.
    unannounced: bool,
}

/// The queues and their eventfd.
pub struct Outbox {
    wake: EventFd,
    events: Mutex<VecDeque<Event>>,
    units: Mutex<Units>,
}

impl Outbox {
    pub fn new() -> std::io::Result<Self> {
        Ok(Outbox {
            wake: EventFd::new()?,
            events: Mutex::default(),
            units: Mutex::default(),
        })
    }

    pub fn fd(&self) -> i32 {
        self.wake.fd()
    }

    pub fn event(&self, session: u64, stream: &Arc<str>, kind: &'static str, detail: String) {
        let mut events = lock(&self.events);
        if events.len() >= EVENTS_MAX {
            events.pop_front();
        }
        events.push_back(Event {
            session,
            stream: stream.clone(),
            kind,
            detail,
        });
        drop(events);
        self.wake.signal();
    }

    pub fn push_units(&self, new: impl IntoIterator<Item = Unit>) {
        let mut units = lock(&self.units);
        for unit in new {
            units.bytes += unit.data.len();
            units.queue.push_back(unit);
            units.unannounced = true;
        }
        while units.queue.len() > UNITS_MAX || units.bytes > UNITS_BYTES_MAX {
            let Some(oldest) = units.queue.pop_front() else {
                break;
            };
            units.bytes -= oldest.data.len();
            units.dropped += 1;
        }
        self.announce(&mut units, now_ns());
    }

    /// Wakes the caller for units that have waited long enough. Call every few ms.
    pub fn tick(&self, now: u64) {
        self.announce(&mut lock(&self.units), now);
    }

    /// Units lost because nobody took them.
    pub fn units_dropped(&self) -> u64 {
        lock(&self.units).dropped
    }

    pub fn take_events(&self) -> Vec<Event> {
        self.wake.clear();
        let events = std::mem::take(&mut *lock(&self.events));
        let units = lock(&self.units);
        if !units.queue.is_empty() && !units.unannounced {
            self.wake.signal(); // they had been announced, and this call took the signal away
        }
        events.into()
    }

    pub fn take_units(&self) -> Vec<Unit> {
        self.wake.clear();
        let mut units = lock(&self.units);
        units.bytes = 0;
        units.unannounced = false;
        let taken = std::mem::take(&mut units.queue);
        drop(units);
        if !lock(&self.events).is_empty() {
            self.wake.signal();
        }
        taken.into()
    }

    fn announce(&self, units: &mut Units, now: u64) {
        if units.unannounced && now.saturating_sub(units.woken_ns) >= UNITS_EVERY_NS {
            units.unannounced = false;
            units.woken_ns = now;
            self.wake.signal();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit(size: usize) -> Unit {
        Unit {
            stream: "s".into(),
            session: 1,
            video: true,
            at_ns: 0,
            timestamp: 0,
            keyframe: false,
            lost: false,
            data: vec![0; size],
            sps: vec![],
            pps: vec![],
        }
    }

    fn readable(outbox: &Outbox) -> bool {
        let mut fd = libc::pollfd {
            fd: outbox.fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one live pollfd.
        unsafe { libc::poll(&raw mut fd, 1, 0) == 1 }
    }

    #[test]
    fn a_full_queue_of_units_loses_its_oldest_and_counts() {
        let outbox = Outbox::new().expect("an eventfd");
        outbox.push_units((0..70).map(|_| unit(1 << 20)));
        assert_eq!(outbox.units_dropped(), 6);
        assert_eq!(outbox.take_units().len(), 64);
        outbox.push_units((0..UNITS_MAX + 3).map(|_| unit(1)));
        assert_eq!(outbox.units_dropped(), 9);
    }

    #[test]
    fn the_descriptor_stays_readable_while_anything_announced_waits() {
        let outbox = Outbox::new().expect("an eventfd");
        assert!(!readable(&outbox));
        outbox.push_units([unit(1)]);
        assert!(readable(&outbox), "the first unit wakes at once");
        outbox.event(1, &"s".into(), "connected", String::new());
        assert_eq!(outbox.take_events().len(), 1);
        assert!(readable(&outbox), "units still wait");
        assert_eq!(outbox.take_units().len(), 1);
        assert!(!readable(&outbox));
    }

    #[test]
    fn units_wake_at_most_fifty_times_a_second() {
        let outbox = Outbox::new().expect("an eventfd");
        outbox.push_units([unit(1)]);
        outbox.take_units();
        outbox.push_units([unit(1)]);
        let woken = lock(&outbox.units).woken_ns;
        outbox.tick(woken + UNITS_EVERY_NS - 1);
        assert!(!readable(&outbox));
        outbox.tick(woken + UNITS_EVERY_NS);
        assert!(readable(&outbox));
    }
}
