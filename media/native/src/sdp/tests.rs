//! Real offers of browsers and encoders, and offers that must be refused.

use super::*;

macro_rules! offer {
    ($name:literal) => {
        include_str!(concat!("../../tests/offers/", $name, ".sdp"))
    };
}

const PUBLISHERS: [(&str, &str); 6] = [
    ("aiortc", offer!("aiortc-publish")),
    ("chromium", offer!("chromium-publish")),
    ("ffmpeg", offer!("ffmpeg-publish")),
    ("gstreamer", offer!("gstreamer-like-publish")),
    ("obs", offer!("obs-like-publish")),
    ("werift", offer!("werift-publish")),
];
const VIEWERS: [(&str, &str); 3] = [
    ("aiortc", offer!("aiortc-play")),
    ("chromium", offer!("chromium-play")),
    ("werift", offer!("werift-play")),
];

fn with_local<T>(f: impl FnOnce(&Local) -> T) -> T {
    let candidates = [
        "192.0.2.1:4000".parse().unwrap(),
        "[2001:db8::1]:4000".parse().unwrap(),
    ];
    f(&Local {
        ufrag: "ours",
        pwd: "0123456789012345678901",
        fingerprint: "00:11",
        candidates: &candidates,
        session_id: 7,
    })
}

fn publish(offer: &str) -> Result<(String, Remote, Vec<PublishTrack>), SdpFault> {
    with_local(|local| answer_publisher(offer, local))
}

fn play(offer: &str, live: &Live) -> Result<(String, Remote, Vec<PlayTrack>), SdpFault> {
    let mut ssrc = 100;
    let next = || {
        ssrc += 1;
        ssrc
    };
    with_local(|local| answer_viewer(offer, local, live, next))
}

fn h264(profile: &str) -> Live {
    Live {
        video: Some((
            Codec::H264,
            format!("packetization-mode=1;profile-level-id={profile}"),
        )),
        audio: Some((Codec::Opus, String::new())),
    }
}

fn count(text: &str, line: &str) -> usize {
    text.lines().filter(|l| l.starts_with(line)).count()
}

fn malformed(offer: &str, wanted: &str) {
    match publish(offer) {
        Err(SdpFault::Malformed(reason)) => assert!(reason.contains(wanted), "{reason}"),
        other => panic!("expected Malformed({wanted}), got {other:?}"),
    }
}

fn not_acceptable(offer: &str, wanted: &str) {
    match publish(offer) {
        Err(SdpFault::NotAcceptable(reason)) => assert!(reason.contains(wanted), "{reason}"),
        other => panic!("expected NotAcceptable({wanted}), got {other:?}"),
    }
}

#[test]
fn every_known_publisher_gets_h264_and_opus() {
    for (name, offer) in PUBLISHERS {
        let (answer, remote, tracks) = publish(offer).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tracks.len(), 2, "{name}");
        for track in &tracks {
            let first = if track.video {
                Codec::H264
            } else {
                Codec::Opus
            };
            assert_eq!(track.formats[0].codec, first, "{name}");
            assert_eq!(track.ssrcs.len(), 1, "{name}");
        }
        assert_eq!(remote.fingerprint.len(), 32, "{name}");
        assert!(remote.pwd.len() >= 22 && remote.ufrag.len() >= 4, "{name}");
        assert_eq!(count(&answer, "a=recvonly"), 2, "{name}");
        assert_eq!(count(&answer, "a=candidate:"), 2, "{name}: one transport");
        assert_eq!(count(&answer, "a=ice-lite"), 1, "{name}");
        let setup = if remote.we_are_active {
            "a=setup:active"
        } else {
            "a=setup:passive"
        };
        assert_eq!(count(&answer, setup), 2, "{name}");
        let sections = |text: &str| -> Vec<String> {
            let lines = text
                .lines()
                .filter(|l| l.starts_with("m=") || l.starts_with("a=mid:"));
            lines
                .map(|l| l.split(' ').next().unwrap().to_owned())
                .collect()
        };
        assert_eq!(
            sections(&answer),
            sections(offer),
            "{name}: sections must keep their order"
        );
        assert!(
            answer.lines().all(|l| !l.is_empty()) && answer.ends_with("\r\n"),
            "{name}"
        );
    }
}

