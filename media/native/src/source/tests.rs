use super::*;
use crate::link::RoundTrip;
use crate::net::RxBatch;
use crate::srtp::{Keys, Srtcp, Window};
use std::net::UdpSocket;

const MS: u64 = 1_000_000;
const VIDEO: u32 = 0x1111;
const RTX: u32 = 0x2222;

struct Bench {
    source: Source,
    port: Port,
    client: UdpSocket,
    seal: Srtp,
    open: Srtcp,
    rx: RxBatch,
}

fn keys(active: bool) -> Keys {
    Keys {
        material: (0..56).collect(),
        profile: 1,
        active,
    }
}

fn bench() -> Bench {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let kind = |pt, codec, rtx| PayloadType { pt, codec, rtx };
    let rec = SourceRec {
        link: LinkRec {
            id: 1,
            stream: "s".into(),
            ufrag: "u".into(),
            pwd: "p".into(),
            addr: client.local_addr().unwrap(),
            keys: keys(false),
            ssrc: 9,
            rtcp_next: 1,
            rtcp_seen: Window::default(),
            heard_ns: 0,
            doubt_ns: None,
            round_trip: RoundTrip::default(),
        },
        types: vec![
            kind(96, Codec::H264, false),
            kind(97, Codec::H264, true),
            kind(111, Codec::Opus, false),
        ],
        nack: [false, true],
        remb: true,
        extended: true,
        ssrcs: vec![],
        media: [None, None],
        transport: TransportIn::new(Some(3)),
        next_report_ns: 0,
    };
    let copy: SourceRec = crate::wire::open(&crate::wire::seal(&rec)).expect("the record");
    assert_eq!(copy, rec);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    Bench {
        source: Source::new(copy, false),
        port: Port::new(socket, false).unwrap(),
        client,
        seal: Srtp::new(&keys(true), Way::Out),
        open: Srtcp::new(&keys(true), Way::In),
        rx: RxBatch::new(),
    }
}

impl Bench {
    fn sealed(&self, pt: u8, ssrc: u32, index: u64, payload: &[u8]) -> Vec<u8> {
        let mut b = vec![0x80, pt];
        b.extend_from_slice(&(index as u16).to_be_bytes());
        b.extend_from_slice(&((index as u32) * 3_000).to_be_bytes());
        b.extend_from_slice(&ssrc.to_be_bytes());
        b.extend_from_slice(payload);
        b.resize(b.len() + self.seal.tag_len(), 0);
        self.seal.seal(&mut b, 12, ssrc, index);
        b
    }

    /// (epoch, index) of what comes out.
    fn push(
        &mut self,
        pt: u8,
        ssrc: u32,
        index: u64,
        payload: &[u8],
        now: u64,
    ) -> Option<(u32, u64)> {
        let mut b = self.sealed(pt, ssrc, index, payload);
        self.source.rtp(&mut b, now).map(|a| (a.epoch, a.index))
    }

    fn compounds(&mut self) -> Vec<Vec<u8>> {
        self.port.flush();
        let n = self.rx.receive(&self.client);
        (0..n)
            .map(|i| {
                let (b, _) = self.rx.get(i).unwrap();
                self.open.open(b).expect("an authentic compound").1.to_vec()
            })
            .collect()
    }
}

#[test]
fn each_packet_comes_out_once_original_or_retransmission() {
    let mut b = bench();
    assert_eq!(b.push(96, VIDEO, 10, b"a", 0), Some((1, 10)));
    assert_eq!(b.push(96, VIDEO, 10, b"a", 0), None, "a replay");
    assert_eq!(b.push(96, VIDEO, 12, b"c", 0), Some((1, 12)));
    assert_eq!(
        b.push(97, RTX, 1, b"\0\x0bb", 0),
        Some((1, 11)),
        "recovered"
    );
    assert_eq!(
        b.push(96, VIDEO, 11, b"b", 0),
        None,
        "the original comes late"
    );
    assert_eq!(b.push(97, RTX, 2, b"\0\x0bb", 0), None, "recovered again");
    assert_eq!(b.push(97, RTX, 3, b"", 0), None, "probing");
    assert_eq!(b.push(97, RTX, 4, b"\0", 0), None, "cut short");
    let counts = b.source.counts();
    assert_eq!((counts.packets, counts.rtx, counts.lost), (3, 1, 0));
}

