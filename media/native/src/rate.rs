//! How often something may happen: so many a period, all of them at once if need be.
//!
//! One number (the generic cell rate algorithm, ITU-T I.371): when all that was taken will have
//! been paid for. A limit of 0 is none. No clock; time is passed in.

/// What has been taken of one allowance.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    paid_ns: u64,
}

/// So many a period.
#[derive(Clone, Copy, Debug)]
pub struct Allowance {
    pub max: u64,
    pub period_ns: u64,
}

impl Allowance {
    pub fn per_second(max: u64) -> Self {
        Allowance {
            max,
            period_ns: 1_000_000_000,
        }
    }

    pub fn per_minute(max: u64) -> Self {
        Allowance {
            max,
            period_ns: 60_000_000_000,
        }
    }
}

impl Rate {
    /// Takes `n` if they are left.
    pub fn take(&mut self, n: u64, of: Allowance, now: u64) -> bool {
        let allowed = n <= self.left(of, now);
        if allowed {
            self.charge(n, of, now);
        }
        allowed
    }

    /// How many may be taken now.
    pub fn left(&self, of: Allowance, now: u64) -> u64 {
        if of.max == 0 {
            return u64::MAX;
        }
        let owed = self.paid_ns.saturating_sub(now);
        let free = u128::from(of.period_ns.saturating_sub(owed));
        (free * u128::from(of.max) / u128::from(of.period_ns)) as u64
    }

    /// Counts `n` that have happened.
    pub fn charge(&mut self, n: u64, of: Allowance, now: u64) {
        if of.max > 0 {
            let cost = u128::from(n) * u128::from(of.period_ns) / u128::from(of.max);
            let cost = u64::try_from(cost).unwrap_or(u64::MAX);
            self.paid_ns = self.paid_ns.max(now).saturating_add(cost);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;

    #[test]
    fn a_period_s_worth_at_once_then_at_the_rate() {
        let (mut rate, of) = (Rate::default(), Allowance::per_second(100));
        let now = 5_000 * MS;
        assert_eq!((0..1_000).filter(|_| rate.take(1, of, now)).count(), 100);
        assert_eq!(rate.left(of, now), 0);
        assert_eq!(rate.left(of, now + 250 * MS), 25);
        let later = (1..=1_000)
            .filter(|ms| rate.take(1, of, now + ms * MS))
            .count();
        assert!((99..=100).contains(&later), "{later}");
        assert_eq!(
            rate.left(of, now + 60_000 * MS),
            100,
            "nothing is saved up beyond a period"
        );
    }

    #[test]
    fn no_limit_is_no_limit() {
        let mut rate = Rate::default();
        assert!((0..1_000).all(|_| rate.take(u64::MAX, Allowance::per_minute(0), 7)));
    }

    #[test]
    fn absurd_amounts_do_not_overflow() {
        let (mut rate, of) = (Rate::default(), Allowance::per_minute(1));
        rate.charge(u64::MAX, of, 5);
        assert!(!rate.take(1, of, u64::MAX / 2));
    }
}
