//! Reads the lines of an offer into slices of it; strict where we rely on a line, silent elsewhere.
//!
//! Knows the grammar (RFC 8866) and the attributes we use; decides nothing about what we accept.

use super::transport::transport_attribute;
pub use super::transport::{Setup, Transport};
use super::SdpFault;

/// Longest description that is read, in bytes.
pub const OFFER_BYTES_MAX: usize = 64 * 1024;
/// Longest line, in bytes.
pub const LINE_BYTES_MAX: usize = 4 * 1024;
/// Media sections in a description.
pub const MEDIA_MAX: usize = 16;
/// Lines of one section (browsers write about 200 for video).
pub const SECTION_LINES_MAX: usize = 512;
/// Payload formats of one media section.
pub const FORMATS_MAX: usize = 128;
/// Longest a=mid, in bytes.
pub const MID_BYTES_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    SendRecv,
    SendOnly,
    RecvOnly,
    Inactive,
}

impl Direction {
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// a=rtpmap.
#[derive(Clone, Copy, Debug)]
pub struct RtpMap<'a> {
    pub pt: u8,
    pub encoding: &'a str,
    pub clock_hz: u32,
}

/// One m= section.
#[derive(Clone, Debug)]
pub struct Media<'a> {
    /// The number of its m= line.
    pub line: usize,
    pub kind: &'a str,
    pub port: u16,
    pub protocol: &'a str,
    /// The format list, as written.
    pub formats: &'a str,
    /// The same as payload types, for audio and video.
    pub pts: Vec<u8>,
    pub mid: Option<&'a str>,
    pub direction: Direction,
    pub transport: Transport<'a>,
    pub bundle_only: bool,
    pub rtcp_mux: bool,
    /// a=rtcp-xr:rcvr-rtt=all: both sides may ask for round trips (RFC 3611 5.1).
    pub round_trips: bool,
    pub maps: Vec<RtpMap<'a>>,
    pub parameters: Vec<(u8, &'a str)>,
    /// Payload type (None: all) and kind of feedback.
    pub feedback: Vec<(Option<u8>, &'a str)>,
    pub extensions: Vec<(u8, &'a str)>,
    /// Sources in order of appearance.
    pub ssrcs: Vec<u32>,
    /// Semantics and members of a=ssrc-group.
    pub groups: Vec<(&'a str, Vec<u32>)>,
}

/// A whole description.
#[derive(Clone, Debug)]
pub struct Description<'a> {
    pub transport: Transport<'a>,
    /// Members of each a=group:BUNDLE.
    pub bundles: Vec<Vec<&'a str>>,
    pub media: Vec<Media<'a>>,
}

/// Reads a description. Cost: linear in its length.
pub fn parse(text: &str) -> Result<Description<'_>, SdpFault> {
    if text.len() > OFFER_BYTES_MAX {
        let reason = format!("{} bytes, more than {OFFER_BYTES_MAX}", text.len());
        return Err(SdpFault::Malformed(reason));
    }
    let mut session = Description {
        transport: Transport::default(),
        bundles: Vec::new(),
        media: Vec::new(),
    };
    let mut section_lines = 0;
    let text = text.trim_end_matches(['\r', '\n']);
    for (index, line) in text.split('\n').enumerate() {
        let number = index + 1;
        let line = line.strip_suffix('\r').unwrap_or(line);
        let (kind, value) = split(number, line)?;
        if number == 1 && line != "v=0" {
            return Err(malformed(number, "an offer begins with v=0"));
        }
        section_lines = if kind == b'm' { 1 } else { section_lines + 1 };
        if section_lines > SECTION_LINES_MAX {
            let reason = format!("a section has more than {SECTION_LINES_MAX} lines");
            return Err(malformed(number, &reason));
        }
        match kind {
            b'm' if session.media.len() == MEDIA_MAX => {
                return Err(malformed(number, &format!("more than {MEDIA_MAX} media")));
            }
            b'm' => session.media.push(media_line(number, value)?),
            b'a' => match session.media.last_mut() {
                Some(media) => media_attribute(media, number, value)?,
                None => session_attribute(&mut session, number, value)?,
            },
            _ => {}
        }
    }
    if session.media.is_empty() {
        return Err(SdpFault::Malformed("no media: there is no m= line".into()));
    }
    Ok(session)
}

/// The value of one parameter in an a=fmtp value ("name=value;name=value").
pub fn parameter<'a>(fmtp: &'a str, name: &str) -> Option<&'a str> {
    fmtp.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim())
    })
}

// -- details ------------------------------------------------------------------------------

pub(super) fn malformed(line: usize, reason: &str) -> SdpFault {
    SdpFault::Malformed(format!("line {line}: {reason}"))
}

fn split(number: usize, line: &str) -> Result<(u8, &str), SdpFault> {
    if line.len() > LINE_BYTES_MAX {
        return Err(malformed(
            number,
            &format!("longer than {LINE_BYTES_MAX} bytes"),
        ));
    }
    if line.bytes().any(|b| b < 32 && b != b'\t' || b == 127) {
        return Err(malformed(number, "has a control character"));
    }
    match line.as_bytes() {
        [kind @ b'a'..=b'z', b'=', ..] => Ok((*kind, &line[2..])),
        [] => Err(malformed(number, "is empty")),
        _ => Err(malformed(number, "does not have the form x=value")),
    }
}

fn is_token(text: &str) -> bool {
    let sign = |b: u8| b"!#$%&'*+-.^_`{|}~".contains(&b);
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || sign(b))
}