#[test]
fn both_dtls_roles_are_taken() {
    let role = |offer: &str| publish(offer).unwrap().1.we_are_active;
    let ffmpeg = offer!("ffmpeg-publish");
    assert!(role(ffmpeg), "ffmpeg waits for us");
    assert!(!role(&ffmpeg.replace("setup:passive", "setup:active")));
    assert!(!role(&ffmpeg.replace("setup:passive", "setup:actpass")));
    assert!(!role(&ffmpeg.replace("a=setup:passive\r\n", "")));
    not_acceptable(
        &ffmpeg.replace("setup:passive", "setup:holdconn"),
        "holdconn",
    );
}

#[test]
fn ffmpeg_is_read_to_the_last_detail() {
    let (answer, remote, tracks) = publish(offer!("ffmpeg-publish")).unwrap();
    assert_eq!(remote.ufrag, "b004d1ee");
    assert_eq!(remote.pwd, "117a37ec84eb2bffd0d37a47cca0d84c");
    assert_eq!(remote.fingerprint[..3], [0x93, 0x6e, 0x8e]);
    let video = tracks.iter().find(|t| t.video).unwrap();
    assert_eq!((video.mid.as_str(), video.ssrcs[0]), ("1", 308_675_681));
    assert_eq!(
        (video.rtx_ssrc, video.formats.len()),
        (Some(308_675_682), 1)
    );
    let format = &video.formats[0];
    assert_eq!((format.pt, format.rtx_pt), (106, Some(105)));
    assert!(format.nack && !format.pli && !format.remb && !format.twcc);
    assert_eq!((video.twcc_id, video.mid_id), (None, None));
    assert!(answer.contains("m=video 9 UDP/TLS/RTP/SAVPF 106 105\r\n"));
    assert!(answer.contains("a=fmtp:105 apt=106\r\n"));
    assert!(answer.contains("a=rtcp-fb:106 nack\r\n"));
    assert!(!answer.contains("transport-cc"));
}

#[test]
fn chromium_is_asked_for_h264_before_all_else() {
    let (answer, _, tracks) = publish(offer!("chromium-publish")).unwrap();
    let video = tracks.iter().find(|t| t.video).unwrap();
    let codecs: Vec<Codec> = video.formats.iter().map(|f| f.codec).collect();
    let last_h264 = codecs.iter().rposition(|c| *c == Codec::H264).unwrap();
    assert!(codecs[..=last_h264].iter().all(|c| *c == Codec::H264));
    for codec in [Codec::Vp8, Codec::Vp9, Codec::Av1] {
        assert!(codecs.contains(&codec));
    }
    assert_eq!(
        parse::parameter(&video.formats[0].fmtp, "packetization-mode"),
        Some("1")
    );
    assert!(video
        .formats
        .iter()
        .all(|f| f.twcc && f.pli && f.nack && f.rtx_pt.is_some()));
    assert!(video.twcc_id.is_some() && video.mid_id.is_some() && video.rtx_ssrc.is_some());
    assert!(answer.contains("transport-cc"));
    for absent in [
        "red/",
        "ulpfec",
        "telephone-event",
        "abs-send-time",
        "a=rid",
        "simulcast",
    ] {
        assert!(!answer.contains(absent), "{absent}");
    }
}

#[test]
fn round_trips_may_be_measured_by_whom_offers_it() {
    let (answer, _, tracks) = publish(offer!("chromium-publish")).unwrap();
    assert!(tracks.iter().all(|t| t.extended));
    assert_eq!(count(&answer, "a=rtcp-xr:rcvr-rtt=all"), 2);
    let (answer, _, tracks) = publish(offer!("ffmpeg-publish")).unwrap();
    assert!(tracks.iter().all(|t| !t.extended));
    assert!(!answer.contains("rtcp-xr"));
}

