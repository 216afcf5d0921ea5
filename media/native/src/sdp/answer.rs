//! Which sections of an offer we take, and the text of the answer.

use super::formats::{answered_parameters, matching, names, offered, prefer, Offered};
use super::parse::{parse, Description, Direction, Media, Setup, Transport};
use super::{Format, Live, Local, PlayTrack, PublishTrack, Remote, SdpFault, CNAME};
use std::fmt::Write;

const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
const TWCC_URI: &str = "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
/// The id of the one media stream that a viewer's tracks belong to: players keep them in step.
const STREAM_ID: &str = "nexus";
const PROTOCOLS: [&str; 4] = [
    "UDP/TLS/RTP/SAVPF",
    "UDP/TLS/RTP/SAVP",
    "RTP/SAVPF",
    "RTP/SAVP",
];

/// Answers a publisher's offer (WHIP): the first video and the first audio that it sends.
pub fn answer_publisher(
    offer: &str,
    local: &Local,
) -> Result<(String, Remote, Vec<PublishTrack>), SdpFault> {
    let offer = parse(offer)?;
    let mut takes = Vec::new();
    let mut refused = String::new();
    for index in candidates(&offer, Direction::sends) {
        let media = &offer.media[index];
        let mut formats = offered(media);
        if formats.is_empty() {
            let _ = write!(
                refused,
                " (line {}: no {} codec we know)",
                media.line, media.kind
            );
            continue;
        }
        prefer(&mut formats);
        takes.push(Take {
            index,
            formats,
            ssrc: None,
            rtx_ssrc: None,
        });
    }
    if takes.is_empty() {
        let reason = format!("the offer sends no audio or video that we can take{refused}");
        return Err(SdpFault::NotAcceptable(reason));
    }
    let remote = transport(&offer, &mut takes)?;
    let tracks = takes
        .iter()
        .map(|take| publish_track(&offer.media[take.index], take))
        .collect();
    Ok((write_answer(&offer, &takes, local, &remote), remote, tracks))
}

/// Answers a viewer's offer (WHEP). `ssrc` makes a new SSRC at each call.
pub fn answer_viewer(
    offer: &str,
    local: &Local,
    live: &Live,
    mut ssrc: impl FnMut() -> u32,
) -> Result<(String, Remote, Vec<PlayTrack>), SdpFault> {
    let offer = parse(offer)?;
    let mut takes = Vec::new();
    for index in candidates(&offer, Direction::receives) {
        let media = &offer.media[index];
        let part = if media.kind == "video" {
            &live.video
        } else {
            &live.audio
        };
        let Some((codec, fmtp)) = part else { continue };
        let formats = offered(media);
        let have = names(&formats);
        let Some(chosen) = matching(formats, *codec, fmtp) else {
            let reason = format!(
                "the stream's {} is {} {fmtp}, the offer has {have} (line {})",
                media.kind,
                codec.name(),
                media.line
            );
            return Err(SdpFault::NotAcceptable(reason));
        };
        let rtx_ssrc = chosen.format.rtx_pt.map(|_| ssrc());
        takes.push(Take {
            index,
            formats: vec![chosen],
            ssrc: Some(ssrc()),
            rtx_ssrc,
        });
    }
    if takes.is_empty() {
        return Err(nothing_to_play(&offer, live));
    }
    let remote = transport(&offer, &mut takes)?;
    let tracks = takes
        .iter()
        .filter_map(|t| play_track(&offer.media[t.index], t))
        .collect();
    Ok((write_answer(&offer, &takes, local, &remote), remote, tracks))
}

// -- choosing -----------------------------------------------------------------------------

/// A section that we take.
struct Take {
    index: usize,
    formats: Vec<Offered>,
    /// Our source, when we send; then `formats` has one entry.
    ssrc: Option<u32>,
    rtx_ssrc: Option<u32>,
}

