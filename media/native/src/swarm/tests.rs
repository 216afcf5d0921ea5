//! Clients of the swarm against a small server made of our own parts, over real sockets.

use super::rtp::{Channel, Head};
use super::*;
use crate::dtls::{Handshake, Progress};
use crate::rtcp::{self, feedback};
use crate::sdp::{self, Codec, Live, Local, PlayTrack, PublishTrack, Remote};
use crate::srtp::Keys;
use crate::stun;
use crate::tap::{Assembled, Assembler, Piece};
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

mod strangers;

const PATIENCE: Duration = Duration::from_secs(10);
const UFRAG: &str = "serverside";
const PWD: &str = "0123456789abcdef01234567";
const SPS: [u8; 6] = [0x67, 0x42, 0xe0, 0x1f, 1, 2];
const PPS: [u8; 4] = [0x68, 0xce, 6, 0xe2];

/// The server's side of one client.
struct Server {
    socket: UdpSocket,
    certificate: Certificate,
    channel: Option<Channel>,
    handshake: Option<Handshake>,
    remote: Option<Remote>,
    checks: u32,
}

impl Server {
    fn new() -> Server {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        Server {
            socket,
            certificate: Certificate::generate().unwrap(),
            channel: None,
            handshake: None,
            remote: None,
            checks: 0,
        }
    }

    fn with_local<T>(&self, f: impl FnOnce(&Local) -> T) -> T {
        let candidates: [SocketAddr; 1] = [self.socket.local_addr().unwrap()];
        f(&Local {
            ufrag: UFRAG,
            pwd: PWD,
            fingerprint: self.certificate.fingerprint(),
            candidates: &candidates,
            session_id: 1,
        })
    }

    fn play(&mut self, offer: &str) -> (String, Vec<PlayTrack>) {
        let fmtp = "packetization-mode=1;profile-level-id=42e01f".to_owned();
        let live = Live {
            video: Some((Codec::H264, fmtp)),
            audio: Some((Codec::Opus, String::new())),
        };
        let mut ssrc = 1_000;
        let next = || {
            ssrc += 1;
            ssrc
        };
        let answered = self.with_local(|local| sdp::answer_viewer(offer, local, &live, next));
        let (answer, remote, tracks) = answered.unwrap();
        self.remote = Some(remote);
        (answer, tracks)
    }

    fn publish(&mut self, offer: &str) -> (String, Vec<PublishTrack>) {
        let answered = self.with_local(|local| sdp::answer_publisher(offer, local));
        let (answer, remote, tracks) = answered.unwrap();
        self.remote = Some(remote);
        (answer, tracks)
    }

    /// Takes at most one datagram; gives it back when it is media or RTCP.
    fn step(&mut self) -> Option<Vec<u8>> {
        let now = Instant::now();
        let mut buffer = [0; 2_048];
        let (n, from) = self.socket.recv_from(&mut buffer).ok()?;
        let datagram = &buffer[..n];
        match datagram[0] {
            0..=3 => {
                assert_eq!(stun::ufrag(datagram), Some(UFRAG));
                let key = stun::key(PWD);
                assert!(stun::verify(datagram, &key).unwrap().nominated);
                self.checks += 1;
                if self.checks == 1 {
                    return None; // lost: the client has to ask again
                }
                self.socket.connect(from).unwrap();
                let mut out = [0; stun::ANSWER_BYTES_MAX];
                let n = stun::answer(datagram, from, &key, &mut out);
                self.socket.send(&out[..n]).unwrap();
                None
            }
            20..=63 => {
                let remote = self.remote.as_ref().unwrap();
                let make = || {
                    let print = remote.fingerprint.clone();
                    Handshake::new(&self.certificate, remote.we_are_active, print, now).unwrap()
                };
                let handshake = self.handshake.get_or_insert_with(make);
                handshake.receive(datagram, now);
                let socket = &self.socket;
                match handshake.poll(&mut |d| drop(socket.send(d))) {
                    Progress::Done(keys) => {
                        let socket = self.socket.try_clone().unwrap();
                        self.channel = Some(Channel::new(&Keys::from(keys), socket));
                    }
                    Progress::Failed(reason) => panic!("{reason}"),
                    Progress::Pending | Progress::Closed => {}
                }
                None
            }
            _ => Some(datagram.to_vec()),
        }
    }

    fn connect(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while self.channel.is_none() {
            assert!(Instant::now() < deadline, "no connection");
            self.step();
        }
    }

