//! Frames out of packets: in order, late, lost, in every packing; against a plain packetizer.

use super::*;

const SPS: [u8; 6] = [0x67, 0x42, 0xe0, 0x1f, 1, 2];
const PPS: [u8; 4] = [0x68, 0xce, 6, 0xe2];
const MS: u64 = 1_000_000;

type Sent = (u64, u64, bool, Arc<[u8]>);

struct Sender {
    index: u64,
    random: u64,
}

impl Sender {
    fn new() -> Sender {
        Sender {
            index: 5_000,
            random: 0x1234_5678_9abc_def1,
        }
    }

    fn random(&mut self, below: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % below as u64) as usize
    }

    fn unit(&mut self, kind: u8, bytes: usize) -> Vec<u8> {
        let mut unit: Vec<u8> = (0..bytes.max(2)).map(|_| self.random(256) as u8).collect();
        unit[0] = 0x60 | kind;
        unit[1] |= 0x80; // first_mb_in_slice 0
        unit
    }

    /// Packets of one frame: each unit alone or in fragments.
    fn frame(&mut self, ts: u64, units: &[Vec<u8>]) -> Vec<Sent> {
        let mut payloads: Vec<Vec<u8>> = Vec::new();
        for unit in units {
            if unit.len() <= 1_000 {
                payloads.push(unit.clone());
                continue;
            }
            let pieces: Vec<&[u8]> = unit[1..].chunks(1_000).collect();
            for (i, piece) in pieces.iter().enumerate() {
                let start = if i == 0 { 0x80 } else { 0 };
                let end = if i + 1 == pieces.len() { 0x40 } else { 0 };
                let head = [(unit[0] & 0xe0) | 28, start | end | (unit[0] & 31)];
                payloads.push([&head[..], piece].concat());
            }
        }
        let last = payloads.len() - 1;
        let sent = payloads.into_iter().enumerate().map(|(i, payload)| {
            self.index += 1;
            (self.index, ts, i == last, payload.into())
        });
        sent.collect()
    }
}

fn avcc(units: &[Vec<u8>]) -> Vec<u8> {
    let with_length = |u: &Vec<u8>| [&(u.len() as u32).to_be_bytes()[..], u].concat();
    units.iter().flat_map(with_length).collect()
}

fn push(assembler: &mut Assembler, sent: &Sent, now_ns: u64) -> Vec<Assembled> {
    let mut out = Vec::new();
    let (index, ts, marker, payload) = sent;
    let piece = Piece {
        index: *index,
        ts: *ts,
        marker: *marker,
        payload,
    };
    assembler.push(&piece, now_ns, &mut out);
    out
}

fn push_all(assembler: &mut Assembler, all: &[Sent]) -> Vec<Assembled> {
    all.iter()
        .flat_map(|sent| push(assembler, sent, 0))
        .collect()
}

fn video() -> Assembler {
    Assembler::new(Codec::H264).unwrap()
}

fn key(sender: &mut Sender, ts: u64) -> (Vec<Sent>, Vec<Vec<u8>>) {
    let slice = sender.unit(5, 3_456);
    let sent = sender.frame(ts, &[SPS.to_vec(), PPS.to_vec(), slice.clone()]);
    (sent, vec![slice])
}

#[test]
fn frames_come_out_as_they_went_in() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (sent, units) = key(&mut sender, 0);
    let out = push_all(&mut tap, &sent);
    assert_eq!(out.len(), 1);
    assert_eq!(out[0].data, avcc(&units));
    assert!(out[0].keyframe && !out[0].lost);
    assert_eq!(
        (&out[0].sps[..], &out[0].pps[..]),
        (&SPS[..], &[PPS.to_vec()][..])
    );
    for n in 1..50 {
        let size = 1 + sender.random(5_000);
        let units = [
            sender.unit(6, 20),
            sender.unit(1, size),
            sender.unit(1, 700),
        ];
        let sent = sender.frame(3_000 * n, &units);
        let out = push_all(&mut tap, &sent);
        assert_eq!(out.len(), 1);
        assert_eq!(out[0].data, avcc(&units));
        assert_eq!(
            (out[0].ts, out[0].keyframe, out[0].sps.len()),
            (3_000 * n, false, 0)
        );
    }
    assert_eq!(tap.stats(), TapStats::default());
}

#[test]
fn aggregates_are_taken_apart_and_delimiters_left_out() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let slice = sender.unit(5, 300);
    let mut payload = vec![0x78];
    for unit in [&[0x09, 0xf0][..], &SPS, &PPS, &slice, &[0x0c, 0xff, 0xff]] {
        payload.extend_from_slice(&(unit.len() as u16).to_be_bytes());
        payload.extend_from_slice(unit);
    }
    let out = push(&mut tap, &(9, 0, true, payload.into()), 0);
    assert_eq!(out[0].data, avcc(&[slice]));
    assert_eq!(out[0].sps, SPS);
}

