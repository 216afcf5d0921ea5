//! Receiving: up to `BATCH` datagrams with one system call.

use super::{RawAddr, DATAGRAM_BYTES_MAX};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

/// Datagrams read with one system call.
pub const BATCH: usize = 64;

/// Buffers for one batch; the headers point into the other two, which never move.
pub struct RxBatch {
    buffers: Box<[[u8; DATAGRAM_BYTES_MAX]]>,
    addrs: Box<[RawAddr]>,
    _vectors: Box<[libc::iovec]>,
    headers: Box<[libc::mmsghdr]>,
    /// Headers that the kernel has written to since they were prepared.
    used: usize,
}

// SAFETY: the pointers inside lead only to heap memory that the value itself owns.
unsafe impl Send for RxBatch {}

impl Default for RxBatch {
    fn default() -> Self {
        Self::new()
    }
}

impl RxBatch {
    pub fn new() -> Self {
        let mut buffers = vec![[0; DATAGRAM_BYTES_MAX]; BATCH].into_boxed_slice();
        let mut addrs = vec![RawAddr::empty(); BATCH].into_boxed_slice();
        let mut vectors: Box<[libc::iovec]> = buffers
            .iter_mut()
            .map(|b| libc::iovec {
                iov_base: b.as_mut_ptr().cast(),
                iov_len: b.len(),
            })
            .collect();
        let headers = vectors
            .iter_mut()
            .zip(addrs.iter_mut())
            .map(|(vector, addr)| {
                // SAFETY: all-zero bytes are a valid mmsghdr.
                let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
                header.msg_hdr.msg_iov = vector;
                header.msg_hdr.msg_iovlen = 1;
                header.msg_hdr.msg_name = (&raw mut addr.storage).cast();
                header
            })
            .collect();
        RxBatch {
            buffers,
            addrs,
            _vectors: vectors,
            headers,
            used: BATCH,
        }
    }

    /// How many datagrams have been read; never waits.
    pub fn receive(&mut self, socket: &UdpSocket) -> usize {
        for header in &mut self.headers[..self.used] {
            header.msg_hdr.msg_namelen = std::mem::size_of::<libc::sockaddr_in6>() as u32;
        }
        // SAFETY: every header points to a buffer and an address that live as long as self.
        let n = unsafe {
            libc::recvmmsg(
                socket.as_raw_fd(),
                self.headers.as_mut_ptr(),
                BATCH as u32,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.used = usize::try_from(n).unwrap_or(0);
        self.used
    }

    /// The `i`-th datagram of the last batch, and where it came from; None when it was too long.
    pub fn get(&mut self, i: usize) -> Option<(&mut [u8], RawAddr)> {
        let header = &self.headers[i];
        if header.msg_hdr.msg_flags & libc::MSG_TRUNC != 0 {
            return None;
        }
        let mut from = self.addrs[i];
        from.len = header.msg_hdr.msg_namelen;
        let len = header.msg_len as usize;
        Some((&mut self.buffers[i][..len], from))
    }
}
