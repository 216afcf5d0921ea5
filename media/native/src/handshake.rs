//! A session from its answer on: first a handshake with a plan, then a record.
//!
//! `Peer` is what the worker's table holds for either. It answers STUN itself (a lite agent has
//! nothing else to do), hands DTLS to `dtls::Handshake`, and turns into a viewer or a source when
//! the keys are there. The handshake stays a little longer, for a peer that lost our last flight.

use crate::dtls::{self, Certificate, Handshake, Progress};
use crate::link::{LinkRec, RoundTrip};
use crate::net::{Port, RawAddr};
use crate::rate::Rate;
use crate::sdp::{Codec, Live, PlayTrack, PublishTrack, Remote};
use crate::shared::{Door, StreamInfo};
use crate::source::{PayloadType, Source, SourceRec, TransportIn};
use crate::srtp::{Keys, Window};
use crate::stun;
use crate::viewer::{OutTrack, Viewer, ViewerRec};
use aws_lc_rs::hmac;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

/// How long DTLS is kept after the handshake unless an authentic packet ends it before.
const LINGER_NS: u64 = 10_000_000_000;
/// Source addresses remembered per peer.
const ADDRS_MAX: usize = 8;
/// DTLS bytes that an address gets before it has finished the handshake, for each byte that came
/// from there: it may be forged, and who forges it reads none of them (RFC 9000 8.1 allows three,
/// which a short hello and our certificate do not keep to).
const ANSWER_FACTOR: usize = 5;
/// An address that has asked nothing for this long may be left without a nomination.
const ADDR_STALE_NS: u64 = 3_000_000_000;

/// What a session has taken of its allowances.
#[derive(Default)]
pub struct Rates {
    pub packets: Rate,
    pub bits: Rate,
    pub feedback: Rate,
    pub resends: Rate,
    pub keyframes: Rate,
}

/// What a session becomes once it is connected.
pub enum Plan {
    Publish(Vec<PublishTrack>),
    Play(Vec<PlayTrack>),
}

/// What a connected session is.
pub enum Flow {
    Opening,
    View(Box<Viewer>),
    Source(Box<Source>),
}

struct Opening {
    dtls: Handshake,
    plan: Option<Plan>,
    /// Set once connected.
    until_ns: Option<u64>,
    /// When our last flight left, unless it was sent twice or has been answered.
    sent_ns: Option<u64>,
    /// Longest time from a flight to its answer: a first idea of the round trip.
    way_ns: Option<u64>,
}

/// What a step of the handshake came to.
pub enum Step {
    Pending,
    Connected,
    Over(String),
}

/// A session in a worker's table.
pub struct Peer {
    pub id: u64,
    pub stream: Arc<StreamInfo>,
    pub publisher: bool,
    pub ufrag: String,
    pwd: String,
    key: hmac::Key,
    pub addr: Option<RawAddr>,
    addr_heard_ns: u64,
    /// DTLS bytes that may go to `addr` before the handshake is done.
    addr_room: usize,
    /// Source addresses that have proved the password.
    pub addrs: Vec<SocketAddr>,
    pub born_ns: u64,
    opening: Option<Box<Opening>>,
    pub flow: Flow,
    /// Its place among those that are not connected yet.
    pub door: Option<Door>,
    pub rates: Rates,
    /// What a publisher may send, preferred first.
    pub formats: Vec<(Codec, String)>,
    ssrc: u32,
}

/// What a new session is made of.
pub struct NewPeer {
    pub id: u64,
    pub stream: Arc<StreamInfo>,
    pub ufrag: String,
    pub pwd: String,
    pub remote: Remote,
    pub plan: Plan,
    pub ssrc: u32,
    pub now: u64,
}

impl Peer {
    pub fn new(new: NewPeer, certificate: &Certificate) -> Result<Self, String> {
        let active = new.remote.we_are_active;
        let dtls = Handshake::new(certificate, active, new.remote.fingerprint, Instant::now())?;
        let formats = match &new.plan {
            Plan::Play(_) => vec![],
            Plan::Publish(tracks) => tracks
                .iter()
                .flat_map(|t| &t.formats)
                .map(|f| (f.codec, f.fmtp.clone()))
                .collect(),
        };
        Ok(Peer {
            id: new.id,
            stream: new.stream,
            publisher: matches!(new.plan, Plan::Publish(_)),
            ufrag: new.ufrag,
            key: stun::key(&new.pwd),
            pwd: new.pwd,
            addr: None,
            addr_heard_ns: 0,
            addr_room: 0,
            addrs: vec![],
            born_ns: new.now,
            opening: Some(Box::new(Opening {
                dtls,
                plan: Some(new.plan),
                until_ns: None,
                sent_ns: None,
                way_ns: None,
            })),
            flow: Flow::Opening,
            door: None,
            rates: Rates::default(),
            formats,
            ssrc: new.ssrc,
        })
    }

