//! The data plane as the caller sees it: start, publish, play, close, look, stop.
//!
//! Every method may wait for a worker for a moment; none is called from a worker. Signalling is
//! done on the caller's thread: SDP is read and answered here, the worker only gets the finished
//! peer, and has it before the answer is given out.

mod address;

pub use address::Address;

use crate::dtls::Certificate;
use crate::handshake::{NewPeer, Peer, Plan};
use crate::net::{duplicate, Port};
use crate::outbox::{Event, Unit};
use crate::sdp::{self, Local, SdpFault};
use crate::shared::{lock, now_ns, EventFd, Limits, Mailbox, Shared, StreamInfo, WorkerStats};
use crate::worker::{Command, Report, SessionRow, StreamRow, Worker};
use aws_lc_rs::rand;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{sync_channel, Receiver};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

const WORKERS_MAX: usize = 64;
/// Commands that may wait at one worker.
const MAILBOX_MAX: usize = 8_192;
/// How long a worker may take to answer the caller.
const REPLY_MAX: Duration = Duration::from_secs(5);
/// RFC 8839: at least 4 and 22 characters.
const UFRAG_CHARS: usize = 8;
const PWD_CHARS: usize = 24;
const STREAM_NAME_BYTES_MAX: usize = 256;

/// Why a session was refused.
#[derive(Debug)]
pub enum Refusal {
    Sdp(SdpFault),
    /// Which limit, in a word, and what there is to say of it.
    Overloaded(&'static str, String),
    /// Ours: a worker that does not answer, no randomness.
    Broken(String),
}

/// A session's answer.
pub struct Answered {
    pub session: u64,
    pub sdp: String,
    pub remote_ufrag: String,
}

/// A stream's row over all workers, with its name.
pub struct StreamTotal {
    pub name: Arc<str>,
    pub row: StreamRow,
}

/// A running data plane.
pub struct Engine {
    shared: Arc<Shared>,
    certificate: Certificate,
    /// What each worker offers.
    candidates: Vec<Vec<SocketAddr>>,
    turn: AtomicUsize,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Engine {
    /// Starts one worker thread a socket. Owns: the threads; `stop` ends them.
    pub fn start(
        sockets: &[i32],
        addresses: &[Address],
        certificate: Certificate,
        limits: Limits,
    ) -> std::io::Result<Self> {
        let bad = |text: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, text);
        if sockets.is_empty() || sockets.len() > WORKERS_MAX {
            return Err(bad("between 1 and 64 sockets are needed"));
        }
        if addresses.is_empty() {
            return Err(bad("no address to offer"));
        }
        let mut ports = vec![];
        for fd in sockets {
            ports.push(Port::new(duplicate(*fd)?, limits.gso)?);
        }
        let mut mailboxes = vec![];
        let mut receivers = vec![];
        for _ in sockets {
            let (sender, receiver) = sync_channel(MAILBOX_MAX);
            let wake = Arc::new(EventFd::new()?);
            receivers.push((receiver, wake.clone()));
            mailboxes.push(Mailbox { sender, wake });
        }
        let mut candidates = vec![];
        for port in &ports {
            let number = port.socket.local_addr()?.port();
            candidates.push(addresses.iter().map(|a| a.with_port(number)).collect());
        }
        let shared = Arc::new(Shared::new(limits, mailboxes)?);
        let engine = Engine {
            shared,
            certificate,
            candidates,
            turn: AtomicUsize::new(0),
            threads: Mutex::default(),
        };
        engine.spawn(ports, receivers)?;
        Ok(engine)
    }

    fn spawn(
        &self,
        ports: Vec<Port>,
        receivers: Vec<(Receiver<Command>, Arc<EventFd>)>,
    ) -> std::io::Result<()> {
        for (me, (port, (commands, wake))) in ports.into_iter().zip(receivers).enumerate() {
            let worker = Worker::new(me, port, commands, wake, self.shared.clone());
            let thread = std::thread::Builder::new()
                .name(format!("media-{me}"))
                .spawn(move || worker.run());
            match thread {
                Ok(thread) => lock(&self.threads).push(thread),
                Err(e) => {
                    self.stop();
                    return Err(e);
                }
            }
        }
        Ok(())
    }

