//! SRTP and SRTCP both ways (RFC 3711, RFC 7714): keys derived once, packets sealed in place.
//!
//! AES-GCM with 128 and 256 bits, and AES-CM-128 with HMAC-SHA1-80. What this module does not do:
//! it counts nothing. Callers choose the packet index; for AES-GCM the same index under one key and
//! SSRC must never carry different bytes.

use crate::wire::record;
use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce, UnboundKey, AES_128_GCM, AES_256_GCM};
use aws_lc_rs::cipher::{EncryptingKey, EncryptionContext, UnboundCipherKey, AES_128, AES_256};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::hmac;
use aws_lc_rs::iv::FixedLength;

mod window;
pub use window::Window;

const CM_TAG_BYTES: usize = 10;
const GCM_TAG_BYTES: usize = 16;

record! {
    /// What DTLS exported (RFC 5764): client key, server key, client salt, server salt.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Keys {
        pub material: Vec<u8>,
        /// 0: AES-128-CM + HMAC-SHA1-80, 1: AES-128-GCM, 2: AES-256-GCM.
        pub profile: u8,
        /// We were the DTLS client.
        pub active: bool,
    }
}

impl From<crate::dtls::Keys> for Keys {
    fn from(keys: crate::dtls::Keys) -> Self {
        Keys {
            material: keys.material,
            profile: keys.profile,
            active: keys.active,
        }
    }
}

impl Keys {
    /// (key bytes, salt bytes) of the profile.
    fn sizes(&self) -> (usize, usize) {
        match self.profile {
            2 => (32, 12),
            1 => (16, 12),
            _ => (16, 14),
        }
    }

    /// Whether there are as many bytes as the profile needs.
    pub fn is_sound(&self) -> bool {
        let (key, salt) = self.sizes();
        self.material.len() >= 2 * (key + salt)
    }
}

/// Which direction's keys.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Out,
    In,
}

enum Cipher {
    Gcm {
        key: Box<LessSafeKey>,
        salt: [u8; 12],
    },
    Cm {
        key: Box<EncryptingKey>,
        salt: [u8; 14],
        mac: Box<hmac::Key>,
    },
}

fn counter_mode(key: &[u8]) -> EncryptingKey {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    UnboundCipherKey::new(algorithm, key)
        .and_then(EncryptingKey::ctr)
        .expect("the key has the algorithm's length")
}

fn key_stream(key: &EncryptingKey, iv: [u8; 16], body: &mut [u8]) {
    let context = EncryptionContext::Iv128(FixedLength::from(iv));
    key.less_safe_encrypt(body, context)
        .expect("counter mode takes any length");
}

/// RFC 3711 4.3: AES-CM key stream with IV = salt ^ label.
fn derive(prf: &EncryptingKey, salt: &[u8], label: u8, out: &mut [u8]) {
    let mut iv = [0u8; 16];
    iv[..salt.len()].copy_from_slice(salt);
    iv[7] ^= label;
    out.fill(0);
    key_stream(prf, iv, out);
}

/// `label`: 0 for SRTP, 3 for SRTCP. The keys must be sound.
fn cipher(keys: &Keys, way: Way, label: u8) -> Cipher {
    let (key_len, salt_len) = keys.sizes();
    let (key_at, salt_at) = if keys.active == (way == Way::Out) {
        (0, 0)
    } else {
        (key_len, salt_len)
    };
    let master = &keys.material[key_at..key_at + key_len];
    let salt = &keys.material[2 * key_len + salt_at..][..salt_len];
    let prf = counter_mode(master);
    let mut key = [0u8; 32];
    let key = &mut key[..key_len];
    derive(&prf, salt, label, key);
    if keys.profile == 0 {
        let mut session_salt = [0u8; 14];
        derive(&prf, salt, label + 2, &mut session_salt);
        let mut mac = [0u8; 20];
        derive(&prf, salt, label + 1, &mut mac);
        Cipher::Cm {
            key: Box::new(counter_mode(key)),
            salt: session_salt,
            mac: Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &mac)),
        }
    } else {
        let mut session_salt = [0u8; 12];
        derive(&prf, salt, label + 2, &mut session_salt);
        let algorithm = if key_len == 32 {
            &AES_256_GCM
        } else {
            &AES_128_GCM
        };
        let key = UnboundKey::new(algorithm, key).expect("the key has the algorithm's length");
        Cipher::Gcm {
            key: Box::new(LessSafeKey::new(key)),
            salt: session_salt,
        }
    }
}