    fn channel(&mut self) -> &mut Channel {
        self.channel.as_mut().unwrap()
    }

    /// The next compound that satisfies a condition.
    fn await_rtcp(&mut self, fits: impl Fn(&rtcp::Part) -> bool) -> Vec<u8> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            assert!(Instant::now() < deadline, "no such RTCP");
            let Some(mut datagram) = self.step() else {
                continue;
            };
            if !(192..224).contains(&datagram[1]) {
                continue;
            }
            let clear = self
                .channel()
                .open_rtcp(&mut datagram)
                .expect("authentic")
                .to_vec();
            if rtcp::parts(&clear).any(|part| fits(&part)) {
                return clear;
            }
        }
    }
}

fn swarm() -> Swarm {
    Swarm::new(Ipv4Addr::LOCALHOST.into()).unwrap()
}

fn await_stats(swarm: &Swarm, fits: impl Fn(&ClientStats) -> bool) -> ClientStats {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stats = swarm.stats(None).unwrap()[0];
        if fits(&stats) {
            return stats;
        }
        assert!(Instant::now() < deadline, "{stats:?}");
        std::thread::yield_now();
    }
}

fn head(track: &PlayTrack, index: u64, timestamp: u32) -> Head {
    Head {
        pt: track.format.pt,
        marker: true,
        sequence: index as u16,
        timestamp,
        ssrc: track.ssrc,
    }
}

/// One packet with a whole frame in it.
fn slice(kind: u8, index: u64) -> Vec<u8> {
    let mut payload = vec![0x60 | kind, 0x88];
    payload.extend_from_slice(&index.to_be_bytes());
    payload
}

fn connected_viewer(decrypt: bool) -> (Swarm, Server, PlayTrack) {
    let (swarm, mut server) = (swarm(), Server::new());
    let (id, offer) = swarm.offer_viewer(decrypt, true).unwrap();
    let (answer, tracks) = server.play(&offer);
    swarm.answer(id, &answer).unwrap();
    server.connect();
    let video = tracks.into_iter().find(|track| track.video).unwrap();
    await_stats(&swarm, |stats| stats.connected_us > 0);
    (swarm, server, video)
}

#[test]
fn a_viewer_counts_what_happens_to_packets() {
    let (swarm, mut server, video) = connected_viewer(true);
    let order: Vec<u64> = (1_000..1_100)
        .filter(|i| ![1_010, 1_090].contains(i))
        .collect();
    for index in order {
        let kind = if index == 1_000 { 5 } else { 1 };
        let index = match index {
            1_030 => 1_031,
            1_031 => 1_030,
            index => index,
        };
        let head = head(&video, index, index as u32 * 3_000);
        server.channel().send(head, index, &[], &slice(kind, index));
    }
    let copy = head(&video, 1_050, 1_050 * 3_000);
    server.channel().send(copy, 1_050, &[], &slice(1, 1_050));
    server.channel().send(copy, 1_050, &[], &slice(1, 9_999));
    let wrong_index = 1_101 + (1 << 16);
    server
        .channel()
        .send(head(&video, 1_101, 0), wrong_index, &[], &slice(1, 0));
    let seen = await_stats(&swarm, |stats| stats.packets == 101);
    let counted = (seen.duplicates, seen.index_repeats, seen.reordered);
    assert_eq!(counted, (1, 1, 1));
    let counted = (seen.decrypt_errors, seen.lost, seen.frames, seen.keyframes);
    assert_eq!(counted, (1, 2, 98, 1));
    assert!(seen.first_packet_us >= seen.connected_us);
    let mut again: Vec<u16> = vec![];
    while again.len() < 2 {
        let asked = server.await_rtcp(|part| part.kind == rtcp::RTPFB && part.count == rtcp::NACK);
        for part in rtcp::parts(&asked).filter(|part| part.kind == rtcp::RTPFB) {
            again.extend(feedback::nacked(part.bytes));
        }
        again.sort_unstable();
        again.dedup();
    }
    assert_eq!(again, [1_010, 1_090]);
    for (n, osn) in again.into_iter().enumerate() {
        let index = 2_000 + n as u64;
        let mut head = head(&video, index, u32::from(osn) * 3_000);
        head.pt = video.format.rtx_pt.unwrap();
        head.ssrc = video.rtx_ssrc.unwrap();
        let payload = slice(1, u64::from(osn));
        server
            .channel()
            .send(head, index, &osn.to_be_bytes(), &payload);
    }
    let seen = await_stats(&swarm, |stats| stats.rtx == 2);
    assert_eq!((seen.lost, seen.frames), (0, 100));
}