/// The first usable video and audio section, in the offer's order.
fn candidates(offer: &Description, direction: fn(Direction) -> bool) -> Vec<usize> {
    let mut found: Vec<usize> = Vec::new();
    for (index, media) in offer.media.iter().enumerate() {
        let wanted = media.kind == "video" || media.kind == "audio";
        let alive = media.port != 0 || media.bundle_only;
        let first = !found.iter().any(|i| offer.media[*i].kind == media.kind);
        let known = PROTOCOLS.contains(&media.protocol);
        if wanted && alive && first && known && direction(media.direction) {
            found.push(index);
        }
    }
    found
}

fn nothing_to_play(offer: &Description, live: &Live) -> SdpFault {
    let list = |parts: [(bool, &'static str); 2]| {
        let kinds: Vec<&str> = parts
            .iter()
            .filter(|(is, _)| *is)
            .map(|(_, kind)| *kind)
            .collect();
        if kinds.is_empty() {
            "nothing".to_owned()
        } else {
            kinds.join(" and ")
        }
    };
    let asked = candidates(offer, Direction::receives);
    let asks = |kind: &str| asked.iter().any(|index| offer.media[*index].kind == kind);
    SdpFault::NotAcceptable(format!(
        "the stream has {}, the offer asks for {}",
        list([
            (live.video.is_some(), "video"),
            (live.audio.is_some(), "audio")
        ]),
        list([(asks("video"), "video"), (asks("audio"), "audio")]),
    ))
}

/// The one transport of all taken sections. Sections outside the bundle are given up (RFC 8843).
fn transport(offer: &Description, takes: &mut Vec<Take>) -> Result<Remote, SdpFault> {
    let first = &offer.media[takes[0].index];
    if takes.len() > 1 {
        let bundle = first
            .mid
            .and_then(|mid| offer.bundles.iter().find(|b| b.contains(&mid)));
        let Some(bundle) = bundle else {
            let reason = "the offer does not put its media in one a=group:BUNDLE";
            return Err(SdpFault::NotAcceptable(reason.into()));
        };
        takes.retain(|t| {
            offer.media[t.index]
                .mid
                .is_some_and(|mid| bundle.contains(&mid))
        });
    }
    for take in takes.iter() {
        let media = &offer.media[take.index];
        if !media.rtcp_mux {
            let reason = format!("line {} (m={}): no a=rtcp-mux", media.line, media.kind);
            return Err(SdpFault::NotAcceptable(reason));
        }
    }
    let tagged = tagged(offer, takes);
    let missing = |what: &str| {
        SdpFault::Malformed(format!(
            "line {} (m={}): no a={what}",
            tagged.line, tagged.kind
        ))
    };
    let (own, session): (&Transport, &Transport) = (&tagged.transport, &offer.transport);
    let fingerprint = own.fingerprint.as_ref().or(session.fingerprint.as_ref());
    Ok(Remote {
        ufrag: own
            .ufrag
            .or(session.ufrag)
            .ok_or_else(|| missing("ice-ufrag"))?
            .into(),
        pwd: own
            .pwd
            .or(session.pwd)
            .ok_or_else(|| missing("ice-pwd"))?
            .into(),
        fingerprint: fingerprint
            .ok_or_else(|| missing("fingerprint with SHA-256, SHA-384 or SHA-512"))?
            .clone(),
        we_are_active: match own.setup.or(session.setup) {
            Some(Setup::Passive) => true,
            Some(Setup::HoldConn) => {
                return Err(SdpFault::NotAcceptable(
                    "a=setup:holdconn is not supported".into(),
                ))
            }
            _ => false,
        },
    })
}

/// The taken section that stands first in the bundle: its transport is everybody's.
fn tagged<'a, 'b>(offer: &'a Description<'b>, takes: &[Take]) -> &'a Media<'b> {
    let taken = |media: &&Media| {
        takes
            .iter()
            .any(|t| offer.media[t.index].line == media.line)
    };
    let by_mid = |mid: &&str| {
        offer
            .media
            .iter()
            .find(|m| m.mid == Some(mid))
            .filter(taken)
    };
    let bundles = offer.bundles.iter().flatten();
    bundles
        .filter_map(by_mid)
        .next()
        .unwrap_or(&offer.media[takes[0].index])
}

fn extension(media: &Media, uri: &str) -> Option<u8> {
    media
        .extensions
        .iter()
        .find(|(_, u)| *u == uri)
        .map(|(id, _)| *id)
}

fn publish_track(media: &Media, take: &Take) -> PublishTrack {
    let second = |ssrc: &u32| {
        let repairs = |(kind, ids): &(&str, Vec<u32>)| *kind != "SIM" && ids[1..].contains(ssrc);
        media
            .groups
            .iter()
            .filter(|(_, ids)| !ids.is_empty())
            .any(repairs)
    };
    let mut ssrcs: Vec<u32> = media
        .ssrcs
        .iter()
        .filter(|id| !second(id))
        .copied()
        .collect();
    let simulcast = media
        .groups
        .iter()
        .find(|(kind, ids)| *kind == "SIM" && !ids.is_empty());
    if let Some((_, layers)) = simulcast {
        ssrcs = vec![layers[0]];
    }
    let rtx = media.groups.iter().find_map(|(kind, ids)| match ids[..] {
        [main, rtx] if *kind == "FID" && Some(&main) == ssrcs.first() => Some(rtx),
        _ => None,
    });
    let twcc = take.formats.iter().any(|o| o.format.twcc);
    PublishTrack {
        video: media.kind == "video",
        mid: media.mid.unwrap_or_default().into(),
        formats: take.formats.iter().map(|o| o.format.clone()).collect(),
        ssrcs,
        rtx_ssrc: rtx,
        twcc_id: extension(media, TWCC_URI).filter(|_| twcc),
        mid_id: extension(media, MID_URI),
    }
}

fn play_track(media: &Media, take: &Take) -> Option<PlayTrack> {
    let mut format: Format = take.formats.first()?.format.clone();
    format.twcc = false;
    format.remb = false;
    Some(PlayTrack {
        video: media.kind == "video",
        mid: media.mid.unwrap_or_default().into(),
        format,
        ssrc: take.ssrc?,
        rtx_ssrc: take.rtx_ssrc,
        mid_id: extension(media, MID_URI),
    })
}

// -- writing ------------------------------------------------------------------------------

/// Appends one line; writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
        $out.push_str("\r\n");
    }};
}

