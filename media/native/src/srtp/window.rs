//! The sliding window over extended indexes: each index passes once, what is too old never.

use crate::wire::record;

record! {
    /// Which of the newest `SIZE` indexes have been seen.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
    pub struct Window {
        pub top: u64,
        pub bits: [u64; 16],
        pub any: bool,
    }
}

impl Window {
    /// How far back an index may come late.
    pub const SIZE: u64 = 1024;

    /// Whether `index` has not been seen and is not too old to tell.
    pub fn fresh(&self, index: u64) -> bool {
        if !self.any || index > self.top {
            return true;
        }
        self.top - index < Self::SIZE && self.bits[Self::word(index)] >> (index % 64) & 1 == 0
    }

    /// Call only after the packet has authenticated.
    pub fn mark(&mut self, index: u64) {
        if !self.any || index > self.top {
            if !self.any || index - self.top >= Self::SIZE {
                self.bits = [0; 16];
            } else {
                for between in self.top + 1..=index {
                    self.bits[Self::word(between)] &= !(1 << (between % 64));
                }
            }
            self.top = index;
            self.any = true;
        }
        self.bits[Self::word(index)] |= 1 << (index % 64);
    }

    /// Extended index of a 16-bit sequence number (RFC 3711, appendix A).
    pub fn extend(&self, sequence: u16) -> u64 {
        if !self.any {
            return u64::from(sequence);
        }
        let step = i64::from(sequence.wrapping_sub(self.top as u16) as i16);
        let index = self.top as i64 + step;
        if index < 0 {
            // before the first wrap: a number "behind" zero is one ahead
            return (index + 65_536) as u64;
        }
        index as u64
    }

    fn word(index: u64) -> usize {
        (index / 64 % 16) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_index_passes_once_and_the_old_never() {
        let mut w = Window::default();
        for index in [5_000u64, 5_003, 5_001, 7_000, 6_500] {
            assert!(w.fresh(index), "{index}");
            w.mark(index);
            assert!(!w.fresh(index), "{index}");
        }
        assert!(!w.fresh(7_000 - Window::SIZE), "too old");
        assert!(w.fresh(7_000 - Window::SIZE + 1));
    }

    #[test]
    fn a_jump_over_the_whole_window_forgets_the_old_bits() {
        let mut w = Window::default();
        w.mark(10);
        w.mark(10 + 5 * Window::SIZE);
        assert!(w.fresh(10 + 5 * Window::SIZE - 1));
    }

    #[test]
    fn sequence_numbers_extend_over_the_wrap() {
        let mut w = Window::default();
        w.mark(w.extend(65_530));
        assert_eq!(w.extend(3), 65_539);
        w.mark(65_539);
        assert_eq!(w.extend(65_531), 65_531, "a late one stays before the wrap");
        assert_eq!(w.extend(4), 65_540);
    }

    #[test]
    fn the_window_agrees_with_a_set_on_random_input() {
        let (mut w, mut seen, mut top) = (Window::default(), std::collections::HashSet::new(), 0);
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..20_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let index = 100_000u64.max(top) + state % 900 - state % 450 * 2;
            let expected = (index > top || top - index < Window::SIZE) && !seen.contains(&index);
            assert_eq!(w.fresh(index), expected, "{index}, top {top}");
            if expected {
                w.mark(index);
                seen.insert(index);
                top = top.max(index);
            }
        }
    }
}