    pub fn connected(&self) -> bool {
        !matches!(self.flow, Flow::Opening)
    }

    /// Whether DTLS is still needed.
    pub fn is_opening(&self) -> bool {
        self.opening.is_some()
    }

    /// An authentic packet came: the peer has our last flight, DTLS has done its part.
    pub fn settled(&mut self) {
        if self.connected() {
            self.opening = None;
        }
    }

    /// The media that are, or will be, on air: what has been seen, else what is preferred.
    pub fn live(&self, seen: &[Option<Codec>; 2]) -> Live {
        let pick = |video: bool| {
            let mine = self.formats.iter().filter(|(c, _)| c.is_video() == video);
            let wanted = seen[usize::from(video)];
            let mut first = None;
            for format in mine {
                first = first.or(Some(format));
                if Some(format.0) == wanted {
                    return Some(format.clone());
                }
            }
            first.cloned()
        };
        Live {
            video: pick(true),
            audio: pick(false),
        }
    }

    /// Answers a binding request. None: it is not authentic. Some(true): from a new address.
    pub fn stun(&mut self, b: &[u8], from: &RawAddr, now: u64, port: &mut Port) -> Option<bool> {
        let request = stun::verify(b, &self.key)?;
        let mut answer = [0; stun::ANSWER_BYTES_MAX];
        if request.controlled {
            let len = stun::role_conflict(b, &self.key, &mut answer);
            if len <= b.len() {
                port.send(from, &answer[..len]);
            }
            return None;
        }
        let len = stun::answer(b, from.addr(), &self.key, &mut answer);
        if len > b.len() {
            return None; // no ICE check is so short: it would be answered with more than it sent
        }
        port.send(from, &answer[..len]);
        let same = self.addr.is_some_and(|a| a == *from);
        let stale = now.saturating_sub(self.addr_heard_ns) > ADDR_STALE_NS;
        if same || self.addr.is_none() || request.nominated || stale {
            self.addr = Some(*from);
            self.addr_heard_ns = now;
            self.addr_room *= usize::from(same);
            self.heard(b.len(), from);
        }
        if let Some(link) = self.link_mut() {
            link.heard(now);
        }
        if let (false, Some(addr)) = (same, self.addr) {
            if let Some(link) = self.link_mut() {
                link.moved(addr);
            }
        }
        Some(self.remember(from.addr()))
    }

    /// So many bytes came from there.
    fn heard(&mut self, bytes: usize, from: &RawAddr) {
        if self.addr.is_some_and(|addr| addr == *from) {
            self.addr_room = self.addr_room.saturating_add(ANSWER_FACTOR * bytes);
        }
    }

    fn link_mut(&mut self) -> Option<&mut crate::link::Link> {
        match &mut self.flow {
            Flow::View(v) => Some(&mut v.link),
            Flow::Source(s) => Some(&mut s.link),
            Flow::Opening => None,
        }
    }

    pub fn link(&self) -> Option<&crate::link::Link> {
        match &self.flow {
            Flow::View(v) => Some(&v.link),
            Flow::Source(s) => Some(&s.link),
            Flow::Opening => None,
        }
    }

    fn remember(&mut self, addr: SocketAddr) -> bool {
        if self.addrs.contains(&addr) {
            return false;
        }
        self.addrs.push(addr);
        true
    }

    /// An address too many, to be forgotten.
    pub fn surplus_addr(&mut self) -> Option<SocketAddr> {
        if self.addrs.len() <= ADDRS_MAX {
            return None;
        }
        let current = self.addr.map(|a| a.addr());
        let at = self.addrs.iter().position(|a| Some(*a) != current)?;
        Some(self.addrs.remove(at))
    }

    /// Takes a DTLS datagram.
    pub fn dtls(&mut self, b: &[u8], from: &RawAddr, now: u64, port: &mut Port) -> Step {
        self.heard(b.len(), from);
        match &mut self.opening {
            Some(opening) => {
                if let Some(sent) = opening.sent_ns.take() {
                    opening.way_ns = opening.way_ns.max(Some(now.saturating_sub(sent)));
                }
                opening.dtls.receive(b, Instant::now());
                self.drive(now, port)
            }
            None => {
                if let Some(link) = self.link_mut().filter(|_| dtls::is_alert(b)) {
                    link.alert(now);
                }
                Step::Pending
            }
        }
    }

    /// Lets the handshake's time pass.
    pub fn tick(&mut self, now: u64, handshake_ns: u64, port: &mut Port) -> Step {
        let Some(opening) = &mut self.opening else {
            return Step::Pending;
        };
        match opening.until_ns {
            Some(until) if now > until => {
                self.opening = None;
                return Step::Pending;
            }
            None if now.saturating_sub(self.born_ns) > handshake_ns => {
                return Step::Over("handshake timed out".into());
            }
            _ => {}
        }
        let instant = Instant::now();
        if opening.dtls.next_timeout().is_some_and(|t| t <= instant) {
            opening.dtls.timeout(instant);
            let step = self.drive(now, port);
            if let Some(opening) = &mut self.opening {
                opening.sent_ns = None; // whichever copy is answered, it cannot be told
            }
            return step;
        }
        Step::Pending
    }

