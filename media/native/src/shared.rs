//! What the workers and the caller share: the directory of streams and sessions, limits, mailboxes.
//!
//! Everything here is behind a short lock or an atomic; packets never come this way.

use crate::outbox::Outbox;
use crate::rate::Allowance;
use crate::sdp::Live;
use crate::worker::Command;
use std::collections::HashMap;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams known at a time, with or without a publisher.
pub const STREAMS_MAX: usize = 10_000;

/// Named limits and choices of one data plane.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub gso: bool,
    /// How long packets wait for their picture's end at most, with many viewers.
    pub hold_ns: u64,
    pub gop_bytes_max: usize,
    pub sessions_max: usize,
    pub silence_ns: u64,
    pub handshake_ns: u64,
    /// Sessions that are not connected yet, over all workers.
    pub handshakes_max: usize,
    /// The same of one address (IPv6: of one /64), on one worker.
    pub handshakes_per_address_max: usize,
    /// Sessions of one address, on one worker; 0: any number.
    pub sessions_per_address_max: usize,
    /// Binding requests of sessions that are not known yet, in bytes.
    pub early_bytes_max: usize,
    /// What one publisher may send; 0: any number.
    pub publisher_packets: Allowance,
    pub publisher_bits: Allowance,
    /// RTCP of one peer, and what it may bring about; 0: any number.
    pub feedback: Allowance,
    pub resends: Allowance,
    pub keyframes: Allowance,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            gso: true,
            hold_ns: 3_000_000,
            gop_bytes_max: 8 << 20,
            sessions_max: 5_000,
            silence_ns: 30_000_000_000,
            handshake_ns: 10_000_000_000,
            handshakes_max: 1_000,
            handshakes_per_address_max: 500,
            sessions_per_address_max: 0,
            early_bytes_max: 131_072,
            publisher_packets: Allowance::per_second(20_000),
            publisher_bits: Allowance::per_second(0),
            feedback: Allowance::per_second(500),
            resends: Allowance::per_second(5_000),
            keyframes: Allowance::per_minute(30),
        }
    }
}

/// A stream as all workers know it.
pub struct StreamInfo {
    pub id: u64,
    pub name: Arc<str>,
    /// The worker that all its publishers are on.
    pub home: usize,
    live: Mutex<Option<(u64, Live)>>,
    sessions: AtomicUsize,
}

impl StreamInfo {
    /// What is on air, if anything.
    pub fn live(&self) -> Option<Live> {
        lock(&self.live).as_ref().map(|(_, live)| live.clone())
    }

    /// The publisher on air.
    pub fn publisher(&self) -> Option<u64> {
        lock(&self.live).as_ref().map(|(session, _)| *session)
    }

    /// `session` is on air with these media. True: that is news.
    pub fn set_live(&self, session: u64, live: Live) -> bool {
        let mut slot = lock(&self.live);
        let news = slot.as_ref() != Some(&(session, live.clone()));
        *slot = Some((session, live));
        news
    }

    /// `session` is on air no more.
    pub fn clear_live(&self, session: u64) {
        let mut slot = lock(&self.live);
        if slot.as_ref().is_some_and(|(s, _)| *s == session) {
            *slot = None;
        }
    }
}

#[derive(Default)]
struct Directory {
    names: HashMap<Arc<str>, Entry>,
}

struct Entry {
    info: Arc<StreamInfo>,
    tapped: bool,
}

/// Counters of one worker, as `Sfu.stats` gives them.
#[derive(Clone, Copy, Debug, Default)]
pub struct WorkerStats {
    pub tx: crate::net::TxStats,
    pub packets_in: u64,
    pub bytes_in: u64,
    pub sessions: u64,
    pub handshakes: u64,
    pub rtx_out: u64,
    pub nacks_out: u64,
    pub plis_out: u64,
    pub stun_in: u64,
    pub dropped_in: u64,
    pub dropped_between: u64,
    pub panics: u64,
    /// What limits have turned away: packets of publishers, RTCP compounds, packets to send again,
    /// requests for key frames, first checks of peers, early checks.
    pub packets_limited: u64,
    pub feedback_limited: u64,
    pub resends_limited: u64,
    pub keyframes_limited: u64,
    pub peers_limited: u64,
    pub early_dropped: u64,
    pub cpu_ns: u64,
    pub thread_id: u64,
}

