//! STUN (RFC 8489) as ICE uses it (RFC 8445): binding requests and their answers, nothing else.
//!
//! The server side answers as an ICE-lite agent; the client side (load client) asks and checks the
//! answers. No I/O, no clock, no randomness; everything read is bounded by the datagram.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use std::net::{IpAddr, SocketAddr};

const COOKIE: u32 = 0x2112_a442;
const FINGERPRINT_XOR: u32 = 0x5354_554e;
const HEAD_BYTES: usize = 20;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const BINDING_ERROR: u16 = 0x0111;

const USERNAME: u16 = 0x0006;
const MESSAGE_INTEGRITY: u16 = 0x0008;
const ERROR_CODE: u16 = 0x0009;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const FINGERPRINT: u16 = 0x8028;
const ICE_CONTROLLED: u16 = 0x8029;
const ICE_CONTROLLING: u16 = 0x802a;

/// Attributes read of one message; the rest is ignored.
const ATTRIBUTES_MAX: usize = 32;
/// Room that any answer of ours fits in.
pub const ANSWER_BYTES_MAX: usize = 96;
/// Room that any request of ours fits in, for usernames up to 512 bytes.
pub const REQUEST_BYTES_MAX: usize = 640;

/// A binding request that proved it knows our password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Request {
    /// USE-CANDIDATE: the peer wants media on this pair.
    pub nominated: bool,
    /// The peer says it is controlled, as a lite agent (we) always is: role conflict (487).
    pub controlled: bool,
}

/// The key of short-term credentials.
pub fn key(pwd: &str) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, pwd.as_bytes())
}

/// Whether a datagram looks like STUN: first two bits zero, the cookie, a length that fits.
pub fn is_stun(b: &[u8]) -> bool {
    b.len() >= HEAD_BYTES
        && b[0] < 64
        && b[4..8] == COOKIE.to_be_bytes()
        && be16(b, 2).is_multiple_of(4)
        && HEAD_BYTES + be16(b, 2) as usize == b.len()
}

/// The local half of USERNAME ("local:remote") of a binding request: which peer it is for.
pub fn ufrag(b: &[u8]) -> Option<&str> {
    if !is_stun(b) || be16(b, 0) != BINDING_REQUEST {
        return None;
    }
    let value = find(b, USERNAME)?.value;
    std::str::from_utf8(value).ok()?.split(':').next()
}

/// A binding request whose MESSAGE-INTEGRITY fits `key` and whose FINGERPRINT, if any, is right.
pub fn verify(b: &[u8], key: &hmac::Key) -> Option<Request> {
    if !is_stun(b) || be16(b, 0) != BINDING_REQUEST || !authentic(b, key) {
        return None;
    }
    let mut request = Request {
        nominated: false,
        controlled: false,
    };
    for a in before_integrity(b) {
        request.nominated |= a.kind == USE_CANDIDATE;
        request.controlled |= a.kind == ICE_CONTROLLED;
    }
    Some(request)
}

/// Writes the success response to a verified request into `out`, gives its length.
pub fn answer(
    request: &[u8],
    from: SocketAddr,
    key: &hmac::Key,
    out: &mut [u8; ANSWER_BYTES_MAX],
) -> usize {
    let mut w = Writer::new(out, BINDING_SUCCESS, transaction(request));
    w.mapped_address(from);
    w.finish(key)
}

/// Writes 487 (Role Conflict) to a verified request of a peer that says it is controlled.
pub fn role_conflict(request: &[u8], key: &hmac::Key, out: &mut [u8; ANSWER_BYTES_MAX]) -> usize {
    let mut w = Writer::new(out, BINDING_ERROR, transaction(request));
    let mut value = [0u8; 17];
    value[..4].copy_from_slice(&[0, 0, 4, 87]);
    value[4..].copy_from_slice(b"Role Conflict");
    w.attribute(ERROR_CODE, &value);
    w.finish(key)
}

/// What a controlling client asks with.
pub struct Ask<'a> {
    pub transaction: [u8; 12],
    /// "remote:local".
    pub username: &'a str,
    pub priority: u32,
    pub tie_breaker: u64,
    pub nominate: bool,
}

