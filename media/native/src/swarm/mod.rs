//! The client role, for load tests and benches: many WHIP and WHEP clients on one thread.
//!
//! A client is one UDP socket, a small controlling ICE agent (one candidate pair), DTLS, SRTP, and
//! either a receiver that counts (`viewer`) or a sender that loops recorded units (`publisher`).
//! HTTP is the caller's: an offer goes out, the server's answer comes in. Deliberately no player:
//! nothing is decoded, no bandwidth is estimated, no jitter is smoothed.

mod client;
pub mod floor;
mod latency;
mod offer;
mod packetize;
mod publisher;
#[cfg(feature = "extension")]
pub mod python;
mod rtp;
mod thread;
mod viewer;

use crate::dtls::Certificate;
use client::Client;
use publisher::Recording;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::mpsc::{channel, sync_channel, Receiver, Sender, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Clients of one swarm, the closed ones too.
pub const CLIENTS_MAX: usize = 10_000;

/// A publisher's unit as the caller has it.
pub struct Unit<'a> {
    pub video: bool,
    /// From the start of the loop.
    pub at_ms: u64,
    pub keyframe: bool,
    /// H.264 in Annex B form, or one Opus packet.
    pub data: &'a [u8],
}

/// What one client has seen. Times count from the making of its offer; -1: not yet.
#[derive(Clone, Copy, Debug)]
pub struct ClientStats {
    pub client: u32,
    /// UDP port of the server that the client talks to; 0: no answer yet.
    pub server_port: u16,
    /// Until DTLS was done.
    pub connected_us: i64,
    pub first_packet_us: i64,
    /// RTP datagrams in (of a publisher: out), retransmissions and doubles too.
    pub packets: u64,
    pub bytes: u64,
    /// Media packets that did not come, by extended sequence number.
    pub lost: u64,
    /// The same packet again.
    pub duplicates: u64,
    pub reordered: u64,
    pub decrypt_errors: u64,
    /// An SRTP index seen with different bytes: the sender used a nonce twice.
    pub index_repeats: u64,
    pub frames: u64,
    pub keyframes: u64,
    pub rtx: u64,
    pub plis_received: u64,
}

impl ClientStats {
    fn new(client: u32) -> Self {
        ClientStats {
            client,
            server_port: 0,
            connected_us: -1,
            first_packet_us: -1,
            packets: 0,
            bytes: 0,
            lost: 0,
            duplicates: 0,
            reordered: 0,
            decrypt_errors: 0,
            index_repeats: 0,
            frames: 0,
            keyframes: 0,
            rtx: 0,
            plis_received: 0,
        }
    }
}

enum Command {
    Add(Box<Client>),
    Answer(u32, Box<offer::Answered>, SyncSender<Result<(), String>>),
    Close(u32, SyncSender<Result<(), String>>),
    /// Of one client, or of all.
    Stats(Option<u32>, SyncSender<Vec<ClientStats>>),
    Latency(bool, SyncSender<Vec<(u64, u64)>>),
    Stop,
}

/// Handle of the thread. Errors are sentences for people.
pub struct Swarm {
    bind: IpAddr,
    certificate: Arc<Certificate>,
    commands: Sender<Command>,
    wake: Arc<thread::Wake>,
    running: Mutex<Running>,
}

struct Running {
    next: u32,
    thread: Option<JoinHandle<()>>,
}

impl Swarm {
    /// Starts the thread. `bind`: the address of every client's socket.
    pub fn new(bind: IpAddr) -> Result<Self, String> {
        let (commands, inbox): (Sender<Command>, Receiver<Command>) = channel();
        let wake = Arc::new(thread::Wake::new().map_err(|e| format!("no eventfd: {e}"))?);
        let thread = thread::start(inbox, Arc::clone(&wake))?;
        Ok(Swarm {
            bind,
            certificate: Arc::new(Certificate::generate()?),
            commands,
            wake,
            running: Mutex::new(Running {
                next: 1,
                thread: Some(thread),
            }),
        })
    }