#[test]
fn what_does_not_authenticate_leaves_nothing_behind() {
    let mut b = bench();
    for ssrc in 0..100 {
        let mut bad = b.sealed(96, ssrc, 1, b"x");
        bad[13] ^= 1;
        assert!(b.source.rtp(&mut bad, 0).is_none());
    }
    assert!(b.source.record().ssrcs.is_empty());
    assert_eq!(
        b.push(50, VIDEO, 1, b"x", 0),
        None,
        "an unknown payload type"
    );
    assert_eq!(b.push(96, VIDEO, 1, b"x", 0), Some((1, 1)));
}

#[test]
fn missing_packets_are_asked_for_until_they_come_or_hope_is_lost() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 0);
    b.push(96, VIDEO, 14, b"e", 0);
    assert_eq!(b.source.tick(MS, &mut b.port), 0, "they may be reordered");
    assert_eq!(b.source.tick(6 * MS, &mut b.port), 3);
    b.push(97, RTX, 1, b"\0\x0cc", 7 * MS);
    assert_eq!(b.source.tick(60 * MS, &mut b.port), 2);
    let asked: Vec<u16> = b
        .compounds()
        .iter()
        .flat_map(|c| {
            rtcp::parts(c)
                .map(|p| (p.kind, p.bytes.to_vec()))
                .collect::<Vec<_>>()
        })
        .filter(|(kind, _)| *kind == rtcp::RTPFB)
        .flat_map(|(_, bytes)| feedback::nacked(&bytes).collect::<Vec<_>>())
        .collect();
    assert_eq!(asked, [11, 12, 13, 11, 13]);
    let more: u64 = (2..100)
        .map(|i| b.source.tick(i * 60 * MS, &mut b.port))
        .sum();
    assert_eq!(more, 2 * 8, "ten times in all");
}

#[test]
fn another_source_takes_over_once_the_first_is_silent_and_for_good() {
    let mut b = bench();
    assert_eq!(b.push(96, VIDEO, 10, b"a", 0), Some((1, 10)));
    assert_eq!(
        b.push(96, 0x5555, 90, b"a", 20 * MS),
        None,
        "two at once do not take turns"
    );
    assert_eq!(b.push(96, VIDEO, 11, b"a", 30 * MS), Some((1, 11)));
    assert_eq!(b.push(96, 0x5555, 91, b"a", 200 * MS), Some((2, 91)));
    assert_eq!(
        b.push(96, VIDEO, 12, b"a", 400 * MS),
        None,
        "the first is retired"
    );
    assert_eq!(b.push(97, RTX, 1, b"\0\x5dc", 400 * MS), Some((2, 93)));
    assert_eq!(b.push(96, 0x5555, 92, b"a", 400 * MS), Some((2, 92)));
}

#[test]
fn retransmissions_of_a_retired_source_are_not_taken_for_the_next_ones() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 0);
    assert_eq!(b.push(97, RTX, 1, b"\0\x0bb", 0), Some((1, 11)));
    b.push(96, 0x5555, 90, b"a", 200 * MS);
    assert_eq!(b.push(97, RTX, 2, b"\0\x5bb", 200 * MS), None);
}

#[test]
fn reports_tell_loss_and_feedback_goes_out() {
    let mut b = bench();
    for i in (0..100).filter(|i| i % 4 != 3) {
        b.push(96, VIDEO, 1_000 + i, b"a", i * MS);
    }
    b.source.tick(1_000 * MS, &mut b.port);
    assert!(b.source.pli(&mut b.port));
    let compounds = b.compounds();
    let report = rtcp::parts(&compounds[0])
        .flat_map(|p| rtcp::read_reports(&p).collect::<Vec<_>>())
        .next()
        .expect("a reception block");
    assert_eq!((report.ssrc, report.top), (VIDEO, 1_098));
    assert_eq!(report.lost, 24);
    assert!((60..65).contains(&report.fraction), "{}", report.fraction);
    let kinds: Vec<_> = rtcp::parts(&compounds[1])
        .map(|p| (p.kind, p.count))
        .collect();
    assert_eq!(kinds, [(rtcp::RR, 0), (rtcp::PSFB, rtcp::PLI)]);
}

#[test]
fn a_publisher_has_left_when_all_its_media_said_goodbye() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 0);
    b.push(111, 0x3333, 10, b"a", 0);
    let out = Srtcp::new(&keys(true), Way::Out);
    let mut heard = vec![];
    for (i, ssrc) in [VIDEO, 0x3333].into_iter().enumerate() {
        let mut clear = vec![];
        rtcp::receiver_report(&mut clear, ssrc, &[]);
        rtcp::bye(&mut clear, &[ssrc]);
        let len = clear.len();
        clear.resize(len + out.extra(), 0);
        out.seal(&mut clear, i as u32 + 1);
        heard.push(b.source.rtcp(&mut clear, 0).goodbye);
    }
    assert_eq!(heard, [false, true]);
}

