//! Sending: packets are written one after another into one arena and leave with few system calls.
//!
//! With GSO, neighbours to one address of one size become one message. Whether the kernel and the
//! path take it is probed at start and found out again on the way: a message that is refused is
//! sent once more packet by packet, and GSO stays off from then on.

use super::{set_option, RawAddr};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const UDP_SEGMENT: libc::c_int = 103;
const MESSAGES_MAX: usize = 512;
const ARENA_BYTES: usize = 2 << 20;
/// The kernel takes 64 segments and 65,507 bytes a message.
const SEGMENTS_MAX: usize = 60;
const MESSAGE_BYTES_MAX: usize = 64_000;
/// Longest packet: what can be received, and what a retransmission adds to it.
const PACKET_BYTES_MAX: usize = super::DATAGRAM_BYTES_MAX + 64;
const CONTROL_BYTES: usize = 32;
/// How often and how long to wait for room in the socket's send buffer before packets are dropped.
const WAITS_MAX: usize = 3;
const WAIT_MS: libc::c_int = 2;

/// What has been sent since the start.
#[derive(Clone, Copy, Debug, Default)]
pub struct TxStats {
    pub packets: u64,
    pub bytes: u64,
    pub messages: u64,
    pub syscalls: u64,
    pub drops: u64,
}

#[derive(Clone, Copy)]
struct Message {
    at: usize,
    len: usize,
    segment: usize,
    segments: usize,
    to: RawAddr,
    /// More segments may join.
    open: bool,
}

/// Packets on their way out. `flush` sends them; `push` flushes by itself when it is full.
pub struct TxBatch {
    arena: Box<[u8]>,
    used: usize,
    messages: Vec<Message>,
    headers: Vec<libc::mmsghdr>,
    vectors: Vec<libc::iovec>,
    controls: Vec<[u64; CONTROL_BYTES / 8]>,
    gso: bool,
    pub stats: TxStats,
}

// SAFETY: the pointers inside lead only to memory that the value itself owns.
unsafe impl Send for TxBatch {}

impl TxBatch {
    /// `gso`: use segmentation offload if the kernel knows it.
    pub fn new(socket: &UdpSocket, gso: bool) -> Self {
        TxBatch {
            arena: vec![0; ARENA_BYTES].into_boxed_slice(),
            used: 0,
            messages: Vec::with_capacity(MESSAGES_MAX),
            headers: Vec::with_capacity(MESSAGES_MAX),
            vectors: Vec::with_capacity(MESSAGES_MAX),
            controls: Vec::with_capacity(MESSAGES_MAX),
            gso: gso && set_option(socket, libc::SOL_UDP, UDP_SEGMENT, 0),
            stats: TxStats::default(),
        }
    }

    /// Whether segmentation offload is in use.
    pub fn gso(&self) -> bool {
        self.gso
    }

    /// `len` bytes that become one datagram to `to`; the caller fills them.
    pub fn push(&mut self, socket: &UdpSocket, to: &RawAddr, len: usize) -> &mut [u8] {
        assert!(len <= PACKET_BYTES_MAX, "a packet of {len} bytes");
        if self.used + len > ARENA_BYTES || self.messages.len() == MESSAGES_MAX {
            self.flush(socket);
        }
        let at = self.used;
        self.used += len;
        self.stats.packets += 1;
        self.stats.bytes += len as u64;
        if !(self.gso && self.join(to, len)) {
            self.messages.push(Message {
                at,
                len,
                segment: len,
                segments: 1,
                to: *to,
                open: true,
            });
        }
        &mut self.arena[at..at + len]
    }

    /// One datagram with these bytes.
    pub fn send(&mut self, socket: &UdpSocket, to: &RawAddr, bytes: &[u8]) {
        self.push(socket, to, bytes.len()).copy_from_slice(bytes);
    }

    fn join(&mut self, to: &RawAddr, len: usize) -> bool {
        let Some(m) = self.messages.last_mut() else {
            return false;
        };
        let fits = m.open
            && len <= m.segment
            && m.segments < SEGMENTS_MAX
            && m.len + len <= MESSAGE_BYTES_MAX
            && m.to == *to;
        if fits {
            m.len += len;
            m.segments += 1;
            m.open = len == m.segment;
        }
        fits
    }