fn media_line(number: usize, value: &str) -> Result<Media<'_>, SdpFault> {
    let wrong = |reason: &str| malformed(number, &format!("m={value}: {reason}"));
    let mut parts = value.splitn(4, ' ');
    let mut next = || parts.next().filter(|p| !p.is_empty());
    let (Some(kind), Some(port), Some(protocol), Some(formats)) = (next(), next(), next(), next())
    else {
        return Err(wrong("not \"media port protocol formats\""));
    };
    let port = port.split('/').next().unwrap_or(port);
    let port = port
        .parse()
        .map_err(|_| wrong("the port is not a number up to 65535"))?;
    if !is_token(kind) || !protocol.split('/').all(is_token) {
        return Err(wrong("media and protocol must be tokens"));
    }
    if formats.split(' ').count() > FORMATS_MAX {
        return Err(wrong(&format!("more than {FORMATS_MAX} formats")));
    }
    if !formats.split(' ').all(is_token) {
        return Err(wrong("the formats must be tokens"));
    }
    let mut pts = Vec::new();
    if kind == "audio" || kind == "video" {
        for format in formats.split(' ') {
            let pt = format.parse().ok().filter(|pt| *pt < 128);
            pts.push(pt.ok_or_else(|| wrong("a payload type is not a number up to 127"))?);
        }
    }
    Ok(Media {
        line: number,
        kind,
        port,
        protocol,
        formats,
        pts,
        mid: None,
        direction: Direction::SendRecv,
        transport: Transport::default(),
        bundle_only: false,
        rtcp_mux: false,
        round_trips: false,
        maps: Vec::new(),
        parameters: Vec::new(),
        feedback: Vec::new(),
        extensions: Vec::new(),
        ssrcs: Vec::new(),
        groups: Vec::new(),
    })
}

fn session_attribute<'a>(
    session: &mut Description<'a>,
    number: usize,
    text: &'a str,
) -> Result<(), SdpFault> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    match name {
        "group" => {
            if let Some(members) = value.strip_prefix("BUNDLE") {
                session.bundles.push(members.split_whitespace().collect());
            }
            Ok(())
        }
        _ => transport_attribute(&mut session.transport, number, (name, value)),
    }
}

fn media_attribute<'a>(
    media: &mut Media<'a>,
    number: usize,
    text: &'a str,
) -> Result<(), SdpFault> {
    let (name, value) = text.split_once(':').unwrap_or((text, ""));
    let wrong = |reason: &str| malformed(number, &format!("a={name}: {reason}"));
    match name {
        "mid" if !is_token(value) || value.len() > MID_BYTES_MAX => {
            return Err(wrong(&format!(
                "not a token of up to {MID_BYTES_MAX} characters"
            )));
        }
        "mid" => media.mid = Some(value),
        "sendrecv" => media.direction = Direction::SendRecv,
        "sendonly" => media.direction = Direction::SendOnly,
        "recvonly" => media.direction = Direction::RecvOnly,
        "inactive" => media.direction = Direction::Inactive,
        "rtcp-mux" => media.rtcp_mux = true,
        "rtcp-xr" => media.round_trips |= value.contains("rcvr-rtt=all"),
        "bundle-only" => media.bundle_only = true,
        "rtpmap" => media
            .maps
            .push(rtpmap(value).ok_or_else(|| {
                wrong(&format!("\"{value}\" is not \"payload-type name/clock\""))
            })?),
        "fmtp" => {
            let parsed = value
                .split_once(' ')
                .and_then(|(pt, v)| Some((pt.parse().ok()?, v)));
            media
                .parameters
                .push(parsed.ok_or_else(|| wrong("no payload type and value"))?);
        }
        "rtcp-fb" => {
            let (pt, kind) = value
                .split_once(' ')
                .ok_or_else(|| wrong("no kind of feedback"))?;
            let pt = match pt {
                "*" => None,
                _ => Some(
                    pt.parse()
                        .map_err(|_| wrong("the payload type is not a number"))?,
                ),
            };
            media.feedback.push((pt, kind.trim()));
        }
        "extmap" => {
            let (id, uri) = value.split_once(' ').ok_or_else(|| wrong("no URI"))?;
            let id = id.split('/').next().unwrap_or(id).parse::<u16>();
            let id = id.map_err(|_| wrong("the id is not a number"))?;
            let uri = uri.split(' ').next().unwrap_or(uri);
            // Ids over 14 need two-byte headers, which we do not negotiate.
            if let (1..=14, Ok(id)) = (id, u8::try_from(id)) {
                media.extensions.push((id, uri));
            }
        }
        "ssrc" => {
            let id = value.split(' ').next().and_then(|id| id.parse().ok());
            let id = id.ok_or_else(|| wrong("the source is not a 32-bit number"))?;
            if media.ssrcs.last() != Some(&id) && !media.ssrcs.contains(&id) {
                media.ssrcs.push(id);
            }
        }
        "ssrc-group" => {
            let mut parts = value.split_whitespace();
            let semantics = parts.next().ok_or_else(|| wrong("is empty"))?;
            let members: Result<Vec<u32>, _> = parts.map(str::parse).collect();
            let members = members.map_err(|_| wrong("a source is not a 32-bit number"))?;
            media.groups.push((semantics, members));
        }
        _ => return transport_attribute(&mut media.transport, number, (name, value)),
    }
    Ok(())
}

fn rtpmap(value: &str) -> Option<RtpMap<'_>> {
    let (pt, rest) = value.split_once(' ')?;
    let mut parts = rest.trim().split('/');
    let encoding = parts.next().filter(|name| is_token(name))?;
    let pt = pt.parse().ok().filter(|pt| *pt < 128)?;
    Some(RtpMap {
        pt,
        encoding,
        clock_hz: parts.next()?.parse().ok()?,
    })
}
