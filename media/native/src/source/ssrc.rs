//! One SSRC of a publisher as SRTP sees it, and what receiver reports say about it.

use super::header;
use crate::rtcp::Report;
use crate::srtp::Window;
use crate::wire::record;

record! {
    /// One SSRC as SRTP sees it.
    #[derive(Clone, Debug, PartialEq)]
    pub struct InSsrc {
        pub ssrc: u32,
        pub video: bool,
        pub rtx: bool,
        /// Which source of its medium it is, or was, or retransmits; 0: none yet.
        pub epoch: u32,
        pub seen: Window,
        pub first: u64,
        pub got: u64,
        /// (expected, got) at the last report.
        pub told: (u64, u64),
        pub transit: u32,
        /// Sixteen times the jitter of RFC 3550 6.4.1.
        pub jitter: u32,
        /// Middle of the last SR's NTP time, and when it came.
        pub sr: Option<(u32, u64)>,
    }
}

impl InSsrc {
    pub(super) fn new(head: &header::Header, video: bool, rtx: bool, epoch: u32) -> Self {
        InSsrc {
            ssrc: head.ssrc,
            video,
            rtx,
            epoch,
            seen: Window::default(),
            first: u64::from(head.sequence),
            got: 0,
            told: (0, 0),
            transit: 0,
            jitter: 0,
            sr: None,
        }
    }

    pub(super) fn arrived(&mut self, index: u64, ts: u32, hz: u32, now: u64) {
        self.seen.mark(index);
        self.got += 1;
        let ticks = (u128::from(now) * u128::from(hz) / 1_000_000_000) as u32;
        let transit = ticks.wrapping_sub(ts);
        if self.got > 1 {
            let difference = (transit.wrapping_sub(self.transit) as i32).unsigned_abs();
            let grown = u64::from(self.jitter) + u64::from(difference);
            let faded = (u64::from(self.jitter) + 8) / 16;
            self.jitter = u32::try_from(grown - faded).unwrap_or(u32::MAX);
        }
        self.transit = transit;
    }

    fn expected(&self) -> u64 {
        self.seen.top - self.first.min(self.seen.top) + 1
    }

    pub(super) fn lost(&self) -> u64 {
        self.expected().saturating_sub(self.got)
    }

    pub(super) fn report(&mut self, now: u64) -> Report {
        let expected = self.expected();
        let wanted = expected.saturating_sub(self.told.0);
        let got = self.got - self.told.1;
        self.told = (expected, self.got);
        let fraction = (wanted.saturating_sub(got) * 256).checked_div(wanted);
        let (lsr, dlsr) = self.sr.map_or((0, 0), |(middle, at)| {
            let since = u128::from(now.saturating_sub(at)) * 65_536 / 1_000_000_000;
            (middle, since as u32)
        });
        Report {
            ssrc: self.ssrc,
            fraction: fraction.unwrap_or(0).min(255) as u8,
            lost: self.lost().min(0x7f_ffff) as i32,
            top: self.seen.top as u32,
            jitter: self.jitter / 16,
            lsr,
            dlsr,
        }
    }
}
