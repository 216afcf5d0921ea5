//! One worker: one thread, one UDP socket, and everything that happens on it.
//!
//! The loop: wait, take commands, read datagrams (`demux`), fan out what came (`fanout`), let time
//! pass (`timers`), send. Whatever is done for one peer runs inside `survives`: a panic there ends
//! that peer, is counted, and nobody else notices. Nothing here blocks but the wait.

mod commands;
mod demux;
mod fanout;
mod local;
mod report;
mod table;
mod tally;
mod timers;

pub use commands::Command;
pub use report::{Report, SessionRow, StreamRow};

use crate::net::{self, Port, RawAddr, RxBatch};
use crate::shared::{lock, now_ns, thread_cpu_ns, EventFd, Shared, WorkerStats};
use local::Local;
use std::collections::{HashMap, VecDeque};
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::mpsc::Receiver;
use std::sync::Arc;
use std::time::Duration;
use table::Table;

const TICK_NS: u64 = 10_000_000;
const IDLE_TICK_NS: u64 = 100_000_000;
/// How soon a viewer that is behind is served again.
const BURST_WAIT_NS: u64 = 1_000_000;
/// How long a packet may wait, for each viewer here, for others to leave with: neighbours share a
/// message, and with a hundred viewers messages are what costs. A picture's end waits for none.
const HOLD_NS_PER_VIEWER: u64 = 30_000;
/// Batches of datagrams read before what came is sent on.
const BATCHES_PER_LOOP: usize = 8;

/// Runs what concerns one peer. None: it panicked.
pub(crate) fn survives<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// A worker's whole state; owned by its thread.
pub struct Worker {
    me: usize,
    port: Port,
    commands: Receiver<Command>,
    wake: Arc<EventFd>,
    shared: Arc<Shared>,
    peers: Table,
    streams: HashMap<u64, Local>,
    /// Slots with DTLS still to do.
    opening: Vec<usize>,
    /// Slots of viewers that are catching up.
    behind: Vec<usize>,
    /// Streams with packets to fan out, and when that is due.
    pending: Vec<u64>,
    pending_due: Option<u64>,
    /// Binding requests for sessions we do not know yet.
    early: VecDeque<Early>,
    early_bytes: usize,
    generation: u64,
    next_tick: u64,
    sweep: usize,
    stats: WorkerStats,
    stopping: bool,
}

/// A binding request that came before its session.
struct Early {
    at_ns: u64,
    from: RawAddr,
    bytes: Vec<u8>,
}

impl Worker {
    pub fn new(
        me: usize,
        port: Port,
        commands: Receiver<Command>,
        wake: Arc<EventFd>,
        shared: Arc<Shared>,
    ) -> Self {
        Worker {
            me,
            port,
            commands,
            wake,
            shared,
            peers: Table::default(),
            streams: HashMap::new(),
            opening: vec![],
            behind: vec![],
            pending: vec![],
            pending_due: None,
            early: VecDeque::new(),
            early_bytes: 0,
            generation: 0,
            next_tick: 0,
            sweep: 0,
            stats: WorkerStats::default(),
            stopping: false,
        }
    }

    /// Works until told to stop.
    pub fn run(mut self) {
        // SAFETY: takes nothing, gives the thread's number.
        self.stats.thread_id = unsafe { libc::syscall(libc::SYS_gettid) } as u64;
        let mut rx = RxBatch::new();
        while !self.stopping {
            if net::wait(&self.port.socket, self.wake.fd(), self.patience()) {
                self.wake.clear();
            }
            while let Ok(command) = self.commands.try_recv() {
                self.command(command);
            }
            self.receive(&mut rx);
            let now = now_ns();
            if self.pending_due.is_some_and(|due| due <= now) {
                self.fan_out(now);
            }
            self.serve_behind(now);
            if now >= self.next_tick {
                self.tick(now);
            }
            self.port.flush();
            self.publish_stats();
        }
        self.say_goodbye();
    }

    /// How long there is nothing to do unless something comes.
    fn patience(&self) -> Duration {
        let now = now_ns();
        let mut until = self.next_tick;
        if !self.behind.is_empty() {
            until = until.min(now + BURST_WAIT_NS);
        }
        until = until.min(self.pending_due.unwrap_or(until));
        Duration::from_nanos(until.saturating_sub(now))
    }

    fn receive(&mut self, rx: &mut RxBatch) {
        for _ in 0..BATCHES_PER_LOOP {
            let n = rx.receive(&self.port.socket);
            let now = now_ns();
            self.stats.packets_in += n as u64;
            for i in 0..n {
                match rx.get(i) {
                    Some((bytes, from)) => self.datagram(bytes, from, now),
                    None => self.stats.dropped_in += 1,
                }
            }
            if n < net::RX_BATCH {
                break;
            }
        }
    }

    /// A peer's own work panicked: it goes, the others stay.
    fn panicked(&mut self, slot: usize) {
        self.stats.panics += 1;
        self.close(slot, "failed: internal fault");
    }

    fn publish_stats(&mut self) {
        self.stats.tx = self.port.out.stats;
        self.stats.sessions = self.peers.len() as u64;
        *lock(&self.shared.stats[self.me]) = self.stats;
    }

    fn say_goodbye(&mut self) {
        for slot in self.peers.slots() {
            if let Some(peer) = self.peers.get_mut(slot) {
                let port = &mut self.port;
                survives(|| peer.bye(port));
            }
            self.close(slot, "stopped");
        }
        self.port.flush();
        self.stats.cpu_ns = thread_cpu_ns();
        self.publish_stats();
    }
}

#[cfg(test)]
mod tests;
