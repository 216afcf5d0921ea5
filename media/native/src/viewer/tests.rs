use super::*;
use crate::link::RoundTrip;
use crate::net::RxBatch;
use crate::srtp::{Keys, Srtcp, Window};
use std::collections::HashMap;
use std::net::UdpSocket;

const MS: u64 = 1_000_000;

struct Bench {
    port: Port,
    viewer: Viewer,
    client: UdpSocket,
    open: Srtp,
    rtcp_out: Srtcp,
    rtcp_next: u32,
    logs: [Log; 2],
    rx: RxBatch,
}

/// An RTP packet as the client gets it, clear.
#[derive(Clone, Debug, PartialEq)]
struct Got {
    ssrc: u32,
    sequence: u16,
    ts: u32,
    payload: Vec<u8>,
    sealed: Vec<u8>,
}

fn bench(rtx: bool) -> Bench {
    let client = UdpSocket::bind("127.0.0.1:0").unwrap();
    let keys = |active| Keys {
        material: (0..56).collect(),
        profile: 1,
        active,
    };
    let mut video = OutTrack::new(Codec::H264, 96, 0x1111);
    if rtx {
        (video.rtx_ssrc, video.rtx_pt) = (Some(0x2222), Some(97));
    }
    let rec = ViewerRec {
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
        tracks: vec![OutTrack::new(Codec::Opus, 111, 0x3333), video],
        next_report_ns: 0,
    };
    let copy: ViewerRec = crate::wire::open(&crate::wire::seal(&rec)).expect("the record");
    assert_eq!(copy, rec);
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    Bench {
        port: Port::new(socket, true).unwrap(),
        viewer: Viewer::new(copy, false),
        client,
        open: Srtp::new(&keys(true), Way::In),
        rtcp_out: Srtcp::new(&keys(true), Way::Out),
        rtcp_next: 1,
        logs: [Log::new(1 << 20), Log::new(1 << 20)],
        rx: RxBatch::new(),
    }
}

fn video(index: u64, ts: u64, key: bool) -> Packet {
    Packet {
        codec: Codec::H264,
        key,
        marker: true,
        index,
        ts,
        payload: index.to_be_bytes().repeat(100).into(),
    }
}

impl Bench {
    fn live(&mut self, packet: &Packet) {
        self.logs[packet.medium()].insert(packet.clone());
        self.viewer.forward(
            std::slice::from_ref(packet),
            packet.medium(),
            &mut self.port,
        );
    }

    fn got(&mut self) -> Vec<Got> {
        self.port.flush();
        let mut all = vec![];
        loop {
            let n = self.rx.receive(&self.client);
            for i in 0..n {
                let (b, _) = self.rx.get(i).unwrap();
                if (192..224).contains(&b[1]) {
                    continue;
                }
                let sealed = b.to_vec();
                let ssrc = be32(b, 8);
                let sequence = rtcp::be16(b, 2);
                let ts = be32(b, 4);
                let clear = self.open.open(b, 12, ssrc, u64::from(sequence));
                all.push(Got {
                    ssrc,
                    sequence,
                    ts,
                    payload: clear.expect("an authentic packet").to_vec(),
                    sealed,
                });
            }
            if n == 0 {
                return all;
            }
        }
    }

    fn hears(&mut self, mut clear: Vec<u8>, now: u64) -> Wishes {
        let len = clear.len();
        clear.resize(len + self.rtcp_out.extra(), 0);
        self.rtcp_out.seal(&mut clear, self.rtcp_next);
        self.rtcp_next += 1;
        self.viewer
            .rtcp(&mut clear, &self.logs, now, &mut self.port)
    }

    fn nack(&mut self, sequences: &[u16], now: u64) -> Wishes {
        let mut clear = vec![];
        rtcp::receiver_report(&mut clear, 5, &[]);
        feedback::nack(&mut clear, 5, 0x1111, sequences);
        self.hears(clear, now)
    }
}

