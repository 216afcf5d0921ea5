//! Puts packets back in order: waits for a missing one, but not for ever.

use super::Piece;
use std::collections::BTreeMap;
use std::sync::Arc;

/// How long a missing packet is waited for: a few retransmissions when the way is short.
pub const WAIT_NS: u64 = 250_000_000;
/// Packets held behind a hole; past that the hole is given up.
const HELD_MAX: usize = 512;

/// A packet that waits for its predecessors.
pub struct Held {
    pub index: u64,
    pub ts: u64,
    pub marker: bool,
    pub payload: Arc<[u8]>,
    since_ns: u64,
}

pub struct Order {
    /// How long a missing packet is waited for.
    pub wait_ns: u64,
    next: Option<u64>,
    /// The packets right before `next` were given up.
    gap: bool,
    held: BTreeMap<u64, Held>,
}

impl Default for Order {
    fn default() -> Self {
        Order {
            wait_ns: WAIT_NS,
            next: None,
            gap: false,
            held: BTreeMap::new(),
        }
    }
}

impl Order {
    /// Whether this is the packet that we wait for; the first of all always is.
    pub fn is_next(&mut self, index: u64) -> bool {
        *self.next.get_or_insert(index) == index
    }

    /// Passes the awaited packet; whether packets before it were given up.
    pub fn step(&mut self) -> bool {
        self.next = self.next.map(|next| next + 1);
        std::mem::take(&mut self.gap)
    }

    /// Keeps a packet for later. False: it is too late, or here already.
    pub fn hold(&mut self, piece: &Piece, now_ns: u64) -> bool {
        let late = self.next.is_some_and(|next| piece.index < next);
        if late || self.held.contains_key(&piece.index) {
            return false;
        }
        let held = Held {
            index: piece.index,
            ts: piece.ts,
            marker: piece.marker,
            payload: Arc::clone(piece.payload),
            since_ns: now_ns,
        };
        self.held.insert(piece.index, held);
        true
    }

    /// The awaited packet, if it is held, and whether packets before it were given up.
    pub fn pop(&mut self) -> Option<(Held, bool)> {
        let held = self.held.remove(&self.next?)?;
        let gap = self.step();
        Some((held, gap))
    }

    /// Steps over a hole that was waited for long enough; the number of packets given up.
    pub fn give_up(&mut self, now_ns: u64) -> u64 {
        let (Some(next), Some((&first, _))) = (self.next, self.held.first_key_value()) else {
            return 0;
        };
        if first == next {
            return 0;
        }
        // Whichever of the held came first has seen the hole for longest.
        let since = self
            .held
            .values()
            .map(|held| held.since_ns)
            .min()
            .unwrap_or(now_ns);
        let overdue = now_ns.saturating_sub(since) >= self.wait_ns;
        if !overdue && self.held.len() <= HELD_MAX {
            return 0;
        }
        self.next = Some(first);
        self.gap = true;
        first - next
    }
}
