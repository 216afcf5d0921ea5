//! One client: its socket, one ICE pair, DTLS, then media by its role.

use super::latency::Histogram;
use super::offer::{self, Answered, Terms};
use super::publisher::{Publisher, Recording, PACE_MAX};
use super::rtp::Channel;
use super::viewer::Viewer;
use super::ClientStats;
use crate::dtls::{Certificate, Handshake, Progress};
use crate::rtcp;
use crate::srtp::Keys;
use crate::stun;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// The first check goes again after this long, then twice that, up to `ASK_AGAIN_MAX`.
const ASK_AGAIN_FIRST: Duration = Duration::from_millis(50);
const ASK_AGAIN_MAX: Duration = Duration::from_millis(800);
/// Consent (RFC 7675) is asked for about this often.
const CONSENT_EVERY: Duration = Duration::from_millis(4_000);
const CONSENT_SPREAD_MS: u64 = 1_000;
/// Priority of a host candidate as a peer-reflexive one (RFC 8445, 5.1.2 with type 110).
const PRIORITY: u32 = (110 << 24) | (65_535 << 8) | 255;

/// What every client has, whatever its role.
pub struct Common {
    pub id: u32,
    socket: UdpSocket,
    address: SocketAddr,
    ufrag: String,
    pwd: String,
    certificate: Arc<Certificate>,
    offered: Instant,
}

impl Common {
    pub fn new(
        id: u32,
        socket: UdpSocket,
        certificate: Arc<Certificate>,
        offered: Instant,
    ) -> Result<Self, String> {
        let wrong = |e: std::io::Error| format!("the socket: {e}");
        socket.set_nonblocking(true).map_err(wrong)?;
        let address = socket.local_addr().map_err(wrong)?;
        let text = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        Ok(Common {
            id,
            socket,
            address,
            ufrag: text(&random::<4>()?),
            pwd: text(&random::<12>()?),
            certificate,
            offered,
        })
    }

    pub fn terms(&self) -> Terms<'_> {
        Terms {
            ufrag: &self.ufrag,
            pwd: &self.pwd,
            fingerprint: self.certificate.fingerprint(),
            address: self.address,
            session_id: u64::from(self.id),
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N], String> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| "no random numbers".to_owned())?;
    Ok(bytes)
}

pub enum Role {
    Viewer(Box<Viewer>),
    Publisher(Box<Publisher>),
}

impl Role {
    pub fn viewer(decrypt: bool, feedback: bool) -> Self {
        Role::Viewer(Box::new(Viewer::new(decrypt, feedback)))
    }

    pub fn publisher(
        recording: Recording,
        answer_pli: bool,
        pace: Duration,
    ) -> Result<Self, String> {
        if pace > PACE_MAX {
            return Err(format!("the pace is longer than {PACE_MAX:?}"));
        }
        let publisher = Publisher::new(recording, answer_pli, pace, random()?);
        Ok(Role::Publisher(Box::new(publisher)))
    }

    pub fn offer(&self, terms: &Terms) -> String {
        match self {
            Role::Viewer(_) => offer::viewer(terms),
            Role::Publisher(p) => {
                offer::publisher(terms, p.profile(), p.sources(true), p.sources(false))
            }
        }
    }
}

/// The one candidate pair.
struct Pair {
    username: String,
    remote_key: aws_lc_rs::hmac::Key,
    own_key: aws_lc_rs::hmac::Key,
    tie_breaker: u64,
    transaction: [u8; 12],
    next: Instant,
    pause: Duration,
}

enum Phase {
    Offered,
    /// No answer to a check yet.
    Checking {
        fingerprint: Vec<u8>,
        active: bool,
    },
    Securing(Box<Handshake>),
    /// The handshake stays until media proves that the server needs no more of it.
    Up {
        channel: Box<Channel>,
        left: Option<Box<Handshake>>,
    },
    Closed,
}

pub struct Client {
    common: Common,
    role: Role,
    pair: Option<Pair>,
    phase: Phase,
    stats: ClientStats,
}

impl Client {
    pub fn new(common: Common, role: Role) -> Self {
        let stats = ClientStats::new(common.id);
        Client {
            common,
            role,
            pair: None,
            phase: Phase::Offered,
            stats,
        }
    }

    pub fn id(&self) -> u32 {
        self.common.id
    }

    pub fn socket(&self) -> &UdpSocket {
        &self.common.socket
    }

    pub fn is_sender(&self) -> bool {
        matches!(self.role, Role::Publisher(_))
    }

    pub fn is_closed(&self) -> bool {
        matches!(self.phase, Phase::Closed)
    }

