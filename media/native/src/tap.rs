//! Access units out of a stream's packets, for packaging and recording in Python: H.264 and Opus.
//!
//! Packets come by stream index, perhaps late or never. `order` waits for the late ones within
//! bounds; `h264` puts a frame's packets together. A unit with a hole is never handed out: it is
//! left away, and the next good one says `lost`. No I/O; time is passed in and only used to stop
//! waiting. It does not date units (the stream clock does) and decodes nothing.

use crate::sdp::Codec;
use std::sync::Arc;

mod h264;
mod order;

use h264::Frames;
use order::Order;

/// A missing packet is waited for by so many round trips longer, within a bound: players of HLS
/// hold back more than that.
const WAIT_ROUND_TRIPS: u64 = 3;
const WAIT_MAX_NS: u64 = 600_000_000;

/// One packet of one medium of a stream.
pub struct Piece<'a> {
    /// The stream's packet number, counting on for ever.
    pub index: u64,
    /// Extended RTP timestamp.
    pub ts: u64,
    pub marker: bool,
    pub payload: &'a Arc<[u8]>,
}

/// One complete access unit.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assembled {
    pub ts: u64,
    pub keyframe: bool,
    /// Something before this unit is missing for good.
    pub lost: bool,
    /// H.264: NAL units with four-byte lengths, without SPS, PPS, AUD and filler. Opus: the packet.
    pub data: Vec<u8>,
    /// On a key frame when the parameter sets changed or are the first, else empty.
    pub sps: Vec<u8>,
    pub pps: Vec<Vec<u8>>,
}

/// What went wrong so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TapStats {
    /// Packets that came after we had stopped waiting for them, or twice.
    pub late: u64,
    /// Packets that never came.
    pub missing: u64,
    /// Frames given up for a hole or their size.
    pub broken: u64,
    /// Packets in a form that WebRTC does not use (interleaved modes), or nonsense.
    pub refused: u64,
}

enum Medium {
    Video(Box<Frames>),
    Audio { lost: bool },
}

/// Puts one medium's packets together.
pub struct Assembler {
    order: Order,
    medium: Medium,
    stats: TapStats,
}

impl Assembler {
    /// None for codecs that are not taken apart here.
    pub fn new(codec: Codec) -> Option<Self> {
        let medium = match codec {
            Codec::H264 => Medium::Video(Box::default()),
            Codec::Opus => Medium::Audio { lost: false },
            Codec::Vp8 | Codec::Vp9 | Codec::Av1 => return None,
        };
        Some(Assembler {
            order: Order::default(),
            medium,
            stats: TapStats::default(),
        })
    }

    /// Takes a packet; appends the units that it completes. `now_ns`: any steady clock.
    pub fn push(&mut self, piece: &Piece, now_ns: u64, out: &mut Vec<Assembled>) {
        if self.order.is_next(piece.index) {
            let gap = self.order.step();
            self.take(piece, gap, out);
        } else if !self.order.hold(piece, now_ns) {
            self.stats.late += 1;
        }
        self.drain(now_ns, out);
    }

    /// The way to the publisher and back, as far as it is known: missing packets take that long.
    pub fn adapt(&mut self, round_trip_ns: Option<u64>) {
        let longer = WAIT_ROUND_TRIPS * round_trip_ns.unwrap_or(0);
        self.order.wait_ns = (order::WAIT_NS + longer).min(WAIT_MAX_NS);
    }

    /// Stops waiting for what is overdue. Call every now and then, also when nothing comes.
    pub fn expire(&mut self, now_ns: u64, out: &mut Vec<Assembled>) {
        self.drain(now_ns, out);
    }

    /// Another publisher: what is half-built goes, indexes may jump, the next key frame tells its
    /// parameter sets.
    pub fn restart(&mut self) {
        self.order = Order::default();
        match &mut self.medium {
            Medium::Video(frames) => **frames = Frames::default(),
            Medium::Audio { lost } => *lost = false,
        }
    }

    pub fn stats(&self) -> TapStats {
        self.stats
    }

    fn drain(&mut self, now_ns: u64, out: &mut Vec<Assembled>) {
        self.stats.missing += self.order.give_up(now_ns);
        while let Some((held, gap)) = self.order.pop() {
            let piece = Piece {
                index: held.index,
                ts: held.ts,
                marker: held.marker,
                payload: &held.payload,
            };
            self.take(&piece, gap, out);
            self.stats.missing += self.order.give_up(now_ns);
        }
    }

    fn take(&mut self, piece: &Piece, gap: bool, out: &mut Vec<Assembled>) {
        match &mut self.medium {
            Medium::Video(frames) => frames.push(piece, gap, &mut self.stats, out),
            Medium::Audio { lost } => {
                *lost |= gap;
                if piece.payload.is_empty() {
                    self.stats.refused += 1;
                    return;
                }
                out.push(Assembled {
                    ts: piece.ts,
                    keyframe: true,
                    lost: std::mem::take(lost),
                    data: piece.payload.to_vec(),
                    ..Assembled::default()
                });
            }
        }
    }
}

#[cfg(test)]
mod tests;
