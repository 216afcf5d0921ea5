//! A publisher that has the keys and sends nonsense: headers, extensions, padding, payloads,
//! numbers that jump, a crowd of SSRCs, and RTCP. Behind it stands all that its packets reach: the
//! stream, its clock and log, the tap, a viewer.

use crate::mutate::{mutate, Random};
use crate::session::{head_len, link, sockets, Remote, AUDIO, RTX, VIDEO};
use crate::{campaign, captured};
use _native::log::{Log, KEPT_PACKETS};
use _native::net::Port;
use _native::rtcp;
use _native::sdp::Codec;
use _native::source::{PayloadType, Source, SourceRec, TransportIn};
use _native::srtp::Window;
use _native::stream::Home;
use _native::tap::{Assembler, Piece};
use _native::viewer::{OutTrack, Viewer, ViewerRec};
use std::collections::HashMap;
use std::net::UdpSocket;

const GOP_BYTES_MAX: usize = 1 << 20;
/// The longest unit that the tap may hand out (its own limit is 4 MiB).
const UNIT_BYTES_MAX: usize = 5 << 20;

struct Chain {
    remote: Remote,
    sent: HashMap<u32, Window>,
    source: Source,
    home: Home,
    logs: [Log; 2],
    taps: [Option<(Codec, Assembler)>; 2],
    viewer: Viewer,
    port: Port,
    _peer: UdpSocket,
    now: u64,
    rtp: Vec<Vec<u8>>,
    rtcp: Vec<Vec<u8>>,
    arrived: u64,
}

fn types() -> Vec<PayloadType> {
    let kind = |pt, codec, rtx| PayloadType { pt, codec, rtx };
    vec![
        kind(99, Codec::H264, false),
        kind(100, Codec::H264, true),
        kind(97, Codec::Vp8, false),
        kind(98, Codec::Vp9, false),
        kind(45, Codec::Av1, false),
        kind(96, Codec::Opus, false),
    ]
}

fn chain(profile: u8) -> Chain {
    let (port, peer) = sockets();
    let rec = SourceRec {
        link: link(profile, &peer),
        types: types(),
        nack: [false, true],
        remb: true,
        extended: true,
        ssrcs: vec![],
        media: [None, None],
        transport: TransportIn::new(Some(3)),
        next_report_ns: 0,
    };
    let track = |codec, pt, ssrc| OutTrack {
        rtx_ssrc: Some(ssrc + 1),
        rtx_pt: Some(pt + 1),
        ..OutTrack::new(codec, pt, ssrc)
    };
    let viewer = ViewerRec {
        link: link(profile, &peer),
        tracks: vec![track(Codec::H264, 96, 5), track(Codec::Opus, 111, 7)],
        next_report_ns: 0,
    };
    Chain {
        remote: Remote::new(profile),
        sent: HashMap::new(),
        source: Source::new(rec, false),
        home: Home::default(),
        logs: [Log::new(GOP_BYTES_MAX), Log::new(GOP_BYTES_MAX)],
        taps: [None, None],
        viewer: Viewer::new(viewer, false),
        port,
        _peer: peer,
        now: 1_000_000_000,
        rtp: vec![],
        rtcp: vec![],
        arrived: 0,
    }
}

impl Chain {
    /// Restarts the session now and then: a source takes only so many SSRCs.
    fn renewed(&mut self, random: &mut Random) {
        if !random.one_in(400) {
            return;
        }
        let (rtp, rtcp) = (
            std::mem::take(&mut self.rtp),
            std::mem::take(&mut self.rtcp),
        );
        let (now, arrived) = (self.now, self.arrived);
        *self = chain(random.below(3) as u8);
        (self.rtp, self.rtcp, self.now, self.arrived) = (rtp, rtcp, now, arrived);
        self.home.take_over(1);
    }

    /// Encrypts as the publisher would: the index follows from the sequence number.
    fn sealed(&mut self, clear: &[u8]) -> Vec<u8> {
        if clear.len() < 12 {
            return clear.to_vec();
        }
        let ssrc = u32::from_be_bytes(clear[8..12].try_into().expect("four bytes"));
        let window = self.sent.entry(ssrc).or_default();
        let index = window.extend(u16::from_be_bytes([clear[2], clear[3]]));
        let sealed = self.remote.seal_rtp(clear, head_len(clear), index);
        window.mark(index);
        sealed
    }