#[test]
fn a_viewer_reports_and_says_goodbye() {
    let (swarm, mut server, video) = connected_viewer(true);
    for index in (1_000..1_010).chain(1_020..1_030) {
        server
            .channel()
            .send(head(&video, index, 0), index, &[], &slice(5, index));
    }
    let clear = server.await_rtcp(|part| part.kind == rtcp::RR && part.count == 1);
    let part = rtcp::parts(&clear)
        .find(|part| part.kind == rtcp::RR)
        .unwrap();
    let report = rtcp::read_reports(&part).next().unwrap();
    assert_eq!(
        (report.ssrc, report.top, report.lost),
        (video.ssrc, 1_029, 10)
    );
    assert_eq!(report.fraction, (10 * 256 / 30) as u8);
    swarm.close(1).unwrap();
    server.await_rtcp(|part| part.kind == rtcp::BYE);
    let left = swarm.stats(None).unwrap()[0];
    assert_eq!(left.packets, 20, "the numbers stay");
    swarm.close(1).unwrap();
    assert!(swarm.close(2).unwrap_err().contains("no client 2"));
}

#[test]
fn a_viewer_without_a_key_frame_asks_for_one() {
    let (_swarm, mut server, video) = connected_viewer(true);
    server
        .channel()
        .send(head(&video, 1_000, 0), 1_000, &[], &slice(1, 0));
    server.await_rtcp(|part| part.kind == rtcp::PSFB && part.count == rtcp::PLI);
}

#[test]
fn a_viewer_that_does_not_decrypt_counts_by_header() {
    let (swarm, mut server, video) = connected_viewer(false);
    for index in (65_530..65_540).chain(65_541..65_550) {
        server
            .channel()
            .send(head(&video, index, 0), index, &[], &slice(5, index));
    }
    let seen = await_stats(&swarm, |stats| stats.packets == 19);
    assert_eq!((seen.lost, seen.frames, seen.decrypt_errors), (1, 19, 0));
}

fn annex_b(units: &[&[u8]]) -> Vec<u8> {
    let with_code = |(i, unit): (usize, &&[u8])| {
        let code: &[u8] = if i == 0 { &[0, 0, 0, 1] } else { &[0, 0, 1] };
        [code, unit].concat()
    };
    units.iter().enumerate().flat_map(with_code).collect()
}

fn long_slice(kind: u8, bytes: usize, seed: u8) -> Vec<u8> {
    let mut slice: Vec<u8> = (0..bytes).map(|i| (i as u8 ^ seed) | 1).collect();
    slice[0] = 0x60 | kind;
    slice[1] |= 0x80;
    slice
}

/// Ten frames a loop of 400 ms, the first and the eighth of them key frames; Opus in between.
struct Footage {
    frames: Vec<Vec<u8>>,
    avcc: Vec<Vec<u8>>,
}

impl Footage {
    fn new() -> Footage {
        let slices: Vec<Vec<u8>> = (0..10)
            .map(|i| long_slice(if i % 7 == 0 { 5 } else { 1 }, 900 + 700 * i, i as u8))
            .collect();
        let frame = |(i, slice): (usize, &Vec<u8>)| match i % 7 {
            0 => annex_b(&[&[0x09, 0xf0], &SPS, &PPS, slice]),
            _ => annex_b(&[slice]),
        };
        let avcc = |slice: &Vec<u8>| [&(slice.len() as u32).to_be_bytes()[..], slice].concat();
        Footage {
            frames: slices.iter().enumerate().map(frame).collect(),
            avcc: slices.iter().map(avcc).collect(),
        }
    }

    fn units(&self) -> Vec<Unit<'_>> {
        let video = self.frames.iter().enumerate().map(|(i, data)| Unit {
            video: true,
            at_ms: 40 * i as u64,
            keyframe: i % 7 == 0,
            data,
        });
        let audio = (0..20).map(|i| Unit {
            video: false,
            at_ms: 20 * i,
            keyframe: true,
            data: &[0xfc, 1, 2],
        });
        video.chain(audio).collect()
    }
}

