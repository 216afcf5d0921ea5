//! The text of an answer: what was decided in `answer`, written line by line.

use super::answer::{extension, tagged, Take, MID_URI, TWCC_URI};
use super::formats::{answered_parameters, Offered};
use super::parse::{Description, Media};
use super::{Local, Remote, CNAME};
use std::fmt::Write;

/// The id of the one media stream that a viewer's tracks belong to: players keep them in step.
const STREAM_ID: &str = "nexus";

/// Appends one line; writing to a String cannot fail.
macro_rules! line {
    ($out:expr, $($text:tt)*) => {{
        let _ = write!($out, $($text)*);
        $out.push_str("\r\n");
    }};
}

/// The whole answer to `offer` when `takes` are taken.
pub fn write_answer(offer: &Description, takes: &[Take], local: &Local, remote: &Remote) -> String {
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
    if media.round_trips {
        line!(out, "a=rtcp-xr:rcvr-rtt=all");
    }
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
