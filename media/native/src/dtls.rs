//! The DTLS 1.2 handshake of one peer: in come its datagrams, out come ours and the SRTP keys.
//!
//! A thin engine over `dimpl` that adds what WebRTC asks on top: the peer's certificate must have
//! the fingerprint that its SDP promised before any key is given away. No I/O; time is passed in.
//! There is no cookie exchange: the ICE check has proved the address before DTLS is let through.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest;
use dimpl::{Config, Dtls, DtlsCertificate, Output, SrtpProfile};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

/// Largest DTLS datagram we send.
pub const DATAGRAM_BYTES_MAX: usize = 1_200;
/// First retransmission of a flight, as browsers have it; doubled at each further one.
const RETRANSMIT_FIRST: Duration = Duration::from_millis(50);
const RETRANSMISSIONS_MAX: usize = 8;
const HANDSHAKE_MAX: Duration = Duration::from_secs(30);
/// Outputs taken in one `poll`: a bound against an engine that never comes to rest.
const OUTPUTS_MAX: usize = 256;

/// Our certificate and key, both DER (the key PKCS#8).
#[derive(Clone)]
pub struct Certificate {
    inner: DtlsCertificate,
    fingerprint: String,
}

impl Certificate {
    /// Makes a new self-signed one (ECDSA P-256). Cost: about 0.1 ms.
    pub fn generate() -> Result<Self, String> {
        let inner = dimpl::certificate::generate_self_signed_certificate()
            .map_err(|e| format!("no certificate could be made: {e}"))?;
        Ok(Self::new(inner.certificate, inner.private_key))
    }

    pub fn new(certificate: Vec<u8>, private_key: Vec<u8>) -> Self {
        let inner = DtlsCertificate {
            certificate,
            private_key,
        };
        let fingerprint = inner.fingerprint_str();
        Certificate { inner, fingerprint }
    }

    /// SHA-256, "AA:BB:…".
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// DER certificate and DER key.
    pub fn der(&self) -> (&[u8], &[u8]) {
        (&self.inner.certificate, &self.inner.private_key)
    }
}

/// What the handshake exported for SRTP (RFC 5764).
#[derive(Clone, PartialEq, Eq)]
pub struct Keys {
    /// Client key, server key, client salt, server salt.
    pub material: Vec<u8>,
    /// 0: AES-128-CM + HMAC-SHA1-80, 1: AES-128-GCM, 2: AES-256-GCM.
    pub profile: u8,
    /// We were the DTLS client.
    pub active: bool,
}

/// What a `poll` found.
pub enum Progress {
    /// Nothing new; go on.
    Pending,
    /// The peer is who its SDP said: media may flow. Comes once.
    Done(Keys),
    /// Give up on this peer.
    Failed(String),
    /// The peer said goodbye (close_notify).
    Closed,
}

/// One peer's handshake, and afterwards the little DTLS that is left (retransmissions, goodbye).
pub struct Handshake {
    dtls: Dtls,
    fingerprint: Vec<u8>,
    active: bool,
    proven: bool,
    keys: Option<Keys>,
    failed: Option<String>,
    next: Option<Instant>,
}

impl Handshake {
    /// `fingerprint`: of the peer's certificate; its length tells the hash (32, 48 or 64 bytes).
    pub fn new(
        certificate: &Certificate,
        active: bool,
        fingerprint: Vec<u8>,
        now: Instant,
    ) -> Result<Self, String> {
        let mut dtls = Dtls::new_12(config()?, certificate.inner.clone(), now);
        dtls.set_active(active);
        let mut this = Handshake {
            dtls,
            fingerprint,
            active,
            proven: false,
            keys: None,
            failed: None,
            next: Some(now),
        };
        this.timeout(now);
        Ok(this)
    }

    /// Takes one datagram of the peer. `poll` afterwards.
    pub fn receive(&mut self, datagram: &[u8], now: Instant) {
        self.timeout(now);
        if self.failed.is_some() {
            return;
        }
        if let Err(e) = self.dtls.handle_packet(datagram) {
            self.fail(format!("DTLS: {e}"));
        }
    }

