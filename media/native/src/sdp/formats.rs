//! What of a media section's formats we can carry, and in which order we like them.

use super::h264;
use super::parse::{parameter, Media};
use super::{Codec, Format};

/// A format of the offer, with the feedback that only the answer's text needs.
#[derive(Clone, Debug)]
pub struct Offered {
    pub format: Format,
    pub fir: bool,
}

/// Formats that we can carry, in the offer's order.
pub fn offered(media: &Media) -> Vec<Offered> {
    let mut found: Vec<Offered> = Vec::new();
    for &pt in &media.pts {
        let Some(codec) = codec(media, pt) else {
            continue;
        };
        if codec.is_video() != (media.kind == "video") {
            continue;
        }
        if found.iter().any(|o| o.format.pt == pt) {
            continue;
        }
        let has = |kind: &str| {
            let of_pt = |p: &Option<u8>| p.is_none() || *p == Some(pt);
            media.feedback.iter().any(|(p, k)| of_pt(p) && *k == kind)
        };
        found.push(Offered {
            format: Format {
                codec,
                pt,
                rtx_pt: rtx(media, pt),
                fmtp: parameters(media, pt).to_owned(),
                nack: has("nack"),
                pli: has("nack pli"),
                remb: has("goog-remb"),
                twcc: has("transport-cc"),
            },
            fir: has("ccm fir"),
        });
    }
    found
}

/// Orders a publisher's formats: H.264 that may be fragmented, other H.264, then as offered.
pub fn prefer(formats: &mut [Offered]) {
    formats.sort_by_key(|o| match (o.format.codec, h264::mode(&o.format.fmtp)) {
        (Codec::H264, 1) => 0,
        (Codec::H264, _) => 1,
        _ => 2,
    });
}

/// The offered format that a stream in `codec` with parameters `stream` can be sent in.
pub fn matching(formats: Vec<Offered>, codec: Codec, stream: &str) -> Option<Offered> {
    let misfit = |o: &Offered| match codec {
        _ if o.format.codec != codec => None,
        Codec::H264 => h264::misfit(stream, &o.format.fmtp),
        Codec::Vp9 => same(stream, &o.format.fmtp, "profile-id"),
        Codec::Av1 => same(stream, &o.format.fmtp, "profile"),
        Codec::Vp8 | Codec::Opus => Some(0),
    };
    let scored = formats.into_iter().filter_map(|o| Some((misfit(&o)?, o)));
    scored.min_by_key(|(misfit, _)| *misfit).map(|(_, o)| o)
}

/// The parameters that the answer repeats: those that tell formats apart or that we obey.
pub fn answered_parameters(format: &Format) -> String {
    let kept: &[&str] = match format.codec {
        Codec::H264 => &[
            "level-asymmetry-allowed",
            "packetization-mode",
            "profile-level-id",
        ],
        Codec::Vp9 => &["profile-id"],
        Codec::Av1 => &["level-idx", "profile", "tier"],
        Codec::Opus => &["minptime", "useinbandfec", "stereo"],
        Codec::Vp8 => &[],
    };
    let pair = |name: &&str| Some(format!("{name}={}", parameter(&format.fmtp, name)?));
    let mut pairs: Vec<String> = kept.iter().filter_map(pair).collect();
    let opus = format.codec == Codec::Opus;
    if opus && parameter(&format.fmtp, "stereo").is_none() {
        // Who says it may send in stereo is told that we want it.
        if let Some(stereo) = parameter(&format.fmtp, "sprop-stereo") {
            pairs.push(format!("stereo={stereo}"));
        }
    }
    pairs.join(";")
}

/// "H264, VP8": what formats there are, for messages.
pub fn names(formats: &[Offered]) -> String {
    let mut names: Vec<&str> = Vec::new();
    for offered in formats {
        let name = offered.format.codec.name();
        if !names.contains(&name) {
            names.push(name);
        }
    }
    if names.is_empty() {
        return "none that we know".into();
    }
    names.join(", ")
}

fn same(stream: &str, offered: &str, name: &str) -> Option<u8> {
    let value = |fmtp| parameter(fmtp, name).unwrap_or("0").to_owned();
    (value(stream) == value(offered)).then_some(0)
}

fn codec(media: &Media, pt: u8) -> Option<Codec> {
    let map = media.maps.iter().find(|map| map.pt == pt)?;
    let codec = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus]
        .into_iter()
        .find(|codec| codec.name().eq_ignore_ascii_case(map.encoding))?;
    (map.clock_hz == codec.clock_hz()).then_some(codec)
}

fn parameters<'a>(media: &Media<'a>, pt: u8) -> &'a str {
    media
        .parameters
        .iter()
        .find(|(p, _)| *p == pt)
        .map_or("", |(_, value)| value.trim())
}

fn rtx(media: &Media, pt: u8) -> Option<u8> {
    let is_rtx = |map: &&super::parse::RtpMap| map.encoding.eq_ignore_ascii_case("rtx");
    let apt = |pt: u8| parameter(parameters(media, pt), "apt")?.parse::<u8>().ok();
    let listed = |map: &&super::parse::RtpMap| media.pts.contains(&map.pt);
    let mut maps = media.maps.iter().filter(is_rtx).filter(listed);
    maps.find(|map| apt(map.pt) == Some(pt)).map(|map| map.pt)
}