fn gcm_nonce(salt: &[u8; 12], ssrc: u32, index: u64) -> Nonce {
    let mut iv = *salt;
    for (x, y) in iv[2..6].iter_mut().zip(ssrc.to_be_bytes()) {
        *x ^= y;
    }
    for (x, y) in iv[6..].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *x ^= y;
    }
    Nonce::assume_unique_for_key(iv)
}

fn cm_apply(key: &EncryptingKey, salt: &[u8; 14], ssrc: u32, index: u64, body: &mut [u8]) {
    let mut iv = [0u8; 16];
    iv[..14].copy_from_slice(salt);
    for (x, y) in iv[4..8].iter_mut().zip(ssrc.to_be_bytes()) {
        *x ^= y;
    }
    for (x, y) in iv[8..14].iter_mut().zip(&index.to_be_bytes()[2..]) {
        *x ^= y;
    }
    key_stream(key, iv, body);
}

fn cm_tag(mac: &hmac::Key, packet: &[u8], tail: &[u8]) -> [u8; CM_TAG_BYTES] {
    let mut context = hmac::Context::with_key(mac);
    context.update(packet);
    context.update(tail);
    let whole = context.sign();
    let mut tag = [0; CM_TAG_BYTES];
    tag.copy_from_slice(&whole.as_ref()[..CM_TAG_BYTES]);
    tag
}

/// The low 32 bits of the index's upper part: the roll-over counter that the tag covers.
fn roll_over(index: u64) -> [u8; 4] {
    ((index >> 16) as u32).to_be_bytes()
}

/// RTP packets, one direction of one peer.
pub struct Srtp(Cipher);

impl Srtp {
    pub fn new(keys: &Keys, way: Way) -> Self {
        Srtp(cipher(keys, way, 0))
    }

    /// Bytes that a protected packet is longer than the clear one.
    pub fn tag_len(&self) -> usize {
        match self.0 {
            Cipher::Gcm { .. } => GCM_TAG_BYTES,
            Cipher::Cm { .. } => CM_TAG_BYTES,
        }
    }

    /// `packet`: header of `header_len` bytes, payload, room for the tag; encrypted in place.
    pub fn seal(&self, packet: &mut [u8], header_len: usize, ssrc: u32, index: u64) {
        let end = packet.len() - self.tag_len();
        match &self.0 {
            Cipher::Gcm { key, salt } => {
                let (head, rest) = packet.split_at_mut(header_len);
                let (body, tag) = rest.split_at_mut(end - header_len);
                let nonce = gcm_nonce(salt, ssrc, index);
                let sealed = key
                    .seal_in_place_separate_tag(nonce, Aad::from(&head[..]), body)
                    .expect("a datagram is shorter than GCM's limit");
                tag.copy_from_slice(sealed.as_ref());
            }
            Cipher::Cm { key, salt, mac } => {
                cm_apply(key, salt, ssrc, index, &mut packet[header_len..end]);
                let tag = cm_tag(mac, &packet[..end], &roll_over(index));
                packet[end..].copy_from_slice(&tag);
            }
        }
    }

    /// The clear payload, or None when the packet does not authenticate.
    pub fn open<'a>(
        &self,
        packet: &'a mut [u8],
        header_len: usize,
        ssrc: u32,
        index: u64,
    ) -> Option<&'a [u8]> {
        let end = packet.len().checked_sub(self.tag_len())?;
        if end < header_len {
            return None;
        }
        match &self.0 {
            Cipher::Gcm { key, salt } => {
                let (head, body) = packet.split_at_mut(header_len);
                let nonce = gcm_nonce(salt, ssrc, index);
                let clear = key.open_in_place(nonce, Aad::from(&head[..]), body);
                clear.ok().map(|b| &*b)
            }
            Cipher::Cm { key, salt, mac } => {
                let tag = cm_tag(mac, &packet[..end], &roll_over(index));
                verify_slices_are_equal(&tag, &packet[end..]).ok()?;
                cm_apply(key, salt, ssrc, index, &mut packet[header_len..end]);
                Some(&packet[header_len..end])
            }
        }
    }
}