/// Access units and Opus packets that a publisher sends, put together again.
struct Capture {
    windows: [crate::srtp::Window; 2],
    taps: [Assembler; 2],
    first_ts: [Option<u32>; 2],
    units: [Vec<Assembled>; 2],
    last: Option<(u16, Vec<u8>)>,
}

impl Capture {
    fn new() -> Capture {
        let tap = |codec| Assembler::new(codec).unwrap();
        Capture {
            windows: Default::default(),
            taps: [tap(Codec::Opus), tap(Codec::H264)],
            first_ts: [None, None],
            units: Default::default(),
            last: None,
        }
    }

    fn take(&mut self, server: &mut Server, tracks: &[PublishTrack]) {
        let Some(mut datagram) = server.step() else {
            return;
        };
        if (192..224).contains(&datagram[1]) {
            return;
        }
        let (head, head_bytes) = super::rtp::read(&datagram).unwrap();
        let track = tracks
            .iter()
            .find(|t| t.ssrcs.contains(&head.ssrc))
            .unwrap();
        assert_eq!(track.formats[0].pt, head.pt);
        let medium = usize::from(track.video);
        let index = self.windows[medium].extend(head.sequence);
        let payload = server
            .channel()
            .open(&mut datagram, head_bytes, head, index)
            .unwrap();
        self.windows[medium].mark(index);
        if track.video {
            self.last = Some((head.sequence, payload.to_vec()));
        }
        let first = *self.first_ts[medium].get_or_insert(head.timestamp);
        let piece = Piece {
            index,
            ts: u64::from(head.timestamp.wrapping_sub(first)),
            marker: head.marker,
            payload: &payload.into(),
        };
        self.taps[medium].push(&piece, 0, &mut self.units[medium]);
    }
}

fn connected_publisher(answer_pli: bool) -> (Swarm, Server, Vec<PublishTrack>, Footage) {
    let (swarm, mut server, footage) = (swarm(), Server::new(), Footage::new());
    let (id, offer) = swarm
        .offer_publisher(&footage.units(), 400, answer_pli, false, Duration::ZERO)
        .unwrap();
    let (answer, tracks) = server.publish(&offer);
    assert_eq!(tracks.len(), 2);
    swarm.answer(id, &answer).unwrap();
    server.connect();
    (swarm, server, tracks, footage)
}

#[test]
fn a_publisher_loops_its_units_in_real_time() {
    let (swarm, mut server, tracks, footage) = connected_publisher(true);
    let mut capture = Capture::new();
    let deadline = Instant::now() + PATIENCE;
    while capture.units[1].len() < 25 {
        assert!(Instant::now() < deadline);
        capture.take(&mut server, &tracks);
    }
    for (i, unit) in capture.units[1].iter().enumerate() {
        assert_eq!(unit.data, footage.avcc[i % 10], "frame {i}");
        assert_eq!(
            (unit.ts, unit.keyframe),
            (3_600 * i as u64, i % 10 % 7 == 0),
            "frame {i}"
        );
        assert!(!unit.lost);
    }
    assert_eq!(capture.units[1][0].sps, SPS);
    for (i, unit) in capture.units[0].iter().enumerate() {
        assert_eq!(
            (unit.ts, &unit.data[..]),
            (960 * i as u64, &[0xfc, 1, 2][..])
        );
    }
    assert!(capture.units[0].len() > 40);
    let stats = swarm.stats(None).unwrap()[0];
    assert!(stats.frames >= 25 && stats.keyframes >= 5 && stats.first_packet_us > 0);
}

#[test]
fn a_publisher_answers_a_loss_and_a_plea() {
    let (swarm, mut server, tracks, _) = connected_publisher(true);
    let video = tracks.iter().find(|track| track.video).unwrap();
    let (ssrc, rtx_ssrc) = (video.ssrcs[0], video.rtx_ssrc.unwrap());
    let mut capture = Capture::new();
    let deadline = Instant::now() + PATIENCE;
    while capture.units[1].len() < 3 {
        assert!(Instant::now() < deadline);
        capture.take(&mut server, &tracks);
    }
    let (sequence, payload) = capture.last.clone().unwrap();
    let mut out = Vec::new();
    feedback::nack(&mut out, 1, ssrc, &[sequence]);
    feedback::pli(&mut out, 1, ssrc);
    server.channel().send_rtcp(&out);
    let again = loop {
        assert!(Instant::now() < deadline);
        let Some(mut datagram) = server.step() else {
            continue;
        };
        let Some((head, head_bytes)) = super::rtp::read(&datagram) else {
            continue;
        };
        if head.ssrc == rtx_ssrc {
            assert_eq!(Some(head.pt), video.formats[0].rtx_pt);
            let index = u64::from(head.sequence);
            break server
                .channel()
                .open(&mut datagram, head_bytes, head, index)
                .unwrap()
                .to_vec();
        }
    };
    assert_eq!(again, [&sequence.to_be_bytes()[..], &payload].concat());
    let stats = await_stats(&swarm, |stats| {
        stats.plis_received == 1 && stats.keyframes >= 2
    });
    assert!(
        stats.frames < 7,
        "the key frame came ahead of its turn: {stats:?}"
    );
    assert_eq!(stats.rtx, 1);
}

