//! Records of sessions (`wire.rs`): what one process hands to the next, damaged on the way.

use crate::campaign;
use crate::mutate::{mutate, Random};
use crate::session::{link, sockets};
use _native::sdp::Codec;
use _native::source::{InSsrc, Medium, PayloadType, SourceRec, TransportIn};
use _native::srtp::Window;
use _native::viewer::{OutTrack, ViewerRec};
use _native::wire;

fn source() -> SourceRec {
    let (_, peer) = sockets();
    SourceRec {
        link: link(1, &peer),
        types: vec![PayloadType {
            pt: 96,
            codec: Codec::H264,
            rtx: false,
        }],
        nack: [false, true],
        remb: true,
        extended: true,
        ssrcs: vec![InSsrc {
            ssrc: 1,
            video: true,
            rtx: false,
            epoch: 1,
            seen: Window::default(),
            first: 7,
            got: 9,
            told: (1, 2),
            transit: 3,
            jitter: 4,
            sr: Some((5, 6)),
        }],
        media: [
            None,
            Some(Medium {
                ssrc: 1,
                epoch: 1,
                sent: Window::default(),
                misses: vec![],
                last_ns: 3,
                left: false,
                missed_ns: Some(2),
                broken: false,
            }),
        ],
        transport: TransportIn::new(Some(3)),
        next_report_ns: 0,
    }
}

fn viewer() -> ViewerRec {
    let (_, peer) = sockets();
    ViewerRec {
        link: link(2, &peer),
        tracks: vec![OutTrack::new(Codec::Vp9, 98, 7)],
        next_report_ns: 5,
    }
}

#[test]
fn session_records() {
    let mut seeds = vec![wire::seal(&source()), wire::seal(&viewer())];
    let make = |random: &mut Random, seeds: &mut Vec<Vec<u8>>| {
        let seed = random.pick(seeds).clone();
        mutate(random, &seed, seeds)
    };
    campaign("records", &mut seeds, 1, make, |b, _| {
        if let Some(rec) = wire::open::<SourceRec>(b) {
            assert_eq!(
                wire::seal(&rec).len(),
                b.len(),
                "what was read is what was there"
            );
        }
        if let Some(rec) = wire::open::<ViewerRec>(b) {
            assert_eq!(
                wire::seal(&rec).len(),
                b.len(),
                "what was read is what was there"
            );
        }
    });
}