/// Sequence numbers asked for in what has been sent since.
fn asked(b: &mut Bench) -> Vec<u16> {
    let compounds = b.compounds();
    let parts = compounds.iter().flat_map(|c| rtcp::parts(c));
    let nacks = parts.filter(|p| p.kind == rtcp::RTPFB && p.count == rtcp::NACK);
    nacks
        .flat_map(|p| feedback::nacked(p.bytes).collect::<Vec<_>>())
        .collect()
}

#[test]
fn what_is_missing_is_asked_for_again_as_the_round_trip_says_and_ever_slower() {
    let when = |way_ns| {
        let mut b = bench();
        b.source.link.rec.round_trip = RoundTrip::guess(Some(way_ns));
        b.push(96, VIDEO, 10, b"a", 0);
        b.push(96, VIDEO, 12, b"c", 0);
        assert_eq!(b.source.due_ns(), Some(5 * MS));
        (0..2_000)
            .filter(|ms| b.source.tick(ms * MS, &mut b.port) > 0 && asked(&mut b) == [11])
            .collect::<Vec<u64>>()
    };
    let near = when(MS);
    assert_eq!(near[..7], [5, 25, 45, 65, 105, 145, 185]);
    assert_eq!(near.len(), 10);
    let far = when(200 * MS);
    assert_eq!(far, [5, 215, 425, 635, 1_055, 1_475]);
}

#[test]
fn an_answer_to_a_first_request_tells_the_round_trip() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 0);
    b.push(96, VIDEO, 13, b"d", 0);
    b.source.tick(5 * MS, &mut b.port);
    assert_eq!(b.source.link.rec.round_trip.ms(), -1);
    b.push(97, RTX, 1, b"\0\x0bb", 35 * MS);
    assert_eq!(b.source.link.rec.round_trip.ms(), 30);
    b.source.tick(60 * MS, &mut b.port);
    b.push(97, RTX, 2, b"\0\x0cc", 61 * MS);
    assert_eq!(
        b.source.link.rec.round_trip.ms(),
        30,
        "whichever request was answered"
    );
}

#[test]
fn what_is_lost_for_good_is_told_once_and_only_of_pictures() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 0);
    b.push(111, 0x3333, 10, b"a", 0);
    b.push(111, 0x3333, 12, b"a", 0);
    b.source.tick(5 * MS, &mut b.port);
    assert!(!b.source.take_broken() && b.source.lossy(MS));
    b.push(96, VIDEO, 12, b"c", 10 * MS);
    for ms in 10..3_000 {
        b.source.tick(ms * MS, &mut b.port);
        assert!(
            ms > 500 || !b.source.take_broken(),
            "there is hope at {ms} ms"
        );
    }
    assert!(b.source.take_broken());
    assert!(!b.source.take_broken());
    b.push(96, VIDEO, 900, b"d", 3_000 * MS);
    assert!(b.source.take_broken(), "a gap too wide to be asked for");
    assert!(!b.source.lossy(9_000 * MS));
}

#[test]
fn a_publisher_that_gives_our_time_back_tells_the_round_trip() {
    let mut b = bench();
    b.push(96, VIDEO, 10, b"a", 1_000 * MS);
    b.source.tick(1_000 * MS, &mut b.port);
    let told: Vec<_> = b
        .compounds()
        .iter()
        .flat_map(|c| {
            rtcp::parts(c)
                .flat_map(|p| extended::read_times(&p))
                .collect::<Vec<_>>()
        })
        .collect();
    assert_eq!(told, [(9, extended::middle(1_000 * MS))]);
    let mut clear = vec![];
    rtcp::receiver_report(&mut clear, VIDEO, &[]);
    let kept = extended::middle(400 * MS);
    let back = |ssrc| extended::Delay {
        ssrc,
        last: told[0].1,
        kept,
    };
    extended::delays(&mut clear, VIDEO, &[back(8), back(9)]);
    let out = Srtcp::new(&keys(true), Way::Out);
    let len = clear.len();
    clear.resize(len + out.extra(), 0);
    out.seal(&mut clear, 1);
    b.source.rtcp(&mut clear, 1_450 * MS);
    assert!((49..=50).contains(&b.source.link.rec.round_trip.ms()));
}