fn write_answer(offer: &Description, takes: &[Take], local: &Local, remote: &Remote) -> String {
    let mut out = String::with_capacity(4096);
    line!(out, "v=0");
    line!(out, "o=- {} 1 IN IP4 127.0.0.1", local.session_id);
    line!(out, "s=-");
    line!(out, "t=0 0");
    line!(out, "a=ice-lite");
    let taken = |index: usize| takes.iter().find(|t| t.index == index);
    let tagged = tagged(offer, takes).line;
    // The tagged section first, the others as they come.
    let mut mids: Vec<(bool, &str)> = takes
        .iter()
        .map(|t| &offer.media[t.index])
        .filter_map(|m| Some((m.line != tagged, m.mid?)))
        .collect();
    mids.sort_by_key(|(later, _)| *later);
    let mids: Vec<&str> = mids.into_iter().map(|(_, mid)| mid).collect();
    if !offer.bundles.is_empty() && !mids.is_empty() {
        line!(out, "a=group:BUNDLE {}", mids.join(" "));
    }
    line!(out, "a=msid-semantic: WMS *");
    for (index, media) in offer.media.iter().enumerate() {
        match taken(index) {
            None => write_rejected(&mut out, media),
            Some(take) => {
                write_media(&mut out, media, take);
                write_transport(&mut out, local, remote);
                if media.line == tagged {
                    write_candidates(&mut out, local);
                }
            }
        }
    }
    out
}

fn write_rejected(out: &mut String, media: &Media) {
    let format = media.formats.split(' ').next().unwrap_or("0");
    line!(out, "m={} 0 {} {format}", media.kind, media.protocol);
    line!(out, "c=IN IP4 0.0.0.0");
    if let Some(mid) = media.mid {
        line!(out, "a=mid:{mid}");
    }
    line!(out, "a=inactive");
}