    pub fn stats(&self) -> ClientStats {
        let mut stats = self.stats;
        if let Role::Viewer(viewer) = &self.role {
            stats.lost = viewer.lost();
        }
        stats
    }

    /// Starts connecting.
    pub fn answer(&mut self, answered: Answered, now: Instant) -> Result<(), String> {
        if !matches!(self.phase, Phase::Offered) {
            return Err("the client has its answer already".into());
        }
        let connected = self.common.socket.connect(answered.remote);
        connected.map_err(|e| format!("{}: {e}", answered.remote))?;
        self.stats.server_port = answered.remote.port();
        match &mut self.role {
            Role::Viewer(viewer) => viewer.begin(answered.payloads, answered.pairs),
            Role::Publisher(publisher) => publisher.begin(&answered.payloads),
        }
        self.pair = Some(Pair {
            username: format!("{}:{}", answered.ufrag, self.common.ufrag),
            remote_key: stun::key(&answered.pwd),
            own_key: stun::key(&self.common.pwd),
            tie_breaker: u64::from_be_bytes(random()?),
            transaction: random()?,
            next: now,
            pause: ASK_AGAIN_FIRST,
        });
        self.phase = Phase::Checking {
            fingerprint: answered.fingerprint,
            active: answered.active,
        };
        self.tick(now);
        Ok(())
    }

    /// Says goodbye and goes.
    pub fn close(&mut self) {
        let ssrcs = match &self.role {
            Role::Publisher(publisher) => publisher.ssrcs(),
            Role::Viewer(_) => vec![self.common.id],
        };
        self.stats = self.stats();
        if let Phase::Up { channel, .. } = &mut self.phase {
            let mut out = Vec::new();
            rtcp::receiver_report(&mut out, ssrcs.first().copied().unwrap_or(0), &[]);
            rtcp::bye(&mut out, &ssrcs);
            channel.send_rtcp(&out);
        }
        self.phase = Phase::Closed;
        // What a viewer or a publisher holds is worth its memory only while it runs.
        self.role = Role::viewer(false, false);
        self.pair = None;
    }

    /// When `tick` wants to be called at the latest for a publisher; others are served in turn.
    pub fn next(&self) -> Option<Instant> {
        match (&self.phase, &self.role) {
            (Phase::Up { .. }, Role::Publisher(publisher)) => publisher.next(),
            _ => None,
        }
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Instant) {
        if self.is_closed() || self.pair.is_none() {
            return;
        }
        self.ask(now);
        if let Phase::Securing(handshake) = &mut self.phase {
            if handshake.next_timeout().is_some_and(|at| at <= now) {
                handshake.timeout(now);
            }
            self.secure(now);
        }
        let Phase::Up { channel, left } = &mut self.phase else {
            return;
        };
        if let Some(handshake) = left.as_mut().filter(|h| h.next_timeout() <= Some(now)) {
            handshake.timeout(now);
            handshake.poll(&mut |datagram| drop(self.common.socket.send(datagram)));
        }
        match &mut self.role {
            Role::Publisher(publisher) => {
                publisher.tick(channel, now, &mut self.stats);
                if self.stats.packets > 0 && self.stats.first_packet_us < 0 {
                    self.stats.first_packet_us = micros(self.common.offered, now);
                }
            }
            Role::Viewer(viewer) => {
                let mut out = Vec::new();
                viewer.tick(self.common.id, now, &mut out);
                channel.send_rtcp(&out);
            }
        }
    }

    /// Takes one datagram.
    pub fn receive(&mut self, datagram: &mut [u8], now: Instant, latency: &mut Histogram) {
        match datagram {
            [0..=3, ..] => self.receive_stun(datagram, now),
            [20..=63, ..] => {
                self.meet(now);
                match &mut self.phase {
                    Phase::Securing(handshake) => handshake.receive(datagram, now),
                    Phase::Up {
                        left: Some(handshake),
                        ..
                    } => {
                        handshake.receive(datagram, now);
                        handshake.poll(&mut |reply| drop(self.common.socket.send(reply)));
                    }
                    _ => {}
                }
                self.secure(now);
            }
            [128..=191, 192..=223, ..] => self.receive_rtcp(datagram, now),
            [128..=191, _, ..] => self.receive_rtp(datagram, now, latency),
            _ => {}
        }
    }

    fn receive_rtp(&mut self, datagram: &mut [u8], now: Instant, latency: &mut Histogram) {
        let Phase::Up { channel, left } = &mut self.phase else {
            return;
        };
        let Role::Viewer(viewer) = &mut self.role else {
            return;
        };
        viewer.receive(datagram, channel, now, &mut self.stats, latency);
        if self.stats.packets > 0 && self.stats.first_packet_us < 0 {
            self.stats.first_packet_us = micros(self.common.offered, now);
            *left = None;
        }
    }

