//! The client's side of SDP: offers for viewers and publishers, and what a server's answer says.

use crate::sdp::parse::{parameter, parse, Media, Setup};
use crate::sdp::{Codec, CNAME};
use std::fmt::Write;
use std::net::{IpAddr, SocketAddr};

/// Candidate lines looked at in an answer.
const CANDIDATES_MAX: usize = 64;

/// What of a client goes into its offer.
pub struct Terms<'a> {
    pub ufrag: &'a str,
    pub pwd: &'a str,
    pub fingerprint: &'a str,
    pub address: SocketAddr,
    pub session_id: u64,
}

/// A publisher's medium.
#[derive(Clone, Copy)]
pub struct Sources {
    pub ssrc: u32,
    pub rtx_ssrc: u32,
}

/// A payload type that the answer took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Payload {
    pub pt: u8,
    pub codec: Codec,
    /// Of its retransmissions.
    pub rtx_pt: Option<u8>,
    pub nack: bool,
    pub pli: bool,
}

/// What a client needs of an answer.
#[derive(Clone, Debug)]
pub struct Answered {
    pub remote: SocketAddr,
    pub ufrag: String,
    pub pwd: String,
    pub fingerprint: Vec<u8>,
    /// We start DTLS.
    pub active: bool,
    pub payloads: Vec<Payload>,
    /// Media and retransmission source, as far as the answer pairs them.
    pub pairs: Vec<(u32, u32)>,
}

const H264_PROFILES: [&str; 4] = ["42e01f", "42001f", "4d001f", "64001f"];
const OPUS_PT: u8 = 111;

/// A viewer's offer: every codec that we can count.
pub fn viewer(terms: &Terms) -> String {
    let mut out = session(terms, "0 1");
    let mut lines = String::new();
    let mut pts = Vec::new();
    let others = [("VP8", ""), ("VP9", "profile-id=0"), ("AV1", "profile=0")];
    let h264 = H264_PROFILES.map(|profile| ("H264", h264_parameters(profile)));
    let all = h264
        .into_iter()
        .chain(others.map(|(name, fmtp)| (name, fmtp.to_owned())));
    for (i, (name, fmtp)) in all.enumerate() {
        let pt = 96 + 2 * i as u8;
        pts.push(format!("{pt} {}", pt + 1));
        video_format(&mut lines, pt, name, &fmtp);
    }
    section(&mut out, terms, "video 9", &pts.join(" "), "0", "recvonly");
    out.push_str(&lines);
    section(
        &mut out,
        terms,
        "audio 9",
        &OPUS_PT.to_string(),
        "1",
        "recvonly",
    );
    line(&mut out, &format!("a=rtpmap:{OPUS_PT} opus/48000/2"));
    out
}

/// A publisher's offer. `profile`: of the recorded H.264.
pub fn publisher(
    terms: &Terms,
    profile: &str,
    video: Option<Sources>,
    audio: Option<Sources>,
) -> String {
    let mids = if video.is_some() && audio.is_some() {
        "0 1"
    } else {
        "0"
    };
    let mut out = session(terms, mids);
    if let Some(sources) = video {
        section(&mut out, terms, "video 9", "96 97", "0", "sendonly");
        video_format(&mut out, 96, "H264", &h264_parameters(profile));
        let Sources { ssrc, rtx_ssrc } = sources;
        line(&mut out, &format!("a=ssrc-group:FID {ssrc} {rtx_ssrc}"));
        source(&mut out, ssrc, "video");
        source(&mut out, rtx_ssrc, "video");
    }
    if let Some(sources) = audio {
        let mid = if video.is_some() { "1" } else { "0" };
        section(
            &mut out,
            terms,
            "audio 9",
            &OPUS_PT.to_string(),
            mid,
            "sendonly",
        );
        line(&mut out, &format!("a=rtpmap:{OPUS_PT} opus/48000/2"));
        line(
            &mut out,
            &format!("a=fmtp:{OPUS_PT} minptime=10;useinbandfec=1;stereo=1"),
        );
        source(&mut out, sources.ssrc, "audio");
    }
    out
}

/// Reads an answer; `bind`: whose family the server's candidate must have.
pub fn read_answer(text: &str, bind: IpAddr) -> Result<Answered, String> {
    let answer = parse(text).map_err(|fault| format!("the answer: {fault}"))?;
    let taken: Vec<&Media> = answer
        .media
        .iter()
        .filter(|media| media.port != 0)
        .collect();
    let first = taken.first().ok_or("the answer takes no media")?;
    let missing = |what: &str| format!("the answer has no a={what}");
    let (own, session) = (&first.transport, &answer.transport);
    let fingerprint = own.fingerprint.as_ref().or(session.fingerprint.as_ref());
    let mut answered = Answered {
        remote: candidate(text, bind).ok_or("the answer has no candidate of our address family")?,
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
        fingerprint: fingerprint.ok_or_else(|| missing("fingerprint"))?.clone(),
        active: own.setup.or(session.setup) != Some(Setup::Active),
        payloads: Vec::new(),
        pairs: Vec::new(),
    };
    for media in taken {
        answered.payloads.extend(payloads(media));
        let fids = media
            .groups
            .iter()
            .filter(|(kind, ids)| *kind == "FID" && ids.len() == 2);
        answered.pairs.extend(fids.map(|(_, ids)| (ids[0], ids[1])));
    }
    if answered.payloads.is_empty() {
        return Err("the answer takes no codec that we know".into());
    }
    Ok(answered)
}

