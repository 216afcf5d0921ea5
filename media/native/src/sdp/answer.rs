//! Which sections of an offer we take, in which format, over which transport.

use super::formats::{matching, names, offered, prefer, Offered};
use super::parse::{parse, Description, Direction, Media, Setup, Transport};
use super::text::write_answer;
use super::{Format, Live, Local, PlayTrack, PublishTrack, Remote, SdpFault};
use std::fmt::Write;

/// Header extensions that we use (RFC 8843, 15; transport-wide congestion control).
pub const MID_URI: &str = "urn:ietf:params:rtp-hdrext:sdes:mid";
pub const TWCC_URI: &str =
    "http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01";
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
pub struct Take {
    /// Which of the offer's sections.
    pub index: usize,
    pub formats: Vec<Offered>,
    /// Our source, when we send; then `formats` has one entry.
    pub ssrc: Option<u32>,
    pub rtx_ssrc: Option<u32>,
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
pub fn tagged<'a, 'b>(offer: &'a Description<'b>, takes: &[Take]) -> &'a Media<'b> {
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

/// The id that the offer gives a header extension.
pub fn extension(media: &Media, uri: &str) -> Option<u8> {
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
        extended: media.round_trips,
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