    fn rtp(&mut self, wire: &mut [u8]) {
        let now = self.now;
        let Some(arrival) = self.source.rtp(wire, now) else {
            return;
        };
        self.arrived += 1;
        let Some(packet) = self.home.place(1, &arrival, now, now as i64) else {
            return;
        };
        let medium = packet.medium();
        let mut kept = vec![packet.clone()];
        let stored = self.logs[medium].insert(packet.clone());
        if stored == _native::log::Inserted::Refused {
            kept.clear();
        }
        self.viewer.forward(&kept, medium, &mut self.port);
        let tap = &mut self.taps[medium];
        if tap.as_ref().is_none_or(|(codec, _)| *codec != packet.codec) {
            *tap = Assembler::new(packet.codec).map(|a| (packet.codec, a));
        }
        let Some((_, assembler)) = tap else { return };
        let piece = Piece {
            index: packet.index,
            ts: packet.ts,
            marker: packet.marker,
            payload: &packet.payload,
        };
        let mut units = vec![];
        assembler.push(&piece, now, &mut units);
        for unit in units {
            assert!(unit.data.len() <= UNIT_BYTES_MAX);
            assert!(!unit.keyframe || medium == 0 || unit.data.len() > 4);
        }
        let (packets, bytes) = self.logs[medium].group_size();
        assert!(bytes <= GOP_BYTES_MAX && packets <= 65_536 + KEPT_PACKETS);
    }

    fn time_passes(&mut self, random: &mut Random) {
        let step = *random.pick(&[0, 1_000, 5_000_000, 20_000_000, 2_000_000_000]);
        self.now += step;
        let now = self.now;
        for (_, tap) in self.taps.iter_mut().flatten() {
            tap.expire(now, &mut vec![]);
        }
        self.source.tick(now, &mut self.port);
        let clocks = [0, 1].map(|medium| self.home.clock.mapping(medium));
        self.viewer.tick(now, now as i64, &clocks, &mut self.port);
        self.viewer.start(&self.logs, now);
        self.viewer.catch_up(&self.logs[1], now, &mut self.port);
        self.source.counts();
        self.source.pli(&mut self.port);
        self.home.ask(now);
        self.home.ask_due(now);
        let link = &mut self.source.link;
        link.gone(now, 30_000_000_000);
        if random.one_in(8) {
            link.alert(now);
            self.source.bye(&mut self.port);
            self.viewer.bye(&mut self.port);
        }
        self.port.flush();
    }
}

/// A captured packet with another number, time, source or payload, then mutated or not.
fn packet(random: &mut Random, chain: &Chain) -> Vec<u8> {
    let mut b = random.pick(&chain.rtp).clone();
    if random.one_in(2) {
        let number = (chain.arrived as u16).wrapping_add(random.below(3) as u16);
        b = extended(random, &b[head_len(&b).min(b.len())..], number);
    }
    if random.one_in(2) {
        b = mutate(random, &b, &chain.rtp);
    }
    if b.len() < 12 {
        return b;
    }
    let of_ssrc = |b: &[u8]| {
        chain
            .sent
            .get(&u32::from_be_bytes([b[8], b[9], b[10], b[11]]))
    };
    if !random.one_in(8) {
        let video = !random.one_in(3);
        b[0] = b[0] & 0x3f | 0x80;
        let marker = b[1] & 0x80;
        let ssrc = if video { VIDEO } else { AUDIO };
        let pts: &[u8] = if video {
            &[99, 99, 99, 97, 98, 45]
        } else {
            &[96]
        };
        b[1] = marker | *random.pick(pts);
        b[8..12].copy_from_slice(&ssrc.to_be_bytes());
        if video && random.one_in(8) {
            b[1] = 100;
            b[8..12].copy_from_slice(&RTX.to_be_bytes());
        }
    } else if random.one_in(2) {
        let crowd = random.next() as u32;
        b[8..12].copy_from_slice(&crowd.to_be_bytes());
    }
    if !random.one_in(8) {
        let jump = *random.pick(&[1, 1, 1, 1, 1, 2, 5, 300, 5_000, 32_767, 65_535]);
        let next = of_ssrc(&b).map_or(7, |w| w.top as u16).wrapping_add(jump);
        b[2..4].copy_from_slice(&next.to_be_bytes());
    }
    if random.one_in(4) {
        let ts = random.next() as u32;
        b[4..8].copy_from_slice(&ts.to_be_bytes());
    } else {
        let ts = (u128::from(chain.now) * 90_000 / 1_000_000_000) as u32;
        b[4..8].copy_from_slice(&ts.to_be_bytes());
    }
    b
}

