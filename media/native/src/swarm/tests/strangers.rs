//! What servers that are not ours do to clients: start DTLS, ask again for a stamped picture.

use super::*;
use crate::swarm::latency::Stamp;

#[test]
fn a_server_may_start_dtls_before_it_answers_a_check() {
    let (swarm, mut server) = (swarm(), Server::new());
    let (id, offer) = swarm.offer_viewer(true, true).unwrap();
    let (answer, _) = server.play(&offer.replace("a=setup:actpass", "a=setup:passive"));
    assert!(answer.contains("a=setup:active"));
    swarm.answer(id, &answer).unwrap();
    let mut buffer = [0; 2_048];
    let (_, from) = server.socket.recv_from(&mut buffer).unwrap();
    server.socket.connect(from).unwrap();
    let fingerprint = server.remote.as_ref().unwrap().fingerprint.clone();
    let now = Instant::now();
    let mut handshake = Handshake::new(&server.certificate, true, fingerprint, now).unwrap();
    let socket = &server.socket;
    handshake.poll(&mut |hello| drop(socket.send(hello)));
    server.handshake = Some(handshake);
    // No check is ever answered: those that `step` would answer are left lying.
    let deadline = Instant::now() + PATIENCE;
    while server.channel.is_none() {
        assert!(Instant::now() < deadline, "no connection");
        server.checks = 0;
        server.step();
    }
    await_stats(&swarm, |stats| stats.connected_us > 0);
}

#[test]
fn a_stamp_that_is_sent_again_is_the_same() {
    let (swarm, mut server, footage) = (swarm(), Server::new(), Footage::new());
    let offered = swarm.offer_publisher(&footage.units(), 400, true, true, Duration::ZERO);
    let (id, offer) = offered.unwrap();
    let (answer, tracks) = server.publish(&offer);
    swarm.answer(id, &answer).unwrap();
    server.connect();
    let video = tracks.iter().find(|track| track.video).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let mut sent: Vec<(u16, Stamp)> = Vec::new();
    loop {
        assert!(Instant::now() < deadline, "{sent:?}");
        let Some(mut datagram) = server.step() else {
            continue;
        };
        let Some((head, head_bytes)) = rtp::read(&datagram) else {
            continue;
        };
        let index = u64::from(head.sequence);
        let channel = server.channel();
        let Some(payload) = channel.open(&mut datagram, head_bytes, head, index) else {
            continue;
        };
        if Some(head.ssrc) == video.rtx_ssrc {
            let sequence = u16::from_be_bytes([payload[0], payload[1]]);
            let again = (sequence, Stamp::find(&payload[2..]).unwrap());
            assert!(sent.contains(&again));
            break;
        }
        if let Some(stamp) = Stamp::find(payload) {
            assert!(!head.marker, "the slices follow");
            assert_eq!(stamp.number as usize, sent.len() + 1);
            sent.push((head.sequence, stamp));
            if sent.len() == 4 {
                let mut out = Vec::new();
                feedback::nack(&mut out, 1, video.ssrcs[0], &[sent[1].0]);
                server.channel().send_rtcp(&out);
            }
        }
    }
}
