//! Remembers what was sent again lately: players ask for one lost packet many times.
//!
//! A packet goes again at most once a round trip: whoever asks sooner cannot know yet that it is on
//! its way. How much one viewer may have sent again in all is the worker's to limit.

/// Pause between two resends of one packet: while the round trip is unknown, and at most.
const AGAIN_MAX_NS: u64 = 100_000_000;
/// Players look about every 20 ms for what they miss.
const AGAIN_MIN_NS: u64 = 15_000_000;
const SLOTS: usize = 128;

/// (index, when) of the last resends, by index; made on the first NACK.
#[derive(Default)]
pub struct Resends(Option<Box<[(u64, u64); SLOTS]>>);

impl Resends {
    /// Whether the packet, named by `key`, may be sent again now; remembers that it was.
    pub fn allow(&mut self, key: u64, round_trip_ns: Option<u64>, now: u64) -> bool {
        let again = round_trip_ns.map_or(AGAIN_MAX_NS, |ns| ns.clamp(AGAIN_MIN_NS, AGAIN_MAX_NS));
        let slots = self
            .0
            .get_or_insert_with(|| Box::new([(u64::MAX, 0); SLOTS]));
        let slot = &mut slots[key as usize % SLOTS];
        if slot.0 == key && now.saturating_sub(slot.1) < again {
            return false;
        }
        *slot = (key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_packet_is_sent_again_once_a_round_trip() {
        let mut r = Resends::default();
        assert!(r.allow(5, None, 0));
        assert!(!r.allow(5, None, AGAIN_MAX_NS - 1));
        assert!(r.allow(4, None, 1), "another packet");
        assert!(r.allow(5, None, AGAIN_MAX_NS));
        assert!(!r.allow(5, Some(40 * MS), AGAIN_MAX_NS + 39 * MS));
        assert!(r.allow(5, Some(40 * MS), AGAIN_MAX_NS + 40 * MS));
        assert!(!r.allow(5, Some(0), AGAIN_MAX_NS + 41 * MS));
        assert!(r.allow(5, Some(0), AGAIN_MAX_NS + 55 * MS));
    }
}
