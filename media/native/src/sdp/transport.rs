//! The transport's attributes: ICE credentials, the certificate's fingerprint, the DTLS role.

use super::parse::malformed;
use super::SdpFault;

/// Which end starts the DTLS handshake, as the offer puts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Setup {
    ActPass,
    Active,
    Passive,
    HoldConn,
}

/// The transport's attributes of the session or of one section.
#[derive(Clone, Debug, Default)]
pub struct Transport<'a> {
    pub ufrag: Option<&'a str>,
    pub pwd: Option<&'a str>,
    /// The hash of the peer's certificate: SHA-256 when several are given.
    pub fingerprint: Option<Vec<u8>>,
    pub setup: Option<Setup>,
}

/// Takes an attribute if it is one of the transport's; others are ignored.
pub fn transport_attribute<'a>(
    transport: &mut Transport<'a>,
    number: usize,
    (name, value): (&str, &'a str),
) -> Result<(), SdpFault> {
    let wrong = |reason: &str| malformed(number, &format!("a={name}: {reason}"));
    let is_ice = |v: &str| {
        v.bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/')
    };
    match name {
        // Some stacks write '-' or '_' here; STUN carries any text, so take what is harmless.
        "ice-ufrag" => {
            let text = value.replace(['-', '_', '=', '.'], "");
            if !is_ice(&text) || !(4..=256).contains(&value.len()) {
                return Err(wrong("not 4 to 256 letters, digits, + or /"));
            }
            transport.ufrag = Some(value);
        }
        "ice-pwd" => {
            let text = value.replace(['-', '_', '=', '.'], "");
            if !is_ice(&text) || !(22..=256).contains(&value.len()) {
                return Err(wrong("not 22 to 256 letters, digits, + or /"));
            }
            transport.pwd = Some(value);
        }
        "setup" => {
            transport.setup = Some(match value.trim() {
                "actpass" => Setup::ActPass,
                "active" => Setup::Active,
                "passive" => Setup::Passive,
                "holdconn" => Setup::HoldConn,
                _ => return Err(wrong("not actpass, active or passive")),
            });
        }
        "fingerprint" => {
            if let Some(hash) = fingerprint(value).map_err(|reason| wrong(&reason))? {
                let have = transport.fingerprint.as_ref().map_or(usize::MAX, Vec::len);
                if hash.len() < have {
                    transport.fingerprint = Some(hash);
                }
            }
        }
        _ => {}
    }
    Ok(())
}

/// The bytes of a fingerprint; None for a hash we do not know.
fn fingerprint(value: &str) -> Result<Option<Vec<u8>>, String> {
    let (hash, digits) = value.trim().split_once(' ').ok_or("not \"hash AA:BB:…\"")?;
    let length = match hash.to_ascii_lowercase().as_str() {
        "sha-256" => 32,
        "sha-384" => 48,
        "sha-512" => 64,
        _ => return Ok(None),
    };
    let byte = |pair: &str| {
        (pair.len() == 2)
            .then(|| u8::from_str_radix(pair, 16).ok())
            .flatten()
    };
    let bytes: Option<Vec<u8>> = digits.trim().split(':').map(byte).collect();
    let bytes = bytes.ok_or("not pairs of hexadecimal digits with colons between")?;
    if bytes.len() == length {
        return Ok(Some(bytes));
    }
    Err(format!(
        "{hash} has {length} bytes, here are {}",
        bytes.len()
    ))
}