// -- details ------------------------------------------------------------------------------

fn line(out: &mut String, text: &str) {
    out.push_str(text);
    out.push_str("\r\n");
}

fn h264_parameters(profile: &str) -> String {
    format!("level-asymmetry-allowed=1;packetization-mode=1;profile-level-id={profile}")
}

fn session(terms: &Terms, mids: &str) -> String {
    let mut out = String::with_capacity(4096);
    let _ = write!(
        out,
        "v=0\r\no=- {} 1 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\n\
         a=group:BUNDLE {mids}\r\na=msid-semantic: WMS *\r\n",
        terms.session_id
    );
    out
}

fn section(out: &mut String, terms: &Terms, kind: &str, pts: &str, mid: &str, direction: &str) {
    let (ip, port) = (terms.address.ip(), terms.address.port());
    let _ = write!(
        out,
        "m={kind} UDP/TLS/RTP/SAVPF {pts}\r\nc=IN IP4 0.0.0.0\r\n\
         a=ice-ufrag:{}\r\na=ice-pwd:{}\r\na=fingerprint:sha-256 {}\r\na=setup:actpass\r\n\
         a=candidate:1 1 udp 2130706431 {ip} {port} typ host\r\na=end-of-candidates\r\n\
         a=mid:{mid}\r\na={direction}\r\na=rtcp-mux\r\na=rtcp-rsize\r\n",
        terms.ufrag, terms.pwd, terms.fingerprint
    );
}

fn video_format(out: &mut String, pt: u8, name: &str, fmtp: &str) {
    line(out, &format!("a=rtpmap:{pt} {name}/90000"));
    if !fmtp.is_empty() {
        line(out, &format!("a=fmtp:{pt} {fmtp}"));
    }
    for feedback in ["nack", "nack pli", "ccm fir", "goog-remb"] {
        line(out, &format!("a=rtcp-fb:{pt} {feedback}"));
    }
    line(out, &format!("a=rtpmap:{} rtx/90000", pt + 1));
    line(out, &format!("a=fmtp:{} apt={pt}", pt + 1));
}

fn source(out: &mut String, ssrc: u32, track: &str) {
    line(out, &format!("a=ssrc:{ssrc} cname:{CNAME}"));
    line(out, &format!("a=ssrc:{ssrc} msid:{CNAME} {track}"));
}

/// The UDP host candidate of our family: on loopback when we are, else the first.
fn candidate(text: &str, bind: IpAddr) -> Option<SocketAddr> {
    let lines = text
        .lines()
        .filter_map(|line| line.strip_prefix("a=candidate:"));
    let read = |value: &str| {
        let fields: Vec<&str> = value.split_whitespace().take(8).collect();
        let [_, "1", protocol, _, ip, port, "typ", _] = fields[..] else {
            return None;
        };
        let ip: IpAddr = ip
            .parse()
            .ok()
            .filter(|ip: &IpAddr| ip.is_ipv4() == bind.is_ipv4())?;
        let udp = protocol.eq_ignore_ascii_case("udp");
        udp.then_some(SocketAddr::new(ip, port.parse().ok()?))
    };
    let found: Vec<SocketAddr> = lines.take(CANDIDATES_MAX).filter_map(read).collect();
    let near = |addr: &&SocketAddr| addr.ip().is_loopback() == bind.is_loopback();
    found.iter().find(near).or(found.first()).copied()
}

fn payloads(media: &Media) -> Vec<Payload> {
    let codecs = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus];
    let apt = |pt: u8| {
        let fmtp = media
            .parameters
            .iter()
            .find(|(p, _)| *p == pt)
            .map(|(_, value)| *value)?;
        parameter(fmtp, "apt")?.parse::<u8>().ok()
    };
    let payload = |pt: u8| {
        let map = media.maps.iter().find(|map| map.pt == pt)?;
        let named = |codec: &Codec| codec.name().eq_ignore_ascii_case(map.encoding);
        let codec = codecs.into_iter().find(named)?;
        let has = |kind: &str| {
            let mine = |p: &Option<u8>| p.is_none() || *p == Some(pt);
            media.feedback.iter().any(|(p, k)| mine(p) && *k == kind)
        };
        Some(Payload {
            pt,
            codec,
            rtx_pt: media
                .pts
                .iter()
                .copied()
                .find(|other| apt(*other) == Some(pt)),
            nack: has("nack"),
            pli: has("nack pli") || has("ccm fir"),
        })
    };
    media.pts.iter().copied().filter_map(payload).collect()
}