#[test]
fn a_publisher_may_ignore_pleas() {
    let (swarm, mut server, tracks, _) = connected_publisher(false);
    let video = tracks.iter().find(|track| track.video).unwrap();
    let mut out = Vec::new();
    feedback::pli(&mut out, 1, video.ssrcs[0]);
    server.channel().send_rtcp(&out);
    let stats = await_stats(&swarm, |stats| {
        stats.plis_received == 1 && stats.frames >= 6
    });
    assert_eq!(stats.keyframes, 1);
}

#[test]
fn a_publisher_sends_sender_reports() {
    let (_swarm, mut server, tracks, _) = connected_publisher(true);
    let video = tracks.iter().find(|track| track.video).unwrap().ssrcs[0];
    let of_video = |part: &rtcp::Part| {
        rtcp::read_sender_report(part).is_some_and(|report| report.ssrc == video)
    };
    let clear = server.await_rtcp(of_video);
    let part = rtcp::parts(&clear).find(of_video).unwrap();
    let report = rtcp::read_sender_report(&part).unwrap();
    let unix = rtcp::unix_ns_from_ntp(report.ntp) / 1_000_000_000;
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    assert!((unix - now.as_secs() as i64).abs() <= 10);
    assert!(report.packets > 0);
}

#[test]
fn wrong_input_is_refused_with_a_reason() {
    let swarm = swarm();
    let unit = |video, at_ms, data| Unit {
        video,
        at_ms,
        keyframe: true,
        data,
    };
    let refused = |units: &[Unit], loop_ms| {
        swarm
            .offer_publisher(units, loop_ms, true, false, Duration::ZERO)
            .unwrap_err()
    };
    assert!(refused(&[], 10).contains("units"));
    assert!(refused(&[unit(false, 0, &[1])], 0).contains("loop_ms"));
    assert!(refused(&[unit(false, 10, &[1])], 10).contains("past the loop's end"));
    assert!(refused(&[unit(true, 0, &[1, 2, 3])], 10).contains("no NAL unit"));
    let (id, offer) = swarm.offer_viewer(true, true).unwrap();
    assert!(swarm.answer(id, "hello").unwrap_err().contains("line 1"));
    assert!(swarm
        .answer(id, &offer.replace("127.0.0.1", "::1"))
        .unwrap_err()
        .contains("candidate"));
    let (answer, _) = Server::new().play(&offer);
    assert!(swarm
        .answer(99, &answer)
        .unwrap_err()
        .contains("no client 99"));
    swarm.answer(id, &answer).unwrap();
    assert!(swarm.answer(id, &answer).unwrap_err().contains("already"));
    swarm.stop();
    swarm.stop();
    assert!(swarm
        .offer_viewer(true, true)
        .unwrap_err()
        .contains("stopped"));
}

#[test]
fn a_recording_of_one_medium_offers_only_that() {
    let (swarm, mut server) = (swarm(), Server::new());
    let unit = Unit {
        video: false,
        at_ms: 0,
        keyframe: true,
        data: &[0xfc, 1],
    };
    let (_, offer) = swarm
        .offer_publisher(&[unit], 20, true, false, Duration::ZERO)
        .unwrap();
    let (_, tracks) = server.publish(&offer);
    assert_eq!((tracks.len(), tracks[0].video), (1, false));
}

#[test]
fn a_thousand_clients_can_be_made_and_closed() {
    let swarm = swarm();
    for _ in 0..10 {
        let ids: Vec<u32> = (0..100)
            .map(|_| swarm.offer_viewer(false, false).unwrap().0)
            .collect();
        for id in ids {
            swarm.close(id).unwrap();
        }
    }
    assert_eq!(swarm.stats(None).unwrap().len(), 1_000);
}