    /// Sends what DTLS has to send, and sees how far it is.
    pub fn drive(&mut self, now: u64, port: &mut Port) -> Step {
        let (Some(opening), Some(addr)) = (&mut self.opening, self.addr) else {
            return Step::Pending;
        };
        let mut sent = false;
        let proven = opening.until_ns.is_some();
        let room = &mut self.addr_room;
        let progress = opening.dtls.poll(&mut |b: &[u8]| {
            // What there is no room for is as good as lost: whoever is there asks again.
            if proven || b.len() <= *room {
                *room = room.saturating_sub(b.len());
                sent = true;
                port.send(&addr, b);
            }
        });
        if sent {
            opening.sent_ns = Some(now);
        }
        let way_ns = opening.way_ns;
        match progress {
            Progress::Pending => Step::Pending,
            Progress::Closed => Step::Over("peer said goodbye".into()),
            Progress::Failed(_) if opening.until_ns.is_some() => {
                self.opening = None; // only what lingered; the session itself is sound
                Step::Pending
            }
            Progress::Failed(reason) => Step::Over(format!("failed: {reason}")),
            Progress::Done(keys) => {
                opening.until_ns = Some(now + LINGER_NS);
                match opening.plan.take() {
                    Some(plan) => self.connect(plan, keys.into(), addr, now, (port.v6, way_ns)),
                    None => Step::Pending,
                }
            }
        }
    }

    fn connect(
        &mut self,
        plan: Plan,
        keys: Keys,
        addr: RawAddr,
        now: u64,
        (v6, way_ns): (bool, Option<u64>),
    ) -> Step {
        if !keys.is_sound() {
            return Step::Over("failed: DTLS gave too few key bytes".into());
        }
        let link = LinkRec {
            id: self.id,
            stream: self.stream.name.to_string(),
            ufrag: self.ufrag.clone(),
            pwd: self.pwd.clone(),
            addr: addr.addr(),
            keys,
            ssrc: self.ssrc,
            rtcp_next: 1,
            rtcp_seen: Window::default(),
            heard_ns: now,
            doubt_ns: None,
            round_trip: RoundTrip::guess(way_ns),
        };
        self.door = None;
        self.flow = match plan {
            Plan::Publish(tracks) => {
                let rec = source_record(link, &tracks);
                Flow::Source(Box::new(Source::new(rec, v6)))
            }
            Plan::Play(tracks) => {
                let rec = viewer_record(link, &tracks);
                Flow::View(Box::new(Viewer::new(rec, v6)))
            }
        };
        Step::Connected
    }

    /// Says goodbye, as far as that can be said.
    pub fn bye(&mut self, port: &mut Port) {
        match &mut self.flow {
            Flow::View(v) => v.bye(port),
            Flow::Source(s) => s.bye(port),
            Flow::Opening => {}
        }
        if let (Some(opening), Some(addr)) = (&mut self.opening, self.addr) {
            opening.dtls.close();
            opening.dtls.poll(&mut |b: &[u8]| port.send(&addr, b));
        }
    }
}

fn source_record(link: LinkRec, tracks: &[PublishTrack]) -> SourceRec {
    let mut types = vec![];
    let mut nack = [false; 2];
    for track in tracks {
        for format in &track.formats {
            let codec = format.codec;
            types.push(PayloadType {
                pt: format.pt,
                codec,
                rtx: false,
            });
            types.extend(format.rtx_pt.map(|pt| PayloadType {
                pt,
                codec,
                rtx: true,
            }));
            nack[usize::from(codec.is_video())] |= format.nack;
        }
    }
    let formats = || tracks.iter().flat_map(|t| &t.formats);
    let twcc = tracks.iter().find_map(|t| t.twcc_id);
    let transport = twcc.filter(|_| formats().any(|f| f.twcc));
    SourceRec {
        link,
        types,
        nack,
        remb: transport.is_none() && formats().any(|f| f.remb),
        extended: tracks.iter().any(|t| t.extended),
        ssrcs: vec![],
        media: [None, None],
        transport: TransportIn::new(transport),
        next_report_ns: 0,
    }
}

fn viewer_record(link: LinkRec, tracks: &[PlayTrack]) -> ViewerRec {
    let tracks = tracks.iter().map(|t| {
        let mut track = OutTrack::new(t.format.codec, t.format.pt, t.ssrc);
        if let (Some(ssrc), Some(pt)) = (t.rtx_ssrc, t.format.rtx_pt) {
            track.rtx_ssrc = Some(ssrc);
            track.rtx_pt = Some(pt);
        }
        track
    });
    ViewerRec {
        link,
        tracks: tracks.collect(),
        next_report_ns: 0,
    }
}