/// RTCP compounds, one direction of one peer.
pub struct Srtcp(Cipher);

impl Srtcp {
    pub fn new(keys: &Keys, way: Way) -> Self {
        Srtcp(cipher(keys, way, 3))
    }

    /// Bytes that a protected packet is longer than the clear one.
    pub fn extra(&self) -> usize {
        match self.0 {
            Cipher::Gcm { .. } => GCM_TAG_BYTES + 4,
            Cipher::Cm { .. } => CM_TAG_BYTES + 4,
        }
    }

    /// `packet`: compound of at least 8 bytes and `extra()` bytes of room; encrypted in place.
    pub fn seal(&self, packet: &mut [u8], index: u32) {
        let end = packet.len() - self.extra();
        let ssrc = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        let word = (index | 1 << 31).to_be_bytes();
        match &self.0 {
            Cipher::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(packet, word);
                let nonce = gcm_nonce(salt, ssrc, u64::from(index));
                let tag = key
                    .seal_in_place_separate_tag(nonce, Aad::from(aad), &mut packet[8..end])
                    .expect("a datagram is shorter than GCM's limit");
                packet[end..end + GCM_TAG_BYTES].copy_from_slice(tag.as_ref());
                packet[end + GCM_TAG_BYTES..].copy_from_slice(&word);
            }
            Cipher::Cm { key, salt, mac } => {
                cm_apply(key, salt, ssrc, u64::from(index), &mut packet[8..end]);
                let tag = cm_tag(mac, &packet[..end], &word);
                packet[end..end + 4].copy_from_slice(&word);
                packet[end + 4..].copy_from_slice(&tag);
            }
        }
    }

    /// (index, clear compound), or None when the packet does not authenticate.
    pub fn open<'a>(&self, packet: &'a mut [u8]) -> Option<(u32, &'a [u8])> {
        let end = packet.len().checked_sub(self.extra())?;
        if end < 8 {
            return None;
        }
        let ssrc = u32::from_be_bytes(packet[4..8].try_into().ok()?);
        let at = match self.0 {
            Cipher::Gcm { .. } => end + GCM_TAG_BYTES,
            Cipher::Cm { .. } => end,
        };
        let word: [u8; 4] = packet[at..at + 4].try_into().ok()?;
        let index = u32::from_be_bytes(word);
        if index >> 31 == 0 {
            return None; // not encrypted: never a peer of ours
        }
        let index = index & 0x7fff_ffff;
        match &self.0 {
            Cipher::Gcm { key, salt } => {
                let aad = gcm_rtcp_aad(packet, word);
                let nonce = gcm_nonce(salt, ssrc, u64::from(index));
                let body = &mut packet[8..end + GCM_TAG_BYTES];
                key.open_in_place(nonce, Aad::from(aad), body).ok()?;
            }
            Cipher::Cm { key, salt, mac } => {
                let tag = cm_tag(mac, &packet[..end], &word);
                verify_slices_are_equal(&tag, &packet[end + 4..]).ok()?;
                cm_apply(key, salt, ssrc, u64::from(index), &mut packet[8..end]);
            }
        }
        Some((index, &packet[..end]))
    }
}

/// RFC 7714 9.1: the header and the index word are authenticated.
fn gcm_rtcp_aad(packet: &[u8], word: [u8; 4]) -> [u8; 12] {
    let mut aad = [0u8; 12];
    aad[..8].copy_from_slice(&packet[..8]);
    aad[8..].copy_from_slice(&word);
    aad
}

#[cfg(test)]
mod tests;
