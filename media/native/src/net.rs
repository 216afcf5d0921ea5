//! Datagrams in batches: `recvmmsg` in, `sendmmsg` and UDP segmentation offload (GSO) out.
//!
//! The only module that talks to the kernel about packets. IPv4 and IPv6, also dual-stack: an IPv4
//! peer on an IPv6 socket is shown with its IPv4 address and written to in mapped form.

mod rx;
mod tx;

pub use rx::{RxBatch, BATCH as RX_BATCH};
pub use tx::{TxBatch, TxStats};

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket};
use std::os::fd::{AsRawFd, BorrowedFd};

/// Longest datagram that is read; longer ones are dropped.
pub const DATAGRAM_BYTES_MAX: usize = 2_048;
const SOCKET_BUFFER_BYTES: libc::c_int = 4 << 20;

/// A peer's address as the kernel takes it.
#[derive(Clone, Copy)]
pub struct RawAddr {
    storage: libc::sockaddr_in6,
    len: libc::socklen_t,
}

impl PartialEq for RawAddr {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

impl RawAddr {
    /// `v6_socket`: the address will be used on an IPv6 socket.
    pub fn new(addr: SocketAddr, v6_socket: bool) -> Self {
        match addr {
            SocketAddr::V4(v4) if !v6_socket => RawAddr::v4(v4),
            SocketAddr::V4(v4) => {
                RawAddr::v6(SocketAddrV6::new(v4.ip().to_ipv6_mapped(), v4.port(), 0, 0))
            }
            SocketAddr::V6(v6) => RawAddr::v6(v6),
        }
    }

    fn v4(addr: SocketAddrV4) -> Self {
        let mut raw = RawAddr::empty();
        raw.len = std::mem::size_of::<libc::sockaddr_in>() as libc::socklen_t;
        let v4 = libc::sockaddr_in {
            sin_family: libc::AF_INET as libc::sa_family_t,
            sin_port: addr.port().to_be(),
            sin_addr: libc::in_addr {
                s_addr: u32::from(*addr.ip()).to_be(),
            },
            sin_zero: [0; 8],
        };
        // SAFETY: sockaddr_in is shorter than sockaddr_in6 and has no stricter alignment; both are
        // plain integers.
        unsafe { (&raw mut raw.storage).cast::<libc::sockaddr_in>().write(v4) };
        raw
    }

    fn v6(addr: SocketAddrV6) -> Self {
        let mut raw = RawAddr::empty();
        raw.storage.sin6_family = libc::AF_INET6 as libc::sa_family_t;
        raw.storage.sin6_port = addr.port().to_be();
        raw.storage.sin6_addr.s6_addr = addr.ip().octets();
        raw.storage.sin6_scope_id = addr.scope_id();
        raw
    }

    /// Room for the kernel to write any address into.
    fn empty() -> Self {
        RawAddr {
            // SAFETY: all-zero bytes are a valid sockaddr_in6.
            storage: unsafe { std::mem::zeroed() },
            len: std::mem::size_of::<libc::sockaddr_in6>() as libc::socklen_t,
        }
    }

    /// The address as people write it: IPv4 also when it came mapped.
    pub fn addr(&self) -> SocketAddr {
        if i32::from(self.storage.sin6_family) == libc::AF_INET {
            // SAFETY: the family says that a sockaddr_in was written here; it fits.
            let v4 = unsafe { (&raw const self.storage).cast::<libc::sockaddr_in>().read() };
            let ip = Ipv4Addr::from(u32::from_be(v4.sin_addr.s_addr));
            return SocketAddr::new(ip.into(), u16::from_be(v4.sin_port));
        }
        let ip = Ipv6Addr::from(self.storage.sin6_addr.s6_addr);
        let port = u16::from_be(self.storage.sin6_port);
        match ip.to_ipv4_mapped() {
            Some(v4) => SocketAddr::new(IpAddr::V4(v4), port),
            None => SocketAddrV6::new(ip, port, 0, self.storage.sin6_scope_id).into(),
        }
    }

    fn bytes(&self) -> &[u8] {
        let len = (self.len as usize).min(std::mem::size_of::<libc::sockaddr_in6>());
        // SAFETY: the storage is at least that long, initialised and plain data.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast::<u8>(), len) }
    }
}

/// One worker's socket and the packets that wait to leave through it.
pub struct Port {
    pub socket: UdpSocket,
    pub out: TxBatch,
    pub v6: bool,
}

impl Port {
    pub fn new(socket: UdpSocket, gso: bool) -> std::io::Result<Self> {
        let v6 = socket.local_addr()?.is_ipv6();
        let out = TxBatch::new(&socket, gso);
        Ok(Port { socket, out, v6 })
    }

    /// `len` bytes that become one datagram to `to`; the caller fills them.
    pub fn push(&mut self, to: &RawAddr, len: usize) -> &mut [u8] {
        self.out.push(&self.socket, to, len)
    }

    /// One datagram with these bytes.
    pub fn send(&mut self, to: &RawAddr, bytes: &[u8]) {
        self.out.send(&self.socket, to, bytes);
    }

    pub fn flush(&mut self) {
        self.out.flush(&self.socket);
    }
}

/// Our own duplicate of a bound UDP socket, with big buffers. The caller keeps its descriptor.
pub fn duplicate(fd: i32) -> std::io::Result<UdpSocket> {
    if fd < 0 {
        return Err(std::io::Error::from_raw_os_error(libc::EBADF));
    }
    // SAFETY: not negative; whether it is open at all is what the duplication finds out.
    let owned = unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned()?;
    let socket = UdpSocket::from(owned);
    socket.local_addr()?;
    for (forced, plain) in [
        (libc::SO_RCVBUFFORCE, libc::SO_RCVBUF),
        (libc::SO_SNDBUFFORCE, libc::SO_SNDBUF),
    ] {
        if !set_option(&socket, libc::SOL_SOCKET, forced, SOCKET_BUFFER_BYTES) {
            set_option(&socket, libc::SOL_SOCKET, plain, SOCKET_BUFFER_BYTES);
        }
    }
    Ok(socket)
}

fn set_option(socket: &UdpSocket, level: i32, name: i32, value: libc::c_int) -> bool {
    // SAFETY: the pointer is to a live c_int and the length is its size.
    let result = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            level,
            name,
            (&raw const value).cast(),
            std::mem::size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    result == 0
}

/// Waits until the socket or the eventfd is readable or the time is over; whether the eventfd is.
pub fn wait(socket: &UdpSocket, eventfd: i32, timeout: std::time::Duration) -> bool {
    let mut fds = [socket.as_raw_fd(), eventfd].map(|fd| libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    });
    let timeout = libc::timespec {
        tv_sec: timeout.as_secs() as libc::time_t,
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: two pollfds and a timespec, all live; no signal mask.
    unsafe { libc::ppoll(fds.as_mut_ptr(), 2, &raw const timeout, std::ptr::null()) };
    fds[1].revents != 0
}

#[cfg(test)]
mod tests;
