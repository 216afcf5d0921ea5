//! H.264 frames out of RTP payloads (RFC 6184, non-interleaved): single units, STAP-A, FU-A.
//!
//! A frame ends at the marker, or when the next packet has another timestamp. Parameter sets are
//! taken out and remembered; nothing is handed out before the first key frame whose sets we know.

use super::{Assembled, Piece, TapStats};

/// Longest frame, in bytes.
const UNIT_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest parameter set, in bytes.
const SET_BYTES_MAX: usize = 4 * 1024;
/// Picture parameter sets remembered.
const PPS_MAX: usize = 32;

const SLICE: u8 = 1;
const IDR: u8 = 5;
const SEI: u8 = 6;
const SPS: u8 = 7;
const PPS: u8 = 8;
const AUD: u8 = 9;
const STAP_A: u8 = 24;
const FU_A: u8 = 28;
const FU_START: u8 = 0x80;
const FU_END: u8 = 0x40;

/// The frame being put together.
#[derive(Default)]
struct Frame {
    ts: u64,
    data: Vec<u8>,
    keyframe: bool,
    /// Has a slice, not only side data.
    picture: bool,
    broken: bool,
    /// Where the length of a fragmented unit stands that has not ended yet.
    fragment: Option<usize>,
}

/// Remembered parameter sets.
#[derive(Default)]
struct Sets {
    sps: Vec<u8>,
    pps: Vec<Vec<u8>>,
    changed: bool,
}

#[derive(Default)]
pub struct Frames {
    frame: Option<Frame>,
    sets: Sets,
    /// A key frame has been handed out.
    started: bool,
    lost: bool,
    /// Size of the last frame, to make room for the next at once.
    usual: usize,
}

impl Frames {
    /// Takes the next packet in order; `gap`: packets right before it will never come.
    pub fn push(
        &mut self,
        piece: &Piece,
        gap: bool,
        stats: &mut TapStats,
        out: &mut Vec<Assembled>,
    ) {
        if gap {
            self.lost = true;
            if let Some(frame) = &mut self.frame {
                frame.broken = true;
            }
        }
        if self
            .frame
            .as_ref()
            .is_some_and(|frame| frame.ts != piece.ts)
        {
            self.finish(stats, out);
        }
        let usual = self.usual;
        let frame = self.frame.get_or_insert_with(|| Frame {
            ts: piece.ts,
            data: Vec::with_capacity(usual + usual / 4),
            broken: gap && !opens_frame(piece.payload),
            ..Frame::default()
        });
        // Of a broken frame the parameter sets still count, its other packets prove nothing.
        if !payload(frame, &mut self.sets, piece.payload) && !frame.broken {
            frame.broken = true;
            stats.refused += 1;
        }
        if frame.data.len() > UNIT_BYTES_MAX {
            frame.data = Vec::new();
            frame.fragment = None;
            frame.broken = true;
        }
        if piece.marker {
            self.finish(stats, out);
        }
    }

    fn finish(&mut self, stats: &mut TapStats, out: &mut Vec<Assembled>) {
        let Some(frame) = self.frame.take() else {
            return;
        };
        if frame.broken || frame.fragment.is_some() {
            self.lost = true;
            stats.broken += 1;
            return;
        }
        let known = !self.sets.sps.is_empty() && !self.sets.pps.is_empty();
        self.started |= frame.keyframe && known;
        if !frame.picture || !self.started {
            return;
        }
        self.usual = frame.data.len().min(UNIT_BYTES_MAX / 4);
        let mut unit = Assembled {
            ts: frame.ts,
            keyframe: frame.keyframe,
            lost: std::mem::take(&mut self.lost),
            data: frame.data,
            ..Assembled::default()
        };
        if frame.keyframe && std::mem::take(&mut self.sets.changed) {
            unit.sps.clone_from(&self.sets.sps);
            unit.pps.clone_from(&self.sets.pps);
        }
        out.push(unit);
    }
}

impl Sets {
    fn sps(&mut self, unit: &[u8]) {
        if self.sps != unit {
            self.sps = unit.to_vec();
            self.pps.clear();
            self.changed = true;
        }
    }

