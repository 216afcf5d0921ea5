//! Payloads straight into what looks inside them: key frames of each codec, access units.

use crate::mutate::{mutate, Random};
use crate::{campaign, captured};
use _native::keyframe::is_key;
use _native::sdp::Codec;
use _native::tap::{Assembler, Piece};
use std::sync::Arc;

const CODECS: [Codec; 5] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus];

struct Tapped {
    seeds: Vec<Vec<u8>>,
    taps: [Assembler; 2],
    index: u64,
    ts: u64,
    now: u64,
    /// How far from the next number the packet at hand lies.
    jump: i64,
    marker: bool,
    units: u64,
}

/// Payloads as encoders write them, besides those of the captured session.
fn written() -> Vec<Vec<u8>> {
    let sps = [
        0x67, 0x42, 0xc0, 0x1f, 0xda, 0x02, 0x80, 0xf6, 0x84, 0, 0, 3, 0, 4,
    ];
    let pps = [0x68, 0xce, 0x3c, 0x80];
    let mut stap = vec![0x78];
    for unit in [&[0x09, 0xf0][..], &sps, &pps] {
        stap.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        stap.extend_from_slice(unit);
    }
    let mut huge_sps = sps.to_vec();
    huge_sps.resize(2_000, 0xaa);
    vec![
        stap,
        sps.to_vec(),
        pps.to_vec(),
        huge_sps,
        [&[0x65, 0x88, 0x84][..], &[7; 90]].concat(),
        [&[0x7c, 0x85, 0x88][..], &[8; 900]].concat(),
        [&[0x7c, 0x05][..], &[8; 900]].concat(),
        [&[0x7c, 0x45][..], &[8; 300]].concat(),
        [&[0x41, 0x9a][..], &[9; 200]].concat(),
        vec![0x06, 5, 1, 0, 0x80],
        vec![0x7c, 0x87, 0x42, 0xc0, 0x1f],
        vec![0x7c, 0x47, 0x80],
        vec![0x90, 0xf0, 0x81, 2, 3, 4, 0x10, 0x9d, 1, 0x2a],
        vec![0xa8, 0x81, 2, 0, 1, 2, 3],
        vec![0x18, 0x0a, 0x0b, 0, 0],
        vec![0xfc, 0xff, 0xfe],
    ]
}

#[test]
fn payloads() {
    let mut seeds = written();
    let packets = captured(&["rtp99", "rtp101", "rtp96"]);
    seeds.extend(packets.iter().map(|p| p[12.min(p.len())..].to_vec()));
    let tap = |codec| Assembler::new(codec).expect("a codec that is taken apart");
    let mut all = Tapped {
        seeds,
        taps: [tap(Codec::Opus), tap(Codec::H264)],
        index: 1 << 20,
        ts: 1 << 32,
        now: 0,
        jump: 0,
        marker: false,
        units: 0,
    };
    let make = |random: &mut Random, t: &mut Tapped| {
        t.now += random.pick(&[0, 1_000_000, 30_000_000, 300_000_000]);
        t.jump = *random.pick(&[1, 1, 1, 1, 1, 1, 0, 2, 3, -4, 700, 100_000]);
        t.marker = random.one_in(3);
        if t.marker || random.one_in(5) {
            t.ts += 3_000;
        }
        if random.one_in(500) {
            t.taps.iter_mut().for_each(Assembler::restart);
        }
        let seed = random.pick(&t.seeds).clone();
        if random.one_in(3) {
            return seed;
        }
        mutate(random, &seed, &t.seeds)
    };
    campaign("payload", &mut all, 1, make, |b, t| {
        for codec in CODECS {
            is_key(codec, b);
        }
        t.index = t.index.saturating_add_signed(t.jump);
        let payload: Arc<[u8]> = b.into();
        for tap in &mut t.taps {
            let piece = Piece {
                index: t.index,
                ts: t.ts,
                marker: t.marker,
                payload: &payload,
            };
            let mut units = vec![];
            tap.push(&piece, t.now, &mut units);
            tap.expire(t.now, &mut units);
            t.units += units.len() as u64;
            tap.stats();
        }
    });
    assert!(all.units > 0, "no unit was ever whole");
}