#[test]
fn parameter_sets_are_told_only_when_they_change() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let told = |tap: &mut Assembler, sender: &mut Sender, ts, sets: &[&[u8]]| {
        let mut units: Vec<Vec<u8>> = sets.iter().map(|s| s.to_vec()).collect();
        units.push(sender.unit(5, 100));
        let out = push_all(tap, &sender.frame(ts, &units));
        assert_eq!(out.len(), 1);
        (out[0].sps.clone(), out[0].pps.len())
    };
    let second_pps = [0x68, 0x40, 1];
    assert_eq!(
        told(&mut tap, &mut sender, 1, &[&SPS, &PPS]),
        (SPS.to_vec(), 1)
    );
    assert_eq!(told(&mut tap, &mut sender, 2, &[&SPS, &PPS]), (vec![], 0));
    assert_eq!(told(&mut tap, &mut sender, 3, &[]), (vec![], 0));
    assert_eq!(
        told(&mut tap, &mut sender, 4, &[&SPS, &PPS, &second_pps]),
        (SPS.to_vec(), 2)
    );
    let wider = [0x67, 0x42, 0xe0, 0x1f, 9, 9];
    assert_eq!(
        told(&mut tap, &mut sender, 5, &[&wider, &PPS]),
        (wider.to_vec(), 1)
    );
    tap.restart();
    sender.index += 100;
    assert_eq!(
        told(&mut tap, &mut sender, 6, &[&wider, &PPS]),
        (wider.to_vec(), 1)
    );
}

#[test]
fn a_fragmented_parameter_set_is_still_one() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let mut long_sps = SPS.to_vec();
    long_sps.resize(1_800, 7);
    let slice = sender.unit(5, 50);
    let sent = sender.frame(0, &[long_sps.clone(), PPS.to_vec(), slice.clone()]);
    let out = push_all(&mut tap, &sent);
    assert_eq!((&out[0].sps, &out[0].data), (&long_sps, &avcc(&[slice])));
}

#[test]
fn nothing_comes_before_a_key_frame_with_known_sets() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let delta = sender.unit(1, 100);
    assert!(push_all(&mut tap, &sender.frame(0, &[delta])).is_empty());
    let bare = sender.unit(5, 100);
    assert!(push_all(&mut tap, &sender.frame(1, &[bare])).is_empty());
    let sets_only = sender.frame(2, &[SPS.to_vec(), PPS.to_vec()]);
    assert!(push_all(&mut tap, &sets_only).is_empty());
    let slice = sender.unit(5, 100);
    let out = push_all(&mut tap, &sender.frame(3, &[slice]));
    assert_eq!((out.len(), &out[0].sps[..]), (1, &SPS[..]));
}

#[test]
fn a_frame_without_marker_ends_with_the_next_timestamp() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (mut sent, units) = key(&mut sender, 0);
    sent.last_mut().unwrap().2 = false;
    assert!(push_all(&mut tap, &sent).is_empty());
    let delta = sender.unit(1, 100);
    let out = push_all(&mut tap, &sender.frame(3_000, std::slice::from_ref(&delta)));
    let data: Vec<Vec<u8>> = out.into_iter().map(|unit| unit.data).collect();
    assert_eq!(data, [avcc(&units), avcc(&[delta])]);
}

#[test]
fn late_packets_are_put_in_their_place() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (sent, _) = key(&mut sender, 0);
    assert_eq!(push_all(&mut tap, &sent).len(), 1);
    let mut all: Vec<Sent> = Vec::new();
    let mut wanted = Vec::new();
    for n in 1..=60 {
        let units = [sender.unit(1, 2_500)];
        all.extend(sender.frame(3_000 * n, &units));
        wanted.push(avcc(&units));
    }
    for i in (0..all.len() - 8).step_by(8) {
        let to = i + sender.random(8);
        all.swap(i, to);
    }
    all.insert(20, all[3].clone()); // and one of them twice
    let mut got = Vec::new();
    for (i, sent) in all.iter().enumerate() {
        got.extend(push(&mut tap, sent, i as u64 * MS));
    }
    assert!(got.iter().all(|unit| !unit.lost));
    assert_eq!(
        got.into_iter().map(|unit| unit.data).collect::<Vec<_>>(),
        wanted
    );
    assert_eq!(
        tap.stats(),
        TapStats {
            late: 1,
            ..TapStats::default()
        }
    );
}

#[test]
fn a_lost_packet_costs_its_frame_and_the_next_says_so() {
    for lost in 0..3 {
        let (mut sender, mut tap) = (Sender::new(), video());
        let (sent, _) = key(&mut sender, 0);
        push_all(&mut tap, &sent);
        let units = [sender.unit(1, 2_500)];
        let mut sent = sender.frame(3_000, &units);
        sent.remove(lost);
        let next = [sender.unit(1, 2_500)];
        sent.extend(sender.frame(6_000, &next));
        assert!(push_all(&mut tap, &sent).is_empty(), "it may still come");
        let mut out = Vec::new();
        tap.expire(249 * MS, &mut out);
        assert!(out.is_empty());
        tap.expire(250 * MS, &mut out);
        assert_eq!(out.len(), 1);
        assert!(out[0].lost);
        assert_eq!(out[0].data, avcc(&next));
        let stats = TapStats {
            missing: 1,
            broken: 1,
            ..TapStats::default()
        };
        assert_eq!(tap.stats(), stats);
    }
}

