//! RTP headers as they come from publishers (RFC 3550 5.1, RFC 8285).

use crate::rtcp::{be16, be32};

/// What the fixed part says, and where the payload begins.
pub struct Header {
    pub pt: u8,
    pub marker: bool,
    pub padded: bool,
    pub sequence: u16,
    pub ts: u32,
    pub ssrc: u32,
    /// Bytes before the payload.
    pub len: usize,
    /// Where the extension's body lies, and its profile.
    extension: Option<(u16, usize, usize)>,
}

pub fn parse(b: &[u8]) -> Option<Header> {
    if b.len() < 12 || b[0] >> 6 != 2 {
        return None;
    }
    let mut len = 12 + 4 * usize::from(b[0] & 15);
    let mut extension = None;
    if b[0] & 0x10 != 0 {
        let head = b.get(len..len + 4)?;
        let size = 4 * usize::from(be16(head, 2));
        extension = Some((be16(head, 0), len + 4, len + 4 + size));
        len += 4 + size;
    }
    (len <= b.len()).then_some(Header {
        pt: b[1] & 127,
        marker: b[1] & 0x80 != 0,
        padded: b[0] & 0x20 != 0,
        sequence: be16(b, 2),
        ts: be32(b, 4),
        ssrc: be32(b, 8),
        len,
        extension,
    })
}

/// The two-byte value of header extension `id`, in either form.
pub fn extension(b: &[u8], head: &Header, id: Option<u8>) -> Option<u16> {
    let id = id?;
    let (profile, start, end) = head.extension?;
    let mut body = b.get(start..end)?;
    let long = profile >> 4 == 0x100;
    if !long && profile != 0xbede {
        return None;
    }
    while let Some(&first) = body.first() {
        if first == 0 {
            body = &body[1..];
            continue;
        }
        let (found, size, skip) = if long {
            (first, usize::from(*body.get(1)?), 2)
        } else {
            (first >> 4, usize::from(first & 15) + 1, 1)
        };
        let value = body.get(skip..skip + size)?;
        if found == id && size == 2 {
            return Some(be16(value, 0));
        }
        body = &body[skip + size..];
    }
    None
}

/// The payload without its padding; None when the padding is longer than the payload.
pub fn unpadded(payload: &[u8], padded: bool) -> Option<&[u8]> {
    if !padded {
        return Some(payload);
    }
    let padding = usize::from(*payload.last()?);
    if padding == 0 {
        return None;
    }
    payload.get(..payload.len().checked_sub(padding)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_extension(profile: [u8; 2], body: &[u8]) -> Vec<u8> {
        let mut b = vec![0x90, 0xe0, 0, 7, 0, 0, 0, 9, 0, 0, 0, 1];
        b.extend_from_slice(&profile);
        b.extend_from_slice(&((body.len() / 4) as u16).to_be_bytes());
        b.extend_from_slice(body);
        b.push(0xaa);
        b
    }

    #[test]
    fn both_forms_of_extension_are_read() {
        let short = with_extension([0xbe, 0xde], &[0x10, 0x41, 0, 0x31, 1, 2, 0, 0]);
        let head = parse(&short).expect("a header");
        assert_eq!((head.pt, head.marker, head.sequence), (96, true, 7));
        assert_eq!(extension(&short, &head, Some(3)), Some(0x0102));
        assert_eq!(extension(&short, &head, Some(4)), None);
        assert_eq!(&short[head.len..], &[0xaa]);
        let long = with_extension([0x10, 0], &[1, 0, 3, 2, 1, 2, 0, 0]);
        let head = parse(&long).expect("a header");
        assert_eq!(extension(&long, &head, Some(3)), Some(0x0102));
    }

    #[test]
    fn padding_is_cut_and_lies_are_refused() {
        assert_eq!(unpadded(&[1, 2, 0, 2], true), Some(&[1, 2][..]));
        assert_eq!(unpadded(&[1, 2, 0, 9], true), None);
        assert_eq!(unpadded(&[1, 0], true), None);
        assert_eq!(unpadded(&[], true), None);
    }

    #[test]
    fn truncated_headers_are_refused() {
        let whole = with_extension([0xbe, 0xde], &[0x10, 0x41, 0, 0]);
        for n in 0..whole.len() - 1 {
            assert!(parse(&whole[..n]).is_none(), "{n}");
        }
    }
}