#[test]
fn simulcast_and_data_channels_are_left_aside() {
    let (answer, _, tracks) = publish(offer!("chromium-simulcast")).unwrap();
    assert_eq!(tracks.len(), 2);
    assert!(answer.contains("m=application 0 UDP/DTLS/SCTP webrtc-datachannel\r\n"));
    assert_eq!(count(&answer, "a=group:BUNDLE 0 1"), 1);
    assert!(!answer.contains("simulcast") && !answer.contains("a=rid"));
}

#[test]
fn the_first_layer_of_sim_groups_is_the_source() {
    let offer = offer!("ffmpeg-publish").replace(
        "a=ssrc-group:FID 308675681 308675682",
        "a=ssrc-group:SIM 308675681 5 6\r\na=ssrc-group:FID 308675681 308675682\r\n\
         a=ssrc-group:FID 5 7\r\na=ssrc:5 cname:x\r\na=ssrc:6 cname:x\r\na=ssrc:7 cname:x",
    );
    let (_, _, tracks) = publish(&offer).unwrap();
    let video = tracks.iter().find(|t| t.video).unwrap();
    assert_eq!(
        (&video.ssrcs[..], video.rtx_ssrc),
        (&[308_675_681][..], Some(308_675_682))
    );
}

#[test]
fn viewers_get_what_the_stream_has() {
    for (name, offer) in VIEWERS {
        let live = h264("42e01f");
        let (answer, _, tracks) = play(offer, &live).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(tracks.len(), 2, "{name}");
        let video = tracks.iter().find(|t| t.video).unwrap();
        assert_eq!(video.format.codec, Codec::H264, "{name}");
        assert!(
            video.format.fmtp.contains("42e01f"),
            "{name}: {}",
            video.format.fmtp
        );
        assert_eq!(
            parse::parameter(&video.format.fmtp, "packetization-mode"),
            Some("1")
        );
        assert!(!video.format.twcc && !video.format.remb, "{name}");
        assert_eq!(
            video.rtx_ssrc.is_some(),
            video.format.rtx_pt.is_some(),
            "{name}"
        );
        assert_eq!(count(&answer, "a=sendonly"), 2, "{name}");
        assert_eq!(count(&answer, "a=msid:nexus "), 2, "{name}");
        let source = format!("a=ssrc:{} cname:{CNAME}", video.ssrc);
        assert_eq!(count(&answer, &source), 1, "{name}");
        if let Some(rtx) = video.rtx_ssrc {
            let group = format!("a=ssrc-group:FID {} {rtx}", video.ssrc);
            assert_eq!(count(&answer, &group), 1, "{name}");
        }
        assert!(
            !answer.contains("transport-cc") && !answer.contains("goog-remb"),
            "{name}"
        );
    }
}

#[test]
fn a_medium_that_the_stream_lacks_is_refused_alone() {
    let mut live = h264("42e01f");
    live.video = None;
    let (answer, _, tracks) = play(offer!("chromium-play"), &live).unwrap();
    assert_eq!((tracks.len(), tracks[0].video), (1, false));
    assert!(answer.contains("m=video 0 "));
    assert!(answer.contains("a=group:BUNDLE 1\r\n"));
    assert_eq!(count(&answer, "a=candidate:"), 2);
}

#[test]
fn the_profile_nearest_to_the_stream_is_chosen() {
    let chosen = |profile: &str| {
        let (_, _, tracks) = play(offer!("chromium-play"), &h264(profile)).unwrap();
        let fmtp = &tracks.iter().find(|t| t.video).unwrap().format.fmtp;
        parse::parameter(fmtp, "profile-level-id").unwrap()[..4].to_owned()
    };
    assert_eq!(chosen("42c033"), "42e0", "x264's constrained baseline");
    assert_eq!(chosen("64001f"), "4d00", "without high, main is nearest");
    assert_eq!(chosen("4d0033"), "4d00");
    assert_eq!(chosen("420034"), "4200");
}