/// Writes a binding request into `out`, gives its length. The username must be at most 512 bytes.
pub fn request(ask: &Ask, key: &hmac::Key, out: &mut [u8; REQUEST_BYTES_MAX]) -> usize {
    assert!(
        ask.username.len() <= 512,
        "username too long for a STUN attribute"
    );
    let mut w = Writer::new(out, BINDING_REQUEST, ask.transaction);
    w.attribute(USERNAME, ask.username.as_bytes());
    w.attribute(PRIORITY, &ask.priority.to_be_bytes());
    w.attribute(ICE_CONTROLLING, &ask.tie_breaker.to_be_bytes());
    if ask.nominate {
        w.attribute(USE_CANDIDATE, &[]);
    }
    w.finish(key)
}

/// What an authentic answer to a request of ours says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Our address as the other side sees it.
    Success(SocketAddr),
    /// Error code, e.g. 487.
    Error(u16),
}

/// The transaction id and the content of an authentic answer (keyed by the other side's password).
pub fn verify_answer(b: &[u8], key: &hmac::Key) -> Option<([u8; 12], Answer)> {
    if !is_stun(b) || !authentic(b, key) {
        return None;
    }
    let answer = match be16(b, 0) {
        BINDING_SUCCESS => Answer::Success(unmap(b)?),
        BINDING_ERROR => {
            let value = find(b, ERROR_CODE)?.value;
            let (class, number) = (*value.get(2)? & 7, *value.get(3)?);
            Answer::Error(u16::from(class) * 100 + u16::from(number))
        }
        _ => return None,
    };
    Some((transaction(b), answer))
}

// -- details ------------------------------------------------------------------------------

fn be16(b: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([b[at], b[at + 1]])
}

fn transaction(b: &[u8]) -> [u8; 12] {
    let mut id = [0; 12];
    id.copy_from_slice(&b[8..HEAD_BYTES]);
    id
}

struct Attribute<'a> {
    kind: u16,
    /// Where its four-byte head starts.
    at: usize,
    value: &'a [u8],
}

/// Attributes in order; ends at the first that does not fit.
fn attributes(b: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    let mut next = HEAD_BYTES;
    std::iter::from_fn(move || {
        let at = next;
        let head = b.get(at..at + 4)?;
        let length = be16(head, 2) as usize;
        let value = b.get(at + 4..at + 4 + length)?;
        next = at + 4 + length.next_multiple_of(4);
        Some(Attribute {
            kind: be16(head, 0),
            at,
            value,
        })
    })
    .take(ATTRIBUTES_MAX)
}

/// What MESSAGE-INTEGRITY covers; attributes after it are to be ignored (RFC 8489, 14.5).
fn before_integrity(b: &[u8]) -> impl Iterator<Item = Attribute<'_>> {
    attributes(b).take_while(|a| a.kind != MESSAGE_INTEGRITY)
}

fn find(b: &[u8], kind: u16) -> Option<Attribute<'_>> {
    before_integrity(b).find(|a| a.kind == kind)
}

fn authentic(b: &[u8], key: &hmac::Key) -> bool {
    let Some(mac) = attributes(b).find(|a| a.kind == MESSAGE_INTEGRITY) else {
        return false;
    };
    if mac.value.len() != 20 || !fingerprint_fits(b) {
        return false;
    }
    let mut context = hmac::Context::with_key(key);
    context.update(&b[..2]);
    context.update(&((mac.at + 24 - HEAD_BYTES) as u16).to_be_bytes());
    context.update(&b[4..mac.at]);
    verify_slices_are_equal(context.sign().as_ref(), mac.value).is_ok()
}

/// True without a FINGERPRINT, else whether it is the last attribute and right.
fn fingerprint_fits(b: &[u8]) -> bool {
    let Some(a) = attributes(b).find(|a| a.kind == FINGERPRINT) else {
        return true;
    };
    a.at + 8 == b.len() && *a.value == fingerprint(&b[..a.at]).to_be_bytes()
}

fn fingerprint(b: &[u8]) -> u32 {
    crc32(b) ^ FINGERPRINT_XOR
}

