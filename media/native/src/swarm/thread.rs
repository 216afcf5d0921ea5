//! The swarm's one thread: waits for packets, commands and timers, and serves all clients.

use super::client::Client;
use super::latency::Histogram;
use super::{ClientStats, Command};
use crate::net::RxBatch;
use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How often every client's timers are looked at.
const TICK: Duration = Duration::from_millis(10);
/// Readable sockets taken from the kernel at a time.
const EVENTS_MAX: usize = 256;
/// Mark of the eventfd among the clients' numbers.
const WAKE: u64 = u64::MAX;

/// An eventfd that brings the thread back from waiting.
pub struct Wake(OwnedFd);

impl Wake {
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::eventfd(0, libc::EFD_NONBLOCK | libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Wake(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    pub fn wake(&self) {
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes. A full counter has woken the thread already.
        unsafe { libc::write(self.0.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    fn clear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes. Nothing to read is fine.
        unsafe { libc::read(self.0.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
    }
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> io::Result<Self> {
        // SAFETY: no pointers; the result is checked before it is owned.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: just made, owned by nobody else.
        Ok(Epoll(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    fn add(&self, fd: i32, mark: u64) -> io::Result<()> {
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: mark,
        };
        // SAFETY: both descriptors are open and the event is live.
        let result =
            unsafe { libc::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, &raw mut event) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(())
        }
    }

    /// Marks of what is readable.
    fn wait(&self, events: &mut [libc::epoll_event], timeout: Duration) -> usize {
        let timeout = libc::timespec {
            tv_sec: timeout.as_secs().min(1) as libc::time_t,
            tv_nsec: timeout.subsec_nanos().into(),
        };
        // SAFETY: the array and the time are live, the length is given, no signal mask is set. (A
        // pace needs more than the milliseconds of epoll_wait.)
        let n = unsafe {
            libc::syscall(
                libc::SYS_epoll_pwait2,
                self.0.as_raw_fd(),
                events.as_mut_ptr(),
                events.len(),
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0usize,
            )
        };
        usize::try_from(n).unwrap_or(0)
    }
}

/// Starts the thread. It ends with `Command::Stop`, or when the last sender of commands is gone.
pub fn start(inbox: Receiver<Command>, wake: Arc<Wake>) -> Result<JoinHandle<()>, String> {
    let epoll = Epoll::new().map_err(|e| format!("no epoll: {e}"))?;
    epoll
        .add(wake.0.as_raw_fd(), WAKE)
        .map_err(|e| format!("epoll: {e}"))?;
    let thread = std::thread::Builder::new().name("swarm".into());
    thread
        .spawn(move || {
            Loop {
                epoll,
                wake,
                inbox,
                clients: BTreeMap::new(),
                senders: 0,
                latency: Histogram::default(),
            }
            .run()
        })
        .map_err(|e| format!("no thread: {e}"))
}

/// A client that runs, or what one has seen that is gone.
enum Slot {
    Live(Box<Client>),
    Gone(ClientStats),
}

struct Loop {
    epoll: Epoll,
    wake: Arc<Wake>,
    inbox: Receiver<Command>,
    clients: BTreeMap<u32, Slot>,
    /// How many there have been.
    senders: usize,
    latency: Histogram,
}

impl Loop {
    fn run(mut self) {
        let mut batch = RxBatch::new();
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        let mut next_tick = Instant::now();
        loop {
            let now = Instant::now();
            let sooner = self.senders().filter_map(|client| client.next()).min();
            let until = sooner.map_or(next_tick, |at| at.min(next_tick));
            let n = self
                .epoll
                .wait(&mut events, until.saturating_duration_since(now));
            for event in &events[..n] {
                match u32::try_from(event.u64) {
                    Ok(id) => self.read(id, &mut batch),
                    Err(_) => self.wake.clear(),
                }
            }
            if !self.obey() {
                return;
            }
            let now = Instant::now();
            if now >= next_tick {
                self.live().for_each(|client| client.tick(now));
                next_tick = now + TICK;
                self.bury();
            } else {
                let due = |client: &&mut Client| client.next().is_some_and(|at| at <= now);
                self.senders()
                    .filter(due)
                    .for_each(|client| client.tick(now));
            }
        }
    }

    fn live(&mut self) -> impl Iterator<Item = &mut Client> {
        self.clients.values_mut().filter_map(|slot| match slot {
            Slot::Live(client) => Some(&mut **client),
            Slot::Gone(_) => None,
        })
    }

    /// Those whose next packet is due at a moment of its own; the others wait for a tick. Without
    /// any, which is usual among many viewers, nobody is looked at.
    fn senders(&mut self) -> impl Iterator<Item = &mut Client> {
        let looked_at = if self.senders == 0 { 0 } else { usize::MAX };
        self.live()
            .take(looked_at)
            .filter(|client| client.is_sender())
    }

    fn read(&mut self, id: u32, batch: &mut RxBatch) {
        let Some(Slot::Live(client)) = self.clients.get_mut(&id) else {
            return;
        };
        let n = batch.receive(client.socket());
        let now = Instant::now();
        for i in 0..n {
            if let Some((datagram, _)) = batch.get(i) {
                client.receive(datagram, now, &mut self.latency);
            }
        }
    }

    /// Lets go of closed clients: their sockets close, and epoll forgets them by that.
    fn bury(&mut self) {
        for slot in self.clients.values_mut() {
            match slot {
                Slot::Live(client) if client.is_closed() => *slot = Slot::Gone(client.stats()),
                Slot::Live(_) | Slot::Gone(_) => {}
            }
        }
    }

    /// Does what was asked; false: the thread shall end.
    fn obey(&mut self) -> bool {
        loop {
            match self.inbox.try_recv() {
                Ok(Command::Add(client)) => {
                    // Without epoll the client just never connects, which its numbers show.
                    let _ = self
                        .epoll
                        .add(client.socket().as_raw_fd(), client.id().into());
                    self.senders += usize::from(client.is_sender());
                    self.clients.insert(client.id(), Slot::Live(client));
                }
                Ok(Command::Answer(id, answered, reply)) => {
                    let result = match self.clients.get_mut(&id) {
                        Some(Slot::Live(client)) => client.answer(*answered, Instant::now()),
                        Some(Slot::Gone(_)) => Err(format!("client {id} is closed")),
                        None => Err(format!("there is no client {id}")),
                    };
                    let _ = reply.send(result);
                }
                Ok(Command::Close(id, reply)) => {
                    let result = match self.clients.get_mut(&id) {
                        Some(Slot::Live(client)) => {
                            client.close();
                            Ok(())
                        }
                        Some(Slot::Gone(_)) => Ok(()),
                        None => Err(format!("there is no client {id}")),
                    };
                    self.bury();
                    let _ = reply.send(result);
                }
                Ok(Command::Stats(client, reply)) => {
                    let stats = |slot: &Slot| match slot {
                        Slot::Live(client) => client.stats(),
                        Slot::Gone(stats) => *stats,
                    };
                    let _ = reply.send(match client {
                        Some(id) => self.clients.get(&id).map(stats).into_iter().collect(),
                        None => self.clients.values().map(stats).collect(),
                    });
                }
                Ok(Command::Latency(reset, reply)) => {
                    let _ = reply.send(self.latency.counts());
                    if reset {
                        self.latency.clear();
                    }
                }
                Ok(Command::Stop) | Err(TryRecvError::Disconnected) => {
                    self.live().for_each(Client::close);
                    return false;
                }
                Err(TryRecvError::Empty) => return true,
            }
        }
    }
}