#[test]
fn other_codecs_are_matched_by_profile() {
    let live = |codec, fmtp: &str| Live {
        video: Some((codec, fmtp.into())),
        audio: None,
    };
    let offer = offer!("chromium-play");
    let picked = |live: &Live| play(offer, live).unwrap().2.remove(0).format;
    let vp9 = picked(&live(Codec::Vp9, "profile-id=2"));
    assert_eq!(parse::parameter(&vp9.fmtp, "profile-id"), Some("2"));
    assert_eq!(picked(&live(Codec::Vp8, "")).codec, Codec::Vp8);
    assert_eq!(picked(&live(Codec::Av1, "")).codec, Codec::Av1);
    match play(offer!("aiortc-play"), &live(Codec::Vp9, "profile-id=0")) {
        Err(SdpFault::NotAcceptable(reason)) => {
            assert!(
                reason.contains("VP9") && reason.contains("VP8, H264"),
                "{reason}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_overlap_is_said_from_both_sides() {
    let offer = offer!("aiortc-play");
    let audio_only = &offer[..offer.find("m=video").unwrap()];
    let audio_only = if audio_only.contains("m=audio") {
        audio_only.to_owned()
    } else {
        let audio = &offer[offer.find("m=audio").unwrap()..];
        format!("{}{audio}", &offer[..offer.find("m=video").unwrap()])
    };
    let live = Live {
        video: Some((Codec::Vp8, String::new())),
        audio: None,
    };
    match play(&audio_only, &live) {
        Err(SdpFault::NotAcceptable(reason)) => {
            assert_eq!(reason, "the stream has video, the offer asks for audio");
        }
        other => panic!("{other:?}"),
    }
    match play(offer!("ffmpeg-publish"), &h264("42e01f")) {
        Err(SdpFault::NotAcceptable(reason)) => assert!(reason.ends_with("nothing"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn malformed_offers_are_refused_with_line_and_reason() {
    let good = offer!("ffmpeg-publish");
    malformed("", "line 1: is empty");
    malformed("v=1\r\n", "line 1: an offer begins with v=0");
    malformed("v=0\r\ns=-\r\n", "no m= line");
    malformed("v=0\r\nhello\r\n", "line 2: does not have the form");
    malformed("v=0\r\na=x\u{1}\r\n", "line 2: has a control character");
    malformed(
        &good.replace("93:6E", "93:6G"),
        "line 12: a=fingerprint: not pairs",
    );
    malformed(
        &good.replace("93:6E:", ""),
        "sha-256 has 32 bytes, here are 30",
    );
    malformed(&good.replace("pwd:117a", "pwd:1 7a"), "line 11: a=ice-pwd");
    malformed(
        &good.replace("a=ice-ufrag:b004d1ee\r\n", ""),
        "line 8 (m=audio): no a=ice-ufrag",
    );
    malformed(
        &good.replace("m=audio 9", "m=audio 99999"),
        "line 8: m=audio 99999",
    );
    malformed(
        &good.replace("SAVPF 111", "SAVPF 1x1"),
        "not a number up to 127",
    );
    malformed(
        &good.replace("m=video 9 UDP/TLS/RTP/SAVPF 106 105", "m=video"),
        "not \"media port",
    );
    malformed(&good.replace("opus/48000/2", "opus"), "a=rtpmap");
    malformed(&good.replace("a=mid:0", "a=mid:"), "a=mid: not a token");
    malformed(
        &good.replace("ssrc:308675680 cname", "ssrc:x cname"),
        "a=ssrc",
    );
    malformed(
        &good.replace("a=setup:passive", "a=setup:perhaps"),
        "a=setup",
    );
}

#[test]
fn limits_hold() {
    let good = offer!("ffmpeg-publish");
    malformed(&"x".repeat(parse::OFFER_BYTES_MAX + 1), "bytes, more than");
    malformed(
        &format!("{good}a=x:{}\r\n", "y".repeat(parse::LINE_BYTES_MAX)),
        "longer than",
    );
    malformed(
        &format!("{good}{}", "a=x\r\n".repeat(600)),
        "more than 512 lines",
    );
    malformed(
        &format!("{good}{}", "m=text 0 X 0\r\n".repeat(20)),
        "more than 16 media",
    );
    let formats = " 9".repeat(200);
    malformed(&good.replace(" 106 105", &formats), "more than 128 formats");
}

#[test]
fn unservable_offers_are_refused_with_a_reason() {
    let good = offer!("ffmpeg-publish");
    not_acceptable(
        &good.replace("a=group:BUNDLE 0 1\r\n", ""),
        "a=group:BUNDLE",
    );
    not_acceptable(
        &good.replace("a=rtcp-mux\r\n", ""),
        "line 8 (m=audio): no a=rtcp-mux",
    );
    not_acceptable(
        &good.replace("sendonly", "recvonly"),
        "sends no audio or video",
    );
    not_acceptable(
        &good.replace("UDP/TLS/RTP/SAVPF", "RTP/AVP"),
        "sends no audio or video",
    );
    let foreign = good
        .replace("H264/90000", "H265/90000")
        .replace("opus/48000/2", "PCMU/8000");
    not_acceptable(&foreign, "line 21: no video codec we know");
}

#[test]
fn a_single_medium_needs_no_bundle() {
    let good = offer!("ffmpeg-publish").replace("a=group:BUNDLE 0 1\r\n", "");
    let audio = &good[..good.find("m=video").unwrap()];
    let (answer, _, tracks) = publish(audio).unwrap();
    assert_eq!((tracks.len(), count(&answer, "a=group")), (1, 0));
}

#[test]
fn the_transport_of_the_tagged_section_counts() {
    let offer = offer!("aiortc-publish");
    let own = "a=ice-ufrag:video\r\n";
    let at = offer.rfind("a=ice-ufrag:").unwrap();
    let end = at + offer[at..].find('\n').unwrap() + 1;
    let offer = format!("{}{own}{}", &offer[..at], &offer[end..]);
    let (answer, remote, _) = publish(&offer).unwrap();
    assert_ne!(remote.ufrag, "video");
    let second = answer.split("m=").nth(2).unwrap();
    assert_eq!(count(second, "a=candidate:"), 0);
    let turned = offer.replace("BUNDLE 0 1", "BUNDLE 1 0");
    let (answer, remote, _) = publish(&turned).unwrap();
    assert_eq!(remote.ufrag, "video");
    assert!(answer.contains("a=group:BUNDLE 1 0\r\n"));
}

#[test]
fn candidates_of_any_kind_are_ignored() {
    let extra = "a=candidate:1 1 udp 1 a-name.local 9 typ host\r\na=candidate:nonsense\r\n";
    let offer = format!("{}{extra}", offer!("ffmpeg-publish"));
    assert!(publish(&offer).is_ok());
}

#[test]
fn bare_line_feeds_are_read() {
    assert!(publish(&offer!("ffmpeg-publish").replace('\r', "")).is_ok());
}

#[test]
fn mutated_offers_never_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let live = h264("42e01f");
    let mut accepted = 0;
    for round in 0..4_000 {
        let all = PUBLISHERS.iter().chain(&VIEWERS);
        let source = all.map(|(_, o)| *o).nth(round % 9).unwrap_or_default();
        let mut bytes = source.as_bytes().to_vec();
        for _ in 0..=random(6) {
            let at = random(bytes.len());
            match random(5) {
                0 => bytes[at] = random(256) as u8,
                1 => drop(bytes.drain(at..(at + random(40)).min(bytes.len()))),
                2 => bytes.insert(at, b": /=\r\n-;,"[random(9)]),
                3 => bytes.truncate(at.max(1)),
                _ => {
                    let piece = bytes[at..(at + random(60)).min(bytes.len())].to_vec();
                    let to = random(bytes.len());
                    bytes.splice(to..to, piece);
                }
            }
            if bytes.is_empty() {
                bytes.push(b'v');
            }
        }
        let text = String::from_utf8_lossy(&bytes);
        accepted += usize::from(publish(&text).is_ok());
        accepted += usize::from(play(&text, &live).is_ok());
    }
    assert!(
        accepted > 200,
        "the mutations are too wild to test anything: {accepted}"
    );
}