fn write_media(out: &mut String, media: &Media, take: &Take) {
    let pts = take
        .formats
        .iter()
        .flat_map(|o| [Some(o.format.pt), o.format.rtx_pt]);
    let pts: Vec<String> = pts.flatten().map(|pt| pt.to_string()).collect();
    line!(
        out,
        "m={} 9 {} {}",
        media.kind,
        media.protocol,
        pts.join(" ")
    );
    line!(out, "c=IN IP4 0.0.0.0");
    if let Some(mid) = media.mid {
        line!(out, "a=mid:{mid}");
    }
    let sending = take.ssrc.is_some();
    line!(out, "a={}", if sending { "sendonly" } else { "recvonly" });
    line!(out, "a=rtcp-mux");
    line!(out, "a=rtcp-rsize");
    for offered in &take.formats {
        write_format(out, offered, sending);
    }
    if let Some(id) = extension(media, MID_URI) {
        line!(out, "a=extmap:{id} {MID_URI}");
    }
    let twcc = !sending && take.formats.iter().any(|o| o.format.twcc);
    if let Some(id) = extension(media, TWCC_URI).filter(|_| twcc) {
        line!(out, "a=extmap:{id} {TWCC_URI}");
    }
    if let Some(ssrc) = take.ssrc {
        write_sources(out, media.kind, ssrc, take.rtx_ssrc);
    }
}

fn write_format(out: &mut String, offered: &Offered, sending: bool) {
    let format = &offered.format;
    let (pt, codec) = (format.pt, format.codec);
    let channels = if codec.is_video() { "" } else { "/2" };
    line!(
        out,
        "a=rtpmap:{pt} {}/{}{channels}",
        codec.name(),
        codec.clock_hz()
    );
    let parameters = answered_parameters(format);
    if !parameters.is_empty() {
        line!(out, "a=fmtp:{pt} {parameters}");
    }
    let feedback = [
        (format.nack, "nack"),
        (format.pli, "nack pli"),
        (offered.fir, "ccm fir"),
        (format.twcc && !sending, "transport-cc"),
        (format.remb && !sending, "goog-remb"),
    ];
    for (_, kind) in feedback.into_iter().filter(|(wanted, _)| *wanted) {
        line!(out, "a=rtcp-fb:{pt} {kind}");
    }
    if let Some(rtx) = format.rtx_pt {
        line!(out, "a=rtpmap:{rtx} rtx/{}", codec.clock_hz());
        line!(out, "a=fmtp:{rtx} apt={pt}");
    }
}

fn write_sources(out: &mut String, track: &str, ssrc: u32, rtx: Option<u32>) {
    line!(out, "a=msid:{STREAM_ID} {track}");
    if let Some(rtx) = rtx {
        line!(out, "a=ssrc-group:FID {ssrc} {rtx}");
    }
    for id in [Some(ssrc), rtx].into_iter().flatten() {
        line!(out, "a=ssrc:{id} cname:{CNAME}");
        line!(out, "a=ssrc:{id} msid:{STREAM_ID} {track}");
    }
}

fn write_transport(out: &mut String, local: &Local, remote: &Remote) {
    line!(out, "a=ice-ufrag:{}", local.ufrag);
    line!(out, "a=ice-pwd:{}", local.pwd);
    line!(out, "a=fingerprint:sha-256 {}", local.fingerprint);
    line!(
        out,
        "a=setup:{}",
        if remote.we_are_active {
            "active"
        } else {
            "passive"
        }
    );
}

fn write_candidates(out: &mut String, local: &Local) {
    for (index, address) in local.candidates.iter().enumerate() {
        let foundation = index + 1;
        // RFC 8445, 5.1.2: type preference 126 (host), one local preference each, component 1.
        let preference = 65_535u32.saturating_sub(index as u32);
        let priority = (126 << 24) | (preference << 8) | 255;
        let (ip, port) = (address.ip().to_canonical(), address.port());
        line!(
            out,
            "a=candidate:{foundation} 1 udp {priority} {ip} {port} typ host"
        );
    }
    line!(out, "a=end-of-candidates");
}