/// State common to all workers of one data plane.
pub struct Shared {
    pub limits: Limits,
    pub outbox: Outbox,
    pub mailboxes: Vec<Mailbox>,
    pub stats: Vec<Mutex<WorkerStats>>,
    directory: Mutex<Directory>,
    /// Session to worker.
    sessions: Mutex<HashMap<u64, usize>>,
    reserved: AtomicUsize,
    /// Sessions that are not connected yet.
    opening: AtomicUsize,
    next: AtomicU64,
    /// Unix minus monotonic time, read once: media time does not jump when the wall clock does.
    unix_offset_ns: i64,
}

impl Shared {
    pub fn new(limits: Limits, mailboxes: Vec<Mailbox>) -> std::io::Result<Self> {
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_err(std::io::Error::other)?;
        let stats = mailboxes.iter().map(|_| Mutex::default()).collect();
        Ok(Shared {
            limits,
            outbox: Outbox::new()?,
            mailboxes,
            stats,
            directory: Mutex::default(),
            sessions: Mutex::default(),
            reserved: AtomicUsize::new(0),
            opening: AtomicUsize::new(0),
            next: AtomicU64::new(1),
            unix_offset_ns: unix.as_nanos() as i64 - now_ns() as i64,
        })
    }

    /// Unix time of a monotonic one.
    pub fn unix_ns(&self, now: u64) -> i64 {
        now as i64 + self.unix_offset_ns
    }

    pub fn new_id(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Takes one of `sessions_max` places. Owns: give it back with `release` or by closing.
    pub fn reserve(&self) -> bool {
        let taken = self.reserved.fetch_add(1, Ordering::Relaxed);
        if taken >= self.limits.sessions_max {
            self.release();
            return false;
        }
        true
    }

    pub fn release(&self) {
        self.reserved.fetch_sub(1, Ordering::Relaxed);
    }

    /// Takes one of `handshakes_max` places, until the door is dropped.
    pub fn open(self: &Arc<Self>) -> Option<Door> {
        let door = Door(self.clone());
        let taken = self.opening.fetch_add(1, Ordering::Relaxed);
        (taken < self.limits.handshakes_max).then_some(door)
    }

    /// The stream of that name, if it exists.
    pub fn find(&self, name: &str) -> Option<Arc<StreamInfo>> {
        let directory = lock(&self.directory);
        directory.names.get(name).map(|e| e.info.clone())
    }

    /// The stream of that name, made if need be, held for one session until it is closed.
    pub fn join(&self, name: &str) -> Option<Arc<StreamInfo>> {
        let mut directory = lock(&self.directory);
        let entry = self.entry(&mut directory, name)?;
        entry.info.sessions.fetch_add(1, Ordering::Relaxed);
        Some(entry.info.clone())
    }

    /// The opposite of `join`.
    pub fn leave(&self, info: &StreamInfo) {
        let mut directory = lock(&self.directory);
        info.sessions.fetch_sub(1, Ordering::Relaxed);
        self.forget_unused(&mut directory, &info.name);
    }

    /// Marks the stream as tapped or not; None: there are too many streams.
    pub fn set_tapped(&self, name: &str, on: bool) -> Option<Arc<StreamInfo>> {
        let mut directory = lock(&self.directory);
        let entry = self.entry(&mut directory, name)?;
        entry.tapped = on;
        let info = entry.info.clone();
        if !on {
            self.forget_unused(&mut directory, name);
        }
        Some(info)
    }

    /// All streams.
    pub fn streams(&self) -> Vec<Arc<StreamInfo>> {
        let directory = lock(&self.directory);
        directory.names.values().map(|e| e.info.clone()).collect()
    }

    pub fn register(&self, session: u64, worker: usize) {
        lock(&self.sessions).insert(session, worker);
    }

    /// The worker a session is on.
    pub fn worker_of(&self, session: u64) -> Option<usize> {
        lock(&self.sessions).get(&session).copied()
    }

    /// A session is over: gives its place back and tells the caller.
    pub fn closed(&self, session: u64, info: &StreamInfo, reason: &str) {
        if lock(&self.sessions).remove(&session).is_some() {
            self.release();
            self.outbox
                .event(session, &info.name, "closed", reason.into());
            self.leave(info);
        }
    }

    fn entry<'a>(&self, directory: &'a mut Directory, wanted: &str) -> Option<&'a mut Entry> {
        if !directory.names.contains_key(wanted) {
            if directory.names.len() >= STREAMS_MAX {
                return None;
            }
            let id = self.new_id();
            let name: Arc<str> = wanted.into();
            let info = StreamInfo {
                id,
                name: name.clone(),
                home: id as usize % self.mailboxes.len(),
                live: Mutex::default(),
                sessions: AtomicUsize::new(0),
            };
            let entry = Entry {
                info: Arc::new(info),
                tapped: false,
            };
            directory.names.insert(name, entry);
        }
        directory.names.get_mut(wanted)
    }

    fn forget_unused(&self, directory: &mut Directory, name: &str) {
        let unused = directory
            .names
            .get(name)
            .filter(|e| !e.tapped && e.info.sessions.load(Ordering::Relaxed) == 0);
        if let Some(id) = unused.map(|e| e.info.id) {
            directory.names.remove(name);
            for mailbox in &self.mailboxes {
                mailbox.post(Command::Forget(id));
            }
        }
    }
}