#[test]
fn a_frame_whose_beginning_is_lost_is_not_taken_for_whole() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (sent, _) = key(&mut sender, 0);
    push_all(&mut tap, &sent);
    let mut second = sender.unit(1, 400);
    second[1] &= 0x7f; // a slice that does not begin at the first macroblock
    let units = [sender.unit(1, 400), second];
    let mut sent = sender.frame(3_000, &units);
    sent.remove(0);
    let next = [sender.unit(1, 400)];
    sent.extend(sender.frame(6_000, &next));
    push_all(&mut tap, &sent);
    let mut out = Vec::new();
    tap.expire(300 * MS, &mut out);
    assert_eq!(out.len(), 1);
    assert_eq!((out[0].ts, out[0].lost), (6_000, true));
}

#[test]
fn too_many_waiting_packets_end_the_wait() {
    let mut tap = Assembler::new(Codec::Opus).unwrap();
    let packet = |index: u64| (index, index * 960, false, Arc::from(&[1u8, 2][..]));
    assert_eq!(push(&mut tap, &packet(0), 0).len(), 1);
    let mut got = 0;
    for index in 2..2_000 {
        got += push(&mut tap, &packet(index), 0).len();
    }
    assert_eq!((got, tap.stats().missing), (1_998, 1));
}

#[test]
fn opus_packets_are_units_even_when_tiny() {
    let mut tap = Assembler::new(Codec::Opus).unwrap();
    let packet = |index: u64, bytes: &[u8]| (index, index * 960, false, Arc::from(bytes));
    let one = push(&mut tap, &packet(7, &[8]), 0);
    assert_eq!(
        (one[0].data.as_slice(), one[0].ts, one[0].lost),
        (&[8][..], 7 * 960, false)
    );
    assert!(one[0].keyframe);
    assert!(push(&mut tap, &packet(8, &[]), 0).is_empty());
    assert!(push(&mut tap, &packet(10, &[8, 1]), 0).is_empty());
    let after = push(&mut tap, &packet(11, &[8, 2]), 300 * MS);
    assert_eq!(
        after.iter().map(|u| u.lost).collect::<Vec<_>>(),
        [true, false]
    );
}

#[test]
fn interleaved_modes_are_refused_and_counted() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (sent, _) = key(&mut sender, 0);
    push_all(&mut tap, &sent);
    for kind in [0u8, 25, 26, 27, 29, 30, 31] {
        let index = sent.last().unwrap().0 + 1;
        tap.restart();
        let out = push(
            &mut tap,
            &(index, 0, true, vec![0x60 | kind, 1, 2, 3].into()),
            0,
        );
        assert!(out.is_empty());
    }
    assert_eq!(tap.stats().refused, 7);
}

#[test]
fn a_frame_past_the_limit_is_given_up_and_the_next_is_fine() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let (sent, _) = key(&mut sender, 0);
    push_all(&mut tap, &sent);
    let huge = [sender.unit(1, 5 * 1024 * 1024)];
    assert!(push_all(&mut tap, &sender.frame(3_000, &huge)).is_empty());
    let next = [sender.unit(1, 10)];
    let out = push_all(&mut tap, &sender.frame(6_000, &next));
    assert!(out.len() == 1 && out[0].lost);
}

#[test]
fn other_codecs_are_not_taken_apart() {
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
        assert!(Assembler::new(codec).is_none());
    }
}

#[test]
fn garbage_never_panics_nor_grows() {
    let (mut sender, mut tap) = (Sender::new(), video());
    let mut out = Vec::new();
    for round in 0..60_000u64 {
        let size = sender.random(40);
        let mut bytes: Vec<u8> = (0..size).map(|_| sender.random(256) as u8).collect();
        if let Some(first) = bytes.first_mut() {
            *first = [0x67, 0x68, 0x65, 0x61, 0x78, 0x7c, 0x7c, 0x7c, *first][sender.random(9)];
        }
        let index = round + sender.random(30) as u64;
        let payload: Arc<[u8]> = bytes.into();
        let marker = sender.random(4) == 0;
        let piece = Piece {
            index,
            ts: round / 5 * 3_000,
            marker,
            payload: &payload,
        };
        tap.push(&piece, round * MS, &mut out);
        for unit in out.drain(..) {
            let mut rest = &unit.data[..];
            while !rest.is_empty() {
                let length = u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize;
                assert!(length > 0, "lengths must chain");
                rest = &rest[4 + length..];
            }
        }
    }
    assert!(tap.stats().missing > 0 && tap.stats().refused > 0);
}