    pub fn publish(&self, stream: &str, offer: &str) -> Result<Answered, Refusal> {
        let place = self.place(stream)?;
        let worker = place.info.home;
        self.open(place, worker, |local| {
            let (sdp, remote, tracks) = sdp::answer_publisher(offer, local)?;
            Ok((sdp, remote, Plan::Publish(tracks)))
        })
    }

    pub fn play(&self, stream: &str, offer: &str) -> Result<Answered, Refusal> {
        let nothing = || {
            let text = format!("nothing is published as {stream:?}");
            Refusal::Sdp(SdpFault::NotAcceptable(text))
        };
        let live = self.shared.find(stream).and_then(|info| info.live());
        let live = live.ok_or_else(nothing)?;
        let place = self.place(stream)?;
        let worker = self.turn.fetch_add(1, Ordering::Relaxed) % self.candidates.len();
        self.open(place, worker, |local| {
            let ssrc = || random_u32().unwrap_or(1).max(1);
            let (sdp, remote, tracks) = sdp::answer_viewer(offer, local, &live, ssrc)?;
            Ok((sdp, remote, Plan::Play(tracks)))
        })
    }

    /// Takes a place for a session of the stream; given back when dropped unless it is kept.
    fn place(&self, stream: &str) -> Result<Place<'_>, Refusal> {
        if stream.is_empty() || stream.len() > STREAM_NAME_BYTES_MAX {
            return Err(Refusal::Broken(
                "the stream's name is empty or too long".into(),
            ));
        }
        if !self.shared.reserve() {
            let most = self.shared.limits.sessions_max;
            let text = format!("all {most} sessions are taken");
            return Err(Refusal::Overloaded("sessions", text));
        }
        let Some(info) = self.shared.join(stream) else {
            self.shared.release();
            return Err(Refusal::Overloaded("streams", "too many streams".into()));
        };
        Ok(Place {
            shared: &self.shared,
            info,
            kept: false,
        })
    }

    fn open(
        &self,
        mut place: Place<'_>,
        worker: usize,
        negotiate: impl FnOnce(&Local) -> Result<(String, sdp::Remote, Plan), SdpFault>,
    ) -> Result<Answered, Refusal> {
        let ufrag = random_text(UFRAG_CHARS)?;
        let pwd = random_text(PWD_CHARS)?;
        let local = Local {
            ufrag: &ufrag,
            pwd: &pwd,
            fingerprint: self.certificate.fingerprint(),
            candidates: &self.candidates[worker],
            session_id: u64::from(random_u32()?),
        };
        let (sdp, remote, plan) = negotiate(&local).map_err(Refusal::Sdp)?;
        let door = self.shared.open().ok_or_else(|| {
            let most = self.shared.limits.handshakes_max;
            let text = format!("{most} sessions are connecting already");
            Refusal::Overloaded("handshakes", text)
        })?;
        let session = self.shared.new_id();
        let remote_ufrag = remote.ufrag.clone();
        let new = NewPeer {
            id: session,
            stream: place.info.clone(),
            ufrag,
            pwd,
            remote,
            plan,
            ssrc: random_u32()?.max(1),
            now: now_ns(),
        };
        let mut peer = Peer::new(new, &self.certificate).map_err(Refusal::Broken)?;
        peer.door = Some(door);
        let (done, registered) = sync_channel(1);
        self.shared.register(session, worker);
        place.kept = true; // from here on the session's end gives the place back
        let sent = self.shared.mailboxes[worker].send(Command::Add(Box::new(peer), done));
        if !sent || registered.recv_timeout(REPLY_MAX).is_err() {
            self.shared.closed(session, &place.info, "stopped");
            return Err(Refusal::Broken("the media worker does not answer".into()));
        }
        Ok(Answered {
            session,
            sdp,
            remote_ufrag,
        })
    }

    /// False: there is no such session.
    pub fn close(&self, session: u64, reason: &str) -> bool {
        let Some(worker) = self.shared.worker_of(session) else {
            return false;
        };
        self.shared.mailboxes[worker].send(Command::Close(session, reason.into()))
    }