/// A packet with a transport-wide number (RFC 8285, both forms), padded or not.
fn extended(random: &mut Random, payload: &[u8], number: u16) -> Vec<u8> {
    let [high, low] = number.to_be_bytes();
    let mut b = vec![0x90, 0x80 | 99, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    if random.one_in(2) {
        b.extend_from_slice(&[0xbe, 0xde, 0, 2, 0x10, 0x30, 0x31, high, low, 0, 0, 0]);
    } else {
        b.extend_from_slice(&[0x10, 0, 0, 2, 1, 1, 0x30, 3, 2, high, low, 0]);
    }
    b.extend_from_slice(payload);
    if random.one_in(8) {
        b[0] |= 0x20;
        b.extend_from_slice(&[0, 0, 3]);
    }
    b
}

/// What a sound publisher reports just now, and its goodbye.
fn reports(random: &mut Random, chain: &Chain) -> Vec<u8> {
    let mut b = vec![];
    let seconds = *random.pick(&[0i64, 0, 0, 1, -1, 4, 30, -4_000]);
    let ntp = rtcp::ntp_from_unix_ns(chain.now as i64 + seconds * 1_000_000_000);
    for ssrc in [VIDEO, AUDIO] {
        let info = rtcp::SenderInfo {
            ssrc,
            ntp,
            rtp: (u128::from(chain.now) * 90_000 / 1_000_000_000) as u32,
            packets: 1,
            octets: 2,
        };
        rtcp::sender_report(&mut b, &info);
    }
    if random.one_in(50) {
        rtcp::bye(&mut b, &[VIDEO, AUDIO]);
    }
    b
}

#[test]
fn rtp_of_a_publisher() {
    let mut all = chain(1);
    all.rtp = captured(&[
        "rtp96", "rtp97", "rtp98", "rtp99", "rtp100", "rtp101", "rtp102",
    ]);
    all.home.take_over(1);
    let make = |random: &mut Random, chain: &mut Chain| {
        chain.renewed(random);
        if random.one_in(8) {
            chain.time_passes(random);
        }
        packet(random, chain)
    };
    campaign("rtp", &mut all, 1, make, |clear, chain| {
        let mut wire = chain.sealed(clear);
        chain.rtp(&mut wire);
        let mut forged = clear.to_vec();
        chain.source.rtp(&mut forged, chain.now);
    });
    assert!(all.arrived > 0, "nothing got past authentication");
}

#[test]
fn rtcp_of_a_publisher() {
    let mut all = chain(1);
    all.rtp = captured(&[
        "rtp96", "rtp97", "rtp98", "rtp99", "rtp100", "rtp101", "rtp102",
    ]);
    all.rtcp = captured(&["rtcp"]);
    let mut back = vec![];
    rtcp::receiver_report(&mut back, VIDEO, &[]);
    let delay = rtcp::extended::Delay {
        ssrc: 9, // ours, as in `link`
        last: 1,
        kept: 2,
    };
    rtcp::extended::delays(&mut back, VIDEO, &[delay]);
    all.rtcp.push(back);
    all.home.take_over(1);
    let make = |random: &mut Random, chain: &mut Chain| {
        chain.renewed(random);
        let media = packet(random, chain);
        let mut wire = chain.sealed(&media);
        chain.rtp(&mut wire);
        if random.one_in(8) {
            chain.time_passes(random);
        }
        let seed = random.pick(&chain.rtcp).clone();
        let sound = reports(random, chain);
        if random.one_in(4) {
            return sound;
        }
        let seed = if random.one_in(2) { sound } else { seed };
        let mut b = mutate(random, &seed, &chain.rtcp);
        if b.len() >= 8 && random.one_in(2) {
            b[4..8].copy_from_slice(&random.pick(&[VIDEO, AUDIO, RTX]).to_be_bytes());
        }
        b
    };
    campaign("rtcp in", &mut all, 1, make, |clear, chain| {
        let mut wire = chain.remote.seal_rtcp(clear);
        let heard = chain.source.rtcp(&mut wire, chain.now);
        for (medium, info) in &heard.reports {
            chain.home.report(*medium, info, chain.now as i64);
        }
        let mut forged = clear.to_vec();
        chain.source.rtcp(&mut forged, chain.now);
    });
}
