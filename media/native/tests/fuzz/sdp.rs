//! Offers of browsers, encoders and libraries, mutated line by line, answered both ways.

use crate::campaign;
use crate::mutate::{mutate_text, Random};
use _native::sdp::{answer_publisher, answer_viewer, Codec, Live, Local, SdpFault};

const OFFERS: [&str; 11] = [
    include_str!("../offers/aiortc-play.sdp"),
    include_str!("../offers/aiortc-publish.sdp"),
    include_str!("../offers/chromium-play.sdp"),
    include_str!("../offers/chromium-publish.sdp"),
    include_str!("../offers/chromium-simulcast.sdp"),
    include_str!("../offers/ffmpeg-publish.sdp"),
    include_str!("../offers/firefox-like-publish.sdp"),
    include_str!("../offers/gstreamer-like-publish.sdp"),
    include_str!("../offers/obs-like-publish.sdp"),
    include_str!("../offers/werift-play.sdp"),
    include_str!("../offers/werift-publish.sdp"),
];
/// No answer is this long: what an offer repeats is not repeated back without end.
const ANSWER_BYTES_MAX: usize = 96 * 1024;

fn lives() -> Vec<Live> {
    let codec = |codec, fmtp: &str| Some((codec, fmtp.to_owned()));
    let h264 = "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f";
    let audio = codec(Codec::Opus, "minptime=10;useinbandfec=1");
    let with = |video| Live {
        video,
        audio: audio.clone(),
    };
    vec![
        with(codec(Codec::H264, h264)),
        with(codec(
            Codec::H264,
            "packetization-mode=0;profile-level-id=640c1f",
        )),
        with(codec(Codec::H264, "profile-level-id=4d0032")),
        with(codec(Codec::Vp8, "")),
        with(codec(Codec::Vp9, "profile-id=0")),
        with(codec(Codec::Av1, "level-idx=5;profile=0;tier=0")),
        with(None),
        Live::default(),
    ]
}

fn check(answer: Result<String, SdpFault>) {
    match answer {
        Ok(text) => {
            assert!(text.len() < ANSWER_BYTES_MAX);
            assert!(text.starts_with("v=0\r\n"));
            let control = |b: u8| b < 32 && !b"\r\n\t".contains(&b);
            assert!(
                !text.bytes().any(control),
                "an offer's control characters came back"
            );
        }
        Err(fault) => assert!(!fault.to_string().is_empty()),
    }
}

#[test]
fn sdp_offers() {
    let mut lives = lives();
    let make = |random: &mut Random, _: &mut Vec<Live>| {
        let seed = *random.pick(&OFFERS);
        mutate_text(random, seed, &OFFERS)
    };
    campaign("sdp", &mut lives, 1, make, |b, lives| {
        let text = String::from_utf8_lossy(b);
        let candidates = ["192.0.2.1:8189", "[2001:db8::1]:8189"].map(|a| a.parse().expect("one"));
        let local = Local {
            ufrag: "abcdefgh",
            pwd: "abcdefghijklmnopqrstuvwx",
            fingerprint: "AA:BB",
            candidates: &candidates,
            session_id: 1,
        };
        check(answer_publisher(&text, &local).map(|(sdp, _, _)| sdp));
        for live in lives {
            check(answer_viewer(&text, &local, live, || 7).map(|(sdp, _, _)| sdp));
        }
    });
}