    /// A new viewer and its offer.
    pub fn offer_viewer(&self, decrypt: bool, feedback: bool) -> Result<(u32, String), String> {
        self.add(|common| {
            let sdp = offer::viewer(&common.terms());
            Ok((client::Role::viewer(decrypt, feedback), sdp))
        })
    }

    /// A new publisher of `units` (any order), repeated every `loop_ms`, and its offer. `stamp`:
    /// mark each picture with the time of its sending, for `latency`; `pace`: spread a picture's
    /// packets over so long, as senders' pacers do.
    pub fn offer_publisher(
        &self,
        units: &[Unit],
        loop_ms: u64,
        answer_pli: bool,
        stamp: bool,
        pace: Duration,
    ) -> Result<(u32, String), String> {
        let recording = Recording::new(units, loop_ms, stamp)?;
        self.add(|common| {
            let role = client::Role::publisher(recording, answer_pli, pace)?;
            let sdp = role.offer(&common.terms());
            Ok((role, sdp))
        })
    }

    /// What the server answered to a client's offer: the client connects.
    pub fn answer(&self, client: u32, sdp: &str) -> Result<(), String> {
        let answered = offer::read_answer(sdp, self.bind)?;
        self.ask(|reply| Command::Answer(client, Box::new(answered), reply))?
    }

    /// Says goodbye (RTCP BYE) and closes the socket; the client's numbers stay.
    pub fn close(&self, client: u32) -> Result<(), String> {
        self.ask(|reply| Command::Close(client, reply))?
    }

    /// One entry a client, in the order of their making, or that of `client` alone.
    pub fn stats(&self, client: Option<u32>) -> Result<Vec<ClientStats>, String> {
        self.ask(|reply| Command::Stats(client, reply))
    }

    /// How long stamped pictures took to this swarm's decrypting viewers since the start or the
    /// last `reset`: (microseconds at most, how many), ascending.
    pub fn latency(&self, reset: bool) -> Result<Vec<(u64, u64)>, String> {
        self.ask(|reply| Command::Latency(reset, reply))
    }

    /// Closes all clients and ends the thread. Idempotent.
    pub fn stop(&self) {
        let thread = self.running().thread.take();
        if let Some(thread) = thread {
            // Either may find the thread gone already, which is what we want.
            let _ = self.commands.send(Command::Stop);
            self.wake.wake();
            let _ = thread.join();
        }
    }

    fn running(&self) -> std::sync::MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(
        &self,
        make: impl FnOnce(&client::Common) -> Result<(client::Role, String), String>,
    ) -> Result<(u32, String), String> {
        let socket = UdpSocket::bind((self.bind, 0))
            .and_then(|socket| crate::net::duplicate(socket.as_raw_fd()))
            .map_err(|e| format!("no socket: {e}"))?;
        let now = Instant::now();
        let id = {
            let mut running = self.running();
            if running.thread.is_none() {
                return Err("the swarm has stopped".into());
            }
            if running.next as usize > CLIENTS_MAX {
                return Err(format!("more than {CLIENTS_MAX} clients"));
            }
            running.next += 1;
            running.next - 1
        };
        let common = client::Common::new(id, socket, Arc::clone(&self.certificate), now)?;
        let (role, sdp) = make(&common)?;
        self.send(Command::Add(Box::new(Client::new(common, role))))?;
        Ok((id, sdp))
    }

    fn send(&self, command: Command) -> Result<(), String> {
        self.commands
            .send(command)
            .map_err(|_| "the swarm has stopped".to_owned())?;
        self.wake.wake();
        Ok(())
    }

    fn ask<T>(&self, command: impl FnOnce(SyncSender<T>) -> Command) -> Result<T, String> {
        let (reply, answer) = sync_channel(1);
        self.send(command(reply))?;
        answer
            .recv()
            .map_err(|_| "the swarm has stopped".to_owned())
    }
}

impl Drop for Swarm {
    fn drop(&mut self) {
        self.stop();
    }
}

#[cfg(test)]
mod tests;