    /// Hands everything to the kernel.
    pub fn flush(&mut self, socket: &UdpSocket) {
        let mut first = 0;
        let mut waits = 0;
        while first < self.messages.len() {
            self.prepare(first);
            let sent = self.submit(socket);
            if sent > 0 {
                first += sent;
                continue;
            }
            match std::io::Error::last_os_error().raw_os_error() {
                Some(libc::EINTR) => {}
                Some(libc::EAGAIN | libc::ENOBUFS) if waits < WAITS_MAX => {
                    waits += 1;
                    wait_writable(socket);
                }
                Some(libc::EIO | libc::EINVAL | libc::EOPNOTSUPP)
                    if self.messages[first].segments > 1 =>
                {
                    self.gso = false;
                    self.split(first);
                }
                _ => {
                    self.stats.drops += self.messages[first].segments as u64;
                    first += 1;
                }
            }
        }
        self.messages.clear();
        self.used = 0;
    }

    /// Makes the kernel's headers for the messages from `first` on.
    fn prepare(&mut self, first: usize) {
        let n = (self.messages.len() - first).min(MESSAGES_MAX);
        let messages = &mut self.messages[first..first + n];
        let arena = self.arena.as_mut_ptr();
        self.vectors.clear();
        self.vectors.extend(messages.iter().map(|m| libc::iovec {
            // SAFETY: `at` and `len` were given out by `push` and lie inside the arena.
            iov_base: unsafe { arena.add(m.at) }.cast(),
            iov_len: m.len,
        }));
        self.controls.resize(n, [0; CONTROL_BYTES / 8]);
        self.headers.clear();
        for (i, m) in messages.iter_mut().enumerate() {
            // SAFETY: all-zero bytes are a valid mmsghdr.
            let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let h = &mut header.msg_hdr;
            h.msg_name = (&raw mut m.to.storage).cast();
            h.msg_namelen = m.to.len;
            h.msg_iov = &raw mut self.vectors[i];
            h.msg_iovlen = 1;
            if m.segments > 1 {
                h.msg_control = self.controls[i].as_mut_ptr().cast();
                // SAFETY: the control buffer is aligned and longer than CMSG_SPACE(2), so the first
                // header and its two bytes of data lie inside it.
                unsafe {
                    h.msg_controllen = libc::CMSG_SPACE(2) as _;
                    let c = libc::CMSG_FIRSTHDR(h);
                    (*c).cmsg_level = libc::SOL_UDP;
                    (*c).cmsg_type = UDP_SEGMENT;
                    (*c).cmsg_len = libc::CMSG_LEN(2) as _;
                    libc::CMSG_DATA(c)
                        .cast::<u16>()
                        .write_unaligned(m.segment as u16);
                }
            }
            self.headers.push(header);
        }
    }

    /// Messages the kernel took; 0: it refused the first, errno says why.
    fn submit(&mut self, socket: &UdpSocket) -> usize {
        self.stats.syscalls += 1;
        // SAFETY: `prepare` has just filled the headers, and what they point to has not moved.
        let n = unsafe {
            libc::sendmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                self.headers.len() as u32,
                libc::MSG_DONTWAIT,
            )
        };
        let n = usize::try_from(n).unwrap_or(0);
        self.stats.messages += n as u64;
        n
    }

    /// Turns the messages from `first` on into one per packet.
    fn split(&mut self, first: usize) {
        let whole = self.messages.split_off(first);
        for m in whole {
            let mut at = m.at;
            while at < m.at + m.len {
                let len = m.segment.min(m.at + m.len - at);
                self.messages.push(Message {
                    at,
                    len,
                    segment: len,
                    segments: 1,
                    ..m
                });
                at += len;
            }
        }
    }
}

fn wait_writable(socket: &UdpSocket) {
    let mut fd = libc::pollfd {
        fd: socket.as_raw_fd(),
        events: libc::POLLOUT,
        revents: 0,
    };
    // SAFETY: one live pollfd.
    unsafe { libc::poll(&raw mut fd, 1, WAIT_MS) };
}
