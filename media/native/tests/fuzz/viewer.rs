//! A viewer that has the keys and sends nonsense as RTCP: it may ask for much, and gets a bounded
//! number of packets for it.

use crate::mutate::{mutate, Random};
use crate::session::{link, sockets, Remote};
use crate::{campaign, captured};
use _native::log::Log;
use _native::net::Port;
use _native::packet::Packet;
use _native::rtcp::{self, extended, feedback};
use _native::sdp::Codec;
use _native::viewer::{OutTrack, Viewer, ViewerRec};
use std::net::UdpSocket;

const VIDEO: u32 = 5;
/// Packets sent again for one compound.
const RESENDS_MAX: u64 = 256;

struct Watching {
    remote: Remote,
    viewer: Viewer,
    logs: [Log; 2],
    port: Port,
    _peer: UdpSocket,
    now: u64,
    seeds: Vec<Vec<u8>>,
    resent: u64,
}

fn watching() -> Watching {
    let (mut port, peer) = sockets();
    let mut logs = [Log::new(1 << 20), Log::new(1 << 20)];
    for index in 0..600u64 {
        logs[1].insert(Packet {
            codec: Codec::H264,
            key: index % 100 == 0,
            marker: true,
            index: (1 << 20) + index,
            ts: (1 << 32) + index * 3_000,
            payload: vec![0x41; 40].into(),
        });
    }
    let rec = ViewerRec {
        link: link(1, &peer),
        tracks: vec![OutTrack {
            rtx_ssrc: Some(VIDEO + 1),
            rtx_pt: Some(97),
            ..OutTrack::new(Codec::H264, 96, VIDEO)
        }],
        next_report_ns: 0,
    };
    let mut viewer = Viewer::new(rec, false);
    viewer.start(&logs, 1);
    while viewer.catch_up(&logs[1], viewer.counts.bytes[1] + 1_000_000_000, &mut port) {}
    let mut nack = vec![];
    let sequences: Vec<u16> = (1_000u16..1_200).step_by(3).collect();
    feedback::nack(&mut nack, 1, VIDEO, &sequences);
    let mut pli = vec![];
    rtcp::receiver_report(
        &mut pli,
        1,
        &[rtcp::Report {
            ssrc: VIDEO,
            ..Default::default()
        }],
    );
    feedback::pli(&mut pli, 1, VIDEO);
    let mut bye = vec![];
    rtcp::bye(&mut bye, &[1, 2]);
    let mut seeds = captured(&["rtcp"]);
    let mut times = nack.clone();
    extended::receiver_time(&mut times, 9, 12_345_678_900);
    seeds.extend([nack.clone(), nack, pli, bye, times]);
    Watching {
        remote: Remote::new(1),
        viewer,
        logs,
        port,
        _peer: peer,
        now: 5_000_000_000,
        seeds,
        resent: 0,
    }
}

#[test]
fn rtcp_of_a_viewer() {
    let mut all = watching();
    let make = |random: &mut Random, w: &mut Watching| {
        w.now += random.pick(&[0, 1_000_000, 200_000_000]);
        let seed = random.pick(&w.seeds).clone();
        mutate(random, &seed, &w.seeds)
    };
    campaign("rtcp out", &mut all, 1, make, |clear, w| {
        let before = w.viewer.counts.rtx;
        let mut wire = w.remote.seal_rtcp(clear);
        w.viewer.rtcp(&mut wire, &w.logs, w.now, &mut w.port);
        assert!(w.viewer.counts.rtx - before <= RESENDS_MAX);
        w.resent += w.viewer.counts.rtx - before;
        let mut forged = clear.to_vec();
        let wishes = w.viewer.rtcp(&mut forged, &w.logs, w.now, &mut w.port);
        assert!(!wishes.authentic);
        w.viewer.lost();
        w.port.flush();
    });
    assert!(all.resent > 0, "no NACK was understood");
}