    fn receive_rtcp(&mut self, datagram: &mut [u8], now: Instant) {
        let Phase::Up { channel, left } = &mut self.phase else {
            return;
        };
        let Some(compound) = channel.open_rtcp(datagram).map(<[u8]>::to_vec) else {
            self.stats.decrypt_errors += 1;
            return;
        };
        *left = None;
        match &mut self.role {
            Role::Viewer(viewer) => viewer.receive_rtcp(&compound, now),
            Role::Publisher(publisher) => {
                publisher.receive_rtcp(channel, &compound, &mut self.stats);
            }
        }
        if rtcp::parts(&compound).any(|part| part.kind == rtcp::BYE) {
            self.close();
        }
    }

    fn receive_stun(&mut self, datagram: &[u8], now: Instant) {
        let Some(pair) = &mut self.pair else { return };
        if stun::verify(datagram, &pair.own_key).is_some() {
            // A full agent checks us too.
            if let Ok(remote) = self.common.socket.peer_addr() {
                let mut out = [0; stun::ANSWER_BYTES_MAX];
                let n = stun::answer(datagram, remote, &pair.own_key, &mut out);
                let _ = self.common.socket.send(&out[..n]);
            }
            return;
        }
        let Some((transaction, answer)) = stun::verify_answer(datagram, &pair.remote_key) else {
            return;
        };
        if transaction != pair.transaction || !matches!(answer, stun::Answer::Success(_)) {
            return;
        }
        let Ok(fresh) = random() else { return };
        pair.transaction = fresh;
        let spread = u64::from(self.common.id) * 37 % CONSENT_SPREAD_MS;
        pair.next = now + CONSENT_EVERY + Duration::from_millis(spread);
        pair.pause = ASK_AGAIN_FIRST;
        if let Phase::Checking { .. } = &self.phase {
            self.begin_handshake(now);
        }
    }

    /// A server that is the DTLS client may speak before our own check is answered.
    fn meet(&mut self, now: Instant) {
        if let Phase::Checking { active: false, .. } = &self.phase {
            self.begin_handshake(now);
        }
    }

    fn begin_handshake(&mut self, now: Instant) {
        let Phase::Checking {
            fingerprint,
            active,
        } = &mut self.phase
        else {
            return;
        };
        let (fingerprint, active) = (std::mem::take(fingerprint), *active);
        match Handshake::new(&self.common.certificate, active, fingerprint, now) {
            Ok(handshake) => self.phase = Phase::Securing(Box::new(handshake)),
            Err(_) => self.close(),
        }
        self.secure(now);
    }

    /// Sends a connectivity or consent check when one is due.
    fn ask(&mut self, now: Instant) {
        let Some(pair) = self.pair.as_mut().filter(|pair| pair.next <= now) else {
            return;
        };
        pair.next = now + pair.pause;
        pair.pause = (pair.pause * 2).min(ASK_AGAIN_MAX);
        let ask = stun::Ask {
            transaction: pair.transaction,
            username: &pair.username,
            priority: PRIORITY,
            tie_breaker: pair.tie_breaker,
            nominate: true,
        };
        let mut out = [0; stun::REQUEST_BYTES_MAX];
        let n = stun::request(&ask, &pair.remote_key, &mut out);
        let _ = self.common.socket.send(&out[..n]);
    }

    /// Lets the handshake send, and goes on when it is done.
    fn secure(&mut self, now: Instant) {
        let Phase::Securing(handshake) = &mut self.phase else {
            return;
        };
        let socket = &self.common.socket;
        match handshake.poll(&mut |datagram| drop(socket.send(datagram))) {
            Progress::Pending => {}
            Progress::Failed(_) | Progress::Closed => self.close(),
            Progress::Done(keys) => {
                let Ok(socket) = socket.try_clone() else {
                    return self.close();
                };
                let channel = Box::new(Channel::new(&Keys::from(keys), socket));
                let phase = std::mem::replace(&mut self.phase, Phase::Closed);
                let left = match phase {
                    Phase::Securing(handshake) => Some(handshake),
                    _ => None,
                };
                self.phase = Phase::Up { channel, left };
                self.stats.connected_us = micros(self.common.offered, now);
            }
        }
    }
}

fn micros(from: Instant, to: Instant) -> i64 {
    i64::try_from(to.duration_since(from).as_micros()).unwrap_or(i64::MAX)
}