/// Held by a session that is not connected yet.
pub struct Door(Arc<Shared>);

impl Drop for Door {
    fn drop(&mut self) {
        self.0.opening.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The way to a worker.
pub struct Mailbox {
    pub sender: SyncSender<Command>,
    pub wake: Arc<EventFd>,
}

impl Mailbox {
    /// Never waits. False: the mailbox is full or the worker has ended; the command is lost.
    pub fn post(&self, command: Command) -> bool {
        let posted = self.sender.try_send(command).is_ok();
        self.wake.signal();
        posted
    }

    /// Waits for room. False: the worker has ended.
    pub fn send(&self, command: Command) -> bool {
        let sent = self.sender.send(command).is_ok();
        self.wake.signal();
        sent
    }
}

/// A counter in the kernel that wakes whoever polls it.
pub struct EventFd(OwnedFd);

impl EventFd {
    pub fn new() -> std::io::Result<Self> {
        // SAFETY: no pointers; the result is checked.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(std::io::Error::last_os_error());
        }
        // SAFETY: the descriptor is new and ours alone.
        Ok(EventFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn fd(&self) -> i32 {
        self.0.as_raw_fd()
    }

    pub fn signal(&self) {
        let one = 1u64;
        // SAFETY: eight live bytes are written to our own descriptor.
        unsafe { libc::write(self.fd(), (&raw const one).cast(), 8) };
    }

    pub fn clear(&self) {
        let mut count = 0u64;
        // SAFETY: eight live bytes are read from our own descriptor.
        unsafe { libc::read(self.fd(), (&raw mut count).cast(), 8) };
    }
}

/// Locks are held for moments only and guard plain data: a panic elsewhere does not spoil it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// CLOCK_MONOTONIC in ns: the same for every process of the machine.
pub fn now_ns() -> u64 {
    clock_ns(libc::CLOCK_MONOTONIC)
}

/// CPU time of the calling thread.
pub fn thread_cpu_ns() -> u64 {
    clock_ns(libc::CLOCK_THREAD_CPUTIME_ID)
}

fn clock_ns(clock: libc::clockid_t) -> u64 {
    let mut t = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: one live timespec.
    unsafe { libc::clock_gettime(clock, &raw mut t) };
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}