fn unmap(b: &[u8]) -> Option<SocketAddr> {
    let value = find(b, XOR_MAPPED_ADDRESS)?.value;
    let port = be16(value.get(2..4)?, 0) ^ (COOKIE >> 16) as u16;
    let ip: IpAddr = match (value[1], value.len()) {
        (1, 8) => {
            let v4: [u8; 4] = value[4..8].try_into().ok()?;
            (u32::from_be_bytes(v4) ^ COOKIE).to_be_bytes().into()
        }
        (2, 20) => {
            let v6: [u8; 16] = value[4..20].try_into().ok()?;
            xor_v6(v6, &transaction(b)).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

fn xor_v6(mut address: [u8; 16], transaction: &[u8; 12]) -> [u8; 16] {
    let mask = COOKIE
        .to_be_bytes()
        .into_iter()
        .chain(transaction.iter().copied());
    for (byte, mask) in address.iter_mut().zip(mask) {
        *byte ^= mask;
    }
    address
}

/// Writes a message front to back; the buffer is large enough by construction.
struct Writer<'a> {
    out: &'a mut [u8],
    end: usize,
}

impl<'a> Writer<'a> {
    fn new(out: &'a mut [u8], kind: u16, transaction: [u8; 12]) -> Self {
        out[..2].copy_from_slice(&kind.to_be_bytes());
        out[4..8].copy_from_slice(&COOKIE.to_be_bytes());
        out[8..HEAD_BYTES].copy_from_slice(&transaction);
        Writer {
            out,
            end: HEAD_BYTES,
        }
    }

    fn attribute(&mut self, kind: u16, value: &[u8]) {
        let padded = value.len().next_multiple_of(4);
        let place = &mut self.out[self.end..self.end + 4 + padded];
        place[..2].copy_from_slice(&kind.to_be_bytes());
        place[2..4].copy_from_slice(&(value.len() as u16).to_be_bytes());
        place[4..4 + value.len()].copy_from_slice(value);
        place[4 + value.len()..].fill(0);
        self.end += 4 + padded;
    }

    fn mapped_address(&mut self, from: SocketAddr) {
        let port = (from.port() ^ (COOKIE >> 16) as u16).to_be_bytes();
        match from.ip().to_canonical() {
            IpAddr::V4(ip) => {
                let ip = (u32::from(ip) ^ COOKIE).to_be_bytes();
                let value = [0, 1, port[0], port[1], ip[0], ip[1], ip[2], ip[3]];
                self.attribute(XOR_MAPPED_ADDRESS, &value);
            }
            IpAddr::V6(ip) => {
                let mut value = [0; 20];
                value[..4].copy_from_slice(&[0, 2, port[0], port[1]]);
                value[4..].copy_from_slice(&xor_v6(ip.octets(), &transaction(self.out)));
                self.attribute(XOR_MAPPED_ADDRESS, &value);
            }
        }
    }

    fn set_length(&mut self, end: usize) {
        self.out[2..4].copy_from_slice(&((end - HEAD_BYTES) as u16).to_be_bytes());
    }

    fn finish(mut self, key: &hmac::Key) -> usize {
        self.set_length(self.end + 24);
        let mac = hmac::sign(key, &self.out[..self.end]);
        self.attribute(MESSAGE_INTEGRITY, mac.as_ref());
        self.set_length(self.end + 8);
        let print = fingerprint(&self.out[..self.end]);
        self.attribute(FINGERPRINT, &print.to_be_bytes());
        self.end
    }
}

static CRC: [u32; 256] = crc_table();

const fn crc_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut c, mut bit) = (i as u32, 0);
        while bit < 8 {
            c = if c & 1 == 1 {
                0xedb8_8320 ^ (c >> 1)
            } else {
                c >> 1
            };
            bit += 1;
        }
        table[i] = c;
        i += 1;
    }
    table
}

fn crc32(b: &[u8]) -> u32 {
    !b.iter().fold(!0, |c, byte| {
        CRC[((c ^ u32::from(*byte)) & 255) as usize] ^ (c >> 8)
    })
}

#[cfg(test)]
mod tests;