#[test]
fn a_joiner_catches_up_squeezed_and_paced_and_misses_nothing() {
    let mut b = bench(true);
    let start = 1 << 20;
    for i in 0..200 {
        b.logs[1].insert(video(start + i, i * 3_000, i == 0));
    }
    assert!(
        !b.viewer.start(&b.logs, 1_000 * MS),
        "no key frame is wanted"
    );
    assert!(b.viewer.behind());
    let mut all = vec![];
    let (mut now, mut next) = (1_000 * MS, 200);
    while b.viewer.behind() {
        b.viewer.catch_up(&b.logs[1], now, &mut b.port);
        let got = b.got();
        assert!(got.iter().map(|g| g.payload.len()).sum::<usize>() <= 17_184);
        all.extend(got);
        b.live(&video(start + next, next * 3_000, false));
        next += 1;
        now += MS;
    }
    for _ in 0..5 {
        b.live(&video(start + next, next * 3_000, false));
        next += 1;
    }
    all.extend(b.got());
    let indexes: Vec<u64> = all
        .iter()
        .map(|g| u64::from_be_bytes(g.payload[..8].try_into().unwrap()))
        .collect();
    assert_eq!(indexes, (start..start + next).collect::<Vec<_>>());
    assert!(all[0].sequence >= 1_000);
    let steps: Vec<u32> = all.windows(2).map(|w| w[1].ts - w[0].ts).collect();
    assert!(
        steps[..198].iter().all(|s| (46..=47).contains(s)),
        "{steps:?}"
    );
    assert!(steps[200..].iter().all(|s| *s == 3_000));
}

#[test]
fn a_lost_packet_comes_again_once_in_a_while_with_the_same_timestamp() {
    let mut b = bench(true);
    for i in 0..50 {
        b.logs[1].insert(video(5_000 + i, i * 3_000, i == 0));
    }
    b.viewer.start(&b.logs, 0);
    b.viewer.catch_up(&b.logs[1], 100 * MS, &mut b.port);
    let sent = b.got();
    assert_eq!(sent.len(), 50);
    let lost = &sent[7];
    assert!(b.nack(&[lost.sequence], 0).authentic);
    b.nack(&[lost.sequence], 99 * MS);
    let again = b.got();
    assert_eq!(again.len(), 1);
    assert_eq!((again[0].ssrc, again[0].ts), (0x2222, lost.ts));
    assert_eq!(again[0].payload[..2], lost.sequence.to_be_bytes());
    assert_eq!(again[0].payload[2..], lost.payload);
    b.nack(&[lost.sequence], 100 * MS);
    let third = b.got();
    assert_eq!(third.len(), 1);
    assert_eq!(third[0].sequence, again[0].sequence + 1);
    let beyond = [sent[0].sequence - 1, sent[49].sequence + 1];
    b.nack(&beyond, 500 * MS);
    assert_eq!(b.got(), [], "what was never sent is not sent again");
}

#[test]
fn without_rtx_a_lost_packet_comes_again_as_it_was() {
    let mut b = bench(false);
    for i in 0..50 {
        b.logs[1].insert(video(5_000 + i, i * 3_000, i == 0));
    }
    b.viewer.start(&b.logs, 0);
    b.viewer.catch_up(&b.logs[1], 100 * MS, &mut b.port);
    b.live(&video(5_050, 50 * 3_000, false));
    let sent = b.got();
    for lost in [&sent[3], &sent[50]] {
        b.nack(&[lost.sequence], 0);
        assert_eq!(b.got(), std::slice::from_ref(lost), "the very same bytes");
    }
}

#[test]
fn no_index_is_used_for_two_packets_whatever_the_order() {
    let mut b = bench(false);
    let mut state = 0x1234_5678_9abc_def1u64;
    let mut random = move |n: u64| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % n
    };
    let mut waiting: Vec<Packet> = vec![];
    let mut sealed: HashMap<(u32, u16), Vec<u8>> = HashMap::new();
    let mut started = false;
    for i in 0..3_000u64 {
        waiting.push(video((1 << 20) + i, i * 3_000, i % 300 == 0));
        while waiting.len() > random(8) as usize {
            let packet = waiting.remove(random(waiting.len() as u64) as usize);
            if random(20) > 0 {
                b.logs[1].insert(packet.clone());
                if started {
                    b.viewer.forward(&[packet], 1, &mut b.port);
                }
            }
        }
        if i == 150 {
            b.viewer.start(&b.logs, i * MS);
            started = true;
        }
        if started {
            b.viewer.catch_up(&b.logs[1], i * MS, &mut b.port);
            let back = random(40) as u16;
            let newest = b.viewer.tracks[1].cursor - b.viewer.tracks[1].base;
            b.nack(&[(newest as u16).wrapping_sub(back)], i * MS);
        }
        for got in b.got() {
            let before = sealed.insert((got.ssrc, got.sequence), got.sealed.clone());
            assert!(
                before.is_none_or(|old| old == got.sealed),
                "{}",
                got.sequence
            );
        }
    }
    assert!(sealed.len() > 2_500);
}