    fn pps(&mut self, unit: &[u8]) {
        let id = first_ue(unit.get(1..).unwrap_or(&[]));
        let same = |old: &Vec<u8>| first_ue(old.get(1..).unwrap_or(&[])) == id;
        match self.pps.iter().position(same) {
            Some(at) if self.pps[at] == unit => return,
            Some(at) => self.pps[at] = unit.to_vec(),
            None if self.pps.len() < PPS_MAX => self.pps.push(unit.to_vec()),
            None => return,
        }
        self.changed = true;
    }
}

/// Adds one RTP payload to a frame. False: it cannot be understood.
fn payload(frame: &mut Frame, sets: &mut Sets, payload: &[u8]) -> bool {
    let Some(&first) = payload.first() else {
        return true;
    };
    match first & 31 {
        FU_A => fragment(frame, sets, payload),
        _ if frame.fragment.is_some() => false,
        STAP_A => {
            let mut rest = &payload[1..];
            while let [high, low, tail @ ..] = rest {
                let length = usize::from(u16::from_be_bytes([*high, *low]));
                let Some((unit, after)) = tail.split_at_checked(length) else {
                    return false;
                };
                whole(frame, sets, unit);
                rest = after;
            }
            rest.is_empty()
        }
        1..=23 => {
            whole(frame, sets, payload);
            true
        }
        _ => false,
    }
}

/// A complete NAL unit.
fn whole(frame: &mut Frame, sets: &mut Sets, unit: &[u8]) {
    let Some(&first) = unit.first() else { return };
    let fits = unit.len() <= SET_BYTES_MAX;
    match first & 31 {
        SPS if fits => sets.sps(unit),
        PPS if fits => sets.pps(unit),
        kind if is_kept(kind) => {
            mark(frame, kind);
            frame
                .data
                .extend_from_slice(&(unit.len() as u32).to_be_bytes());
            frame.data.extend_from_slice(unit);
        }
        _ => {}
    }
}

/// A piece of a NAL unit.
fn fragment(frame: &mut Frame, sets: &mut Sets, payload: &[u8]) -> bool {
    let &[indicator, head, ref body @ ..] = payload else {
        return false;
    };
    if head & FU_START != 0 {
        if frame.fragment.is_some() {
            return false;
        }
        frame.fragment = Some(frame.data.len());
        frame.data.extend_from_slice(&[0; 4]);
        frame.data.push((indicator & 0xe0) | (head & 31));
    }
    let Some(start) = frame.fragment else {
        return false;
    };
    frame.data.extend_from_slice(body);
    if head & FU_END == 0 {
        return true;
    }
    frame.fragment = None;
    let length = (frame.data.len() - start - 4) as u32;
    if is_kept(head & 31) {
        mark(frame, head & 31);
        frame.data[start..start + 4].copy_from_slice(&length.to_be_bytes());
    } else {
        let unit = frame.data.split_off(start);
        whole(frame, sets, &unit[4..]);
    }
    true
}

fn is_kept(kind: u8) -> bool {
    (SLICE..=SEI).contains(&kind)
}

fn mark(frame: &mut Frame, kind: u8) {
    frame.keyframe |= kind == IDR;
    frame.picture |= kind != SEI;
}

/// Whether a payload is sure to be a frame's first: side data that stands in front, or a slice
/// that begins at the first macroblock (first_mb_in_slice 0 is a single set bit).
fn opens_frame(payload: &[u8]) -> bool {
    let opens = |kind: u8, body: Option<&u8>| match kind & 31 {
        SPS | AUD => true,
        SLICE..=IDR => body.is_some_and(|byte| byte & 0x80 != 0),
        _ => false,
    };
    match payload.first().map(|first| first & 31) {
        Some(STAP_A) => payload
            .get(3)
            .is_some_and(|kind| opens(*kind, payload.get(4))),
        Some(FU_A) => payload
            .get(1)
            .is_some_and(|head| head & FU_START != 0 && opens(*head, payload.get(2))),
        Some(kind) => opens(kind, payload.get(1)),
        None => false,
    }
}

/// The unsigned Exp-Golomb number that the bits begin with.
fn first_ue(bits: &[u8]) -> Option<u32> {
    let mut word = [0; 8];
    let n = bits.len().min(8);
    word[..n].copy_from_slice(&bits[..n]);
    let word = u64::from_be_bytes(word);
    let zeros = word.leading_zeros();
    (zeros < 31).then(|| (word << zeros >> (63 - zeros)) as u32 - 1)
}
