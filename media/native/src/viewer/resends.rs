//! Remembers what was sent again lately: players ask for one lost packet many times.

/// A packet is sent again to one viewer at most once in this time.
const AGAIN_NS: u64 = 100_000_000;
const SLOTS: usize = 128;

/// (index, when) of the last resends, by index; made on the first NACK.
#[derive(Default)]
pub struct Resends(Option<Box<[(u64, u64); SLOTS]>>);

impl Resends {
    /// Whether the packet may be sent again now; remembers that it was.
    pub fn allow(&mut self, medium: usize, index: u64, now: u64) -> bool {
        let slots = self
            .0
            .get_or_insert_with(|| Box::new([(u64::MAX, 0); SLOTS]));
        let key = index << 1 | medium as u64;
        let slot = &mut slots[key as usize % SLOTS];
        if slot.0 == key && now.saturating_sub(slot.1) < AGAIN_NS {
            return false;
        }
        *slot = (key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_is_sent_again_once_in_a_while() {
        let mut r = Resends::default();
        assert!(r.allow(1, 5, 0));
        assert!(!r.allow(1, 5, AGAIN_NS - 1));
        assert!(r.allow(0, 5, 1), "the other medium is another packet");
        assert!(r.allow(1, 5, AGAIN_NS));
    }
}