#[test]
fn replayed_and_forged_rtcp_is_ignored() {
    let mut b = bench(true);
    let mut clear = vec![];
    rtcp::receiver_report(&mut clear, 5, &[]);
    feedback::pli(&mut clear, 5, 0x1111);
    let len = clear.len();
    clear.resize(len + b.rtcp_out.extra(), 0);
    b.rtcp_out.seal(&mut clear, 3);
    let sealed = clear.clone();
    assert!(b.viewer.rtcp(&mut clear, &b.logs, 0, &mut b.port).keyframe);
    let again = b.viewer.rtcp(&mut sealed.clone(), &b.logs, 0, &mut b.port);
    assert!(!again.authentic);
    let mut forged = sealed;
    forged[9] ^= 1;
    assert!(
        !b.viewer
            .rtcp(&mut forged, &b.logs, 0, &mut b.port)
            .authentic
    );
}

#[test]
fn sender_reports_come_at_once_and_then_every_second() {
    let mut b = bench(true);
    let clock = Mapping {
        zero_ns: 0,
        hz: 90_000,
    };
    let clocks = [None, Some(clock)];
    b.viewer.start(&b.logs, 0);
    b.viewer.tick(MS, 0, &clocks, &mut b.port);
    assert_eq!(
        b.port.out.stats.packets, 0,
        "nothing sent, nothing to report"
    );
    b.live(&video(1 << 20, 0, true));
    b.viewer.tick(50 * MS, 50_000_000, &clocks, &mut b.port);
    assert_eq!(b.port.out.stats.packets, 2);
    b.viewer.tick(1_049 * MS, 0, &clocks, &mut b.port);
    assert_eq!(b.port.out.stats.packets, 2);
    b.viewer.tick(1_050 * MS, 0, &clocks, &mut b.port);
    assert_eq!(b.port.out.stats.packets, 3);
}

#[test]
fn another_codec_is_not_sent_and_noticed() {
    let mut b = bench(true);
    let mut packet = video(1 << 20, 0, true);
    packet.codec = Codec::Vp8;
    b.live(&packet);
    assert_eq!(b.got(), []);
    assert_eq!(b.viewer.mismatch, Some(Codec::Vp8));
}

#[test]
fn both_sides_measure_the_way_by_reports() {
    let mut b = bench(true);
    b.live(&video(1 << 20, 0, true));
    b.got();
    let clock = Some(Mapping {
        zero_ns: 0,
        hz: 90_000,
    });
    let (sent_ns, unix_ns) = (1_000 * MS, 1_700_000_000_000_000_000);
    b.viewer.tick(sent_ns, unix_ns, &[clock; 2], &mut b.port);
    let mut clear = vec![];
    let block = rtcp::Report {
        ssrc: 0x1111,
        lsr: (rtcp::ntp_from_unix_ns(unix_ns) >> 16) as u32,
        dlsr: extended::middle(500 * MS),
        ..rtcp::Report::default()
    };
    rtcp::receiver_report(&mut clear, 5, &[block]);
    extended::receiver_time(&mut clear, 5, 77_000 * MS);
    b.hears(clear, sent_ns + 580 * MS);
    assert!((79..=80).contains(&b.viewer.link.rec.round_trip.ms()));
    b.port.flush();
    while b.rx.receive(&b.client) > 0 {}
    b.viewer
        .tick(sent_ns + 600 * MS, unix_ns, &[clock; 2], &mut b.port);
    b.port.flush();
    let n = b.rx.receive(&b.client);
    assert_eq!(
        n, 1,
        "who tells its time for the first time is answered at once"
    );
    let keys = Keys {
        material: (0..56).collect(),
        profile: 1,
        active: true,
    };
    let (sealed, _) = b.rx.get(0).unwrap();
    let (_, clear) = Srtcp::new(&keys, Way::In).open(sealed).expect("a compound");
    let back: Vec<_> = rtcp::parts(clear)
        .flat_map(|p| extended::read_delays(&p).collect::<Vec<_>>())
        .collect();
    assert_eq!(
        (back[0].ssrc, back[0].last),
        (5, extended::middle(77_000 * MS))
    );
    assert!(back[0].kept.abs_diff(extended::middle(20 * MS)) <= 1);
}