    /// Lets time pass. `poll` afterwards.
    pub fn timeout(&mut self, now: Instant) {
        if self.failed.is_some() {
            return;
        }
        if let Err(e) = self.dtls.handle_timeout(now) {
            self.fail(format!("DTLS: {e}"));
        }
    }

    /// When `timeout` wants to be called next.
    pub fn next_timeout(&self) -> Option<Instant> {
        self.next
    }

    /// Sends what is to be sent through `out`, and tells what came of it. Call after each input.
    pub fn poll(&mut self, out: &mut impl FnMut(&[u8])) -> Progress {
        let mut buffer = [0; 2048];
        for _ in 0..OUTPUTS_MAX {
            if let Some(reason) = &self.failed {
                return Progress::Failed(reason.clone());
            }
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(datagram) => out(datagram),
                Output::PeerCert(der) => match check(der, &self.fingerprint) {
                    Ok(()) => self.proven = true,
                    Err(reason) => self.fail(reason),
                },
                Output::KeyingMaterial(material, profile) => {
                    self.keys = Some(Keys {
                        material: material.to_vec(),
                        profile: profile_number(profile),
                        active: self.active,
                    });
                }
                Output::CloseNotify => return Progress::Closed,
                Output::BufferTooSmall { needed } => {
                    self.fail(format!("DTLS: an output of {needed} bytes"));
                }
                Output::Timeout(at) => {
                    self.next = Some(at);
                    return self.take_keys();
                }
                _ => {}
            }
        }
        self.fail("DTLS: the engine does not come to rest".into());
        Progress::Failed("DTLS: the engine does not come to rest".into())
    }

    /// Says goodbye: queues a close_notify, to be sent by the next `poll`.
    pub fn close(&mut self) {
        if self.failed.is_none() {
            if let Err(e) = self.dtls.close() {
                self.fail(format!("DTLS: {e}"));
            }
        }
    }

    fn take_keys(&mut self) -> Progress {
        match self.keys.take() {
            Some(keys) if self.proven => Progress::Done(keys),
            Some(_) => {
                self.fail("DTLS: the peer showed no certificate".into());
                Progress::Failed("DTLS: the peer showed no certificate".into())
            }
            None => Progress::Pending,
        }
    }

    fn fail(&mut self, reason: String) {
        self.keys = None;
        self.failed.get_or_insert(reason);
    }
}

/// Whether a record is an alert (the only DTLS that a settled peer still sends of itself).
pub fn is_alert(datagram: &[u8]) -> bool {
    datagram.first() == Some(&21)
}

/// One configuration for all peers: building one self-tests the crypto provider (about 1 ms).
fn config() -> Result<Arc<Config>, String> {
    static CONFIG: OnceLock<Result<Arc<Config>, String>> = OnceLock::new();
    CONFIG
        .get_or_init(|| {
            Config::builder()
                .mtu(DATAGRAM_BYTES_MAX)
                .use_server_cookie(false)
                .flight_start_rto(RETRANSMIT_FIRST)
                .flight_retries(RETRANSMISSIONS_MAX)
                .handshake_timeout(HANDSHAKE_MAX)
                .build()
                .map(Arc::new)
                .map_err(|e| format!("DTLS cannot be set up: {e}"))
        })
        .clone()
}

fn profile_number(profile: SrtpProfile) -> u8 {
    match profile {
        SrtpProfile::AEAD_AES_256_GCM => 2,
        SrtpProfile::AEAD_AES_128_GCM => 1,
        _ => 0,
    }
}

fn check(der: &[u8], expected: &[u8]) -> Result<(), String> {
    let algorithm = match expected.len() {
        32 => &digest::SHA256,
        48 => &digest::SHA384,
        64 => &digest::SHA512,
        _ => return Err("the fingerprint has a length of no known hash".into()),
    };
    verify_slices_are_equal(digest::digest(algorithm, der).as_ref(), expected)
        .map_err(|_| "the peer's certificate has another fingerprint than its SDP said".into())
}

#[cfg(test)]
mod tests;