    /// False: nobody publishes the stream.
    pub fn keyframe(&self, stream: &str) -> bool {
        let info = self.shared.find(stream);
        let Some(info) = info.filter(|i| i.publisher().is_some()) else {
            return false;
        };
        self.shared.mailboxes[info.home].send(Command::KeyFrame(info.clone()))
    }

    /// Whether the stream's units are assembled. False: there are too many streams.
    pub fn tap(&self, stream: &str, on: bool) -> bool {
        if !on && self.shared.find(stream).is_none() {
            return true;
        }
        let Some(info) = self.shared.set_tapped(stream, on) else {
            return false;
        };
        self.shared.mailboxes[info.home].send(Command::Tap(info.clone(), on))
    }

    pub fn fileno(&self) -> i32 {
        self.shared.outbox.fd()
    }

    pub fn events(&self) -> Vec<Event> {
        self.shared.outbox.take_events()
    }

    pub fn units(&self) -> Vec<Unit> {
        self.shared.outbox.take_units()
    }

    pub fn units_dropped(&self) -> u64 {
        self.shared.outbox.units_dropped()
    }

    pub fn stats(&self) -> Vec<WorkerStats> {
        self.shared.stats.iter().map(|s| *lock(s)).collect()
    }

    pub fn sessions(&self) -> Vec<SessionRow> {
        let reports = self.reports();
        let mut rows: Vec<_> = reports.into_iter().flat_map(|r| r.sessions).collect();
        rows.sort_unstable_by_key(|r| r.session);
        rows
    }

    pub fn streams(&self) -> Vec<StreamTotal> {
        let names: Vec<Arc<StreamInfo>> = self.shared.streams();
        let mut totals: HashMap<u64, StreamRow> = HashMap::new();
        for row in self.reports().into_iter().flat_map(|r| r.streams) {
            match totals.get_mut(&row.stream) {
                None => {
                    totals.insert(row.stream, row);
                }
                Some(total) => {
                    let (mut sum, other) = if row.home {
                        (row, *total)
                    } else {
                        (*total, row)
                    };
                    sum.viewers += other.viewers;
                    sum.tally.add(&other.tally);
                    *total = sum;
                }
            }
        }
        let mut all: Vec<_> = names
            .into_iter()
            .map(|info| StreamTotal {
                row: totals.remove(&info.id).unwrap_or(StreamRow {
                    keyframe_age_ms: -1,
                    rtt_ms: -1,
                    ..StreamRow::default()
                }),
                name: info.name.clone(),
            })
            .collect();
        all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// Every worker's report; of one that has ended, an empty one.
    fn reports(&self) -> Vec<Report> {
        let asked: Vec<_> = self
            .shared
            .mailboxes
            .iter()
            .map(|mailbox| {
                let (reply, receiver) = sync_channel(1);
                mailbox.send(Command::Report(reply));
                receiver
            })
            .collect();
        let answers = asked.into_iter().map(|r| r.recv_timeout(REPLY_MAX));
        answers.map(Result::unwrap_or_default).collect()
    }

    /// Says goodbye to all peers and ends the threads. Idempotent.
    pub fn stop(&self) {
        let threads = std::mem::take(&mut *lock(&self.threads));
        if threads.is_empty() {
            return;
        }
        for mailbox in &self.shared.mailboxes {
            mailbox.send(Command::Stop);
        }
        for thread in threads {
            let _ = thread.join(); // a worker that panicked has nothing left to wait for
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A session's place before the session exists.
struct Place<'a> {
    shared: &'a Shared,
    info: Arc<StreamInfo>,
    kept: bool,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        if !self.kept {
            self.shared.release();
            self.shared.leave(&self.info);
        }
    }
}

fn random_u32() -> Result<u32, Refusal> {
    let mut bytes = [0; 4];
    fill(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

/// Characters that ICE allows, 6 bits of randomness each.
fn random_text(chars: usize) -> Result<String, Refusal> {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut bytes = vec![0; chars];
    fill(&mut bytes)?;
    let letters = bytes
        .iter()
        .map(|b| char::from(ALPHABET[usize::from(b & 63)]));
    Ok(letters.collect())
}

fn fill(bytes: &mut [u8]) -> Result<(), Refusal> {
    rand::fill(bytes).map_err(|_| Refusal::Broken("no randomness".into()))
}
