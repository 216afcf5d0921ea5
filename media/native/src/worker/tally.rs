//! What a stream's publishers and viewers have counted on one worker, those that went included.

use crate::handshake::Flow;

/// Sums over a stream's sessions. Pairs are audio and video.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub lost_in: u64,
    /// Recovered by retransmission.
    pub rtx_in: u64,
    /// Packets that publishers were asked to send again.
    pub nacks_out: u64,
    pub packets_out: [u64; 2],
    pub bytes_out: [u64; 2],
    pub rtx_out: u64,
    /// Viewers' requests for packets and for key frames.
    pub nacks_in: u64,
    pub plis_in: u64,
}

impl Tally {
    /// Counts a session in.
    pub fn add_flow(&mut self, flow: &Flow) {
        match flow {
            Flow::Opening => {}
            Flow::Source(source) => {
                let counts = source.counts();
                self.lost_in += counts.lost;
                self.rtx_in += counts.rtx;
                self.nacks_out += counts.nacks;
            }
            Flow::View(viewer) => {
                let counts = &viewer.counts;
                for medium in [0, 1] {
                    self.packets_out[medium] += counts.packets[medium];
                    self.bytes_out[medium] += counts.bytes[medium];
                }
                self.rtx_out += counts.rtx;
                self.nacks_in += counts.nacks;
                self.plis_in += counts.plis;
            }
        }
    }

    /// Counts another worker's in.
    pub fn add(&mut self, other: &Tally) {
        self.lost_in += other.lost_in;
        self.rtx_in += other.rtx_in;
        self.nacks_out += other.nacks_out;
        for medium in [0, 1] {
            self.packets_out[medium] += other.packets_out[medium];
            self.bytes_out[medium] += other.bytes_out[medium];
        }
        self.rtx_out += other.rtx_out;
        self.nacks_in += other.nacks_in;
        self.plis_in += other.plis_in;
    }
}
