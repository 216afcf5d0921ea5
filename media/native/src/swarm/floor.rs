//! The kernel's floor: what sending costs where nothing is decided.
//!
//! One thread copies a packet, seals it with AES-128-GCM and sends it with `sendmmsg`, to many
//! sockets on loopback, as a server with nothing else to do would. Its CPU time for a packet is
//! what no relay of the same packets can go far below; benchmarks show it as `floor`.

use crate::net::{duplicate, Port, RawAddr, RxBatch};
use crate::shared::thread_cpu_ns;
use crate::srtp::{Keys, Srtp, Way};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// A media packet of a path of 1,280 bytes, sealed.
pub const PACKET_BYTES: usize = 1_196;
const HEAD_BYTES: usize = 20;
pub const SINKS_MAX: usize = 2_000;
pub const PACKETS_MAX: u64 = 100_000_000;
/// Packets to one sink before the next one's: a picture of real video.
const BURST: usize = 7;
/// Between two rounds, as between two pictures: the receivers get time to read.
const PAUSE: Duration = Duration::from_millis(2);
const DRAIN_PAUSE: Duration = Duration::from_micros(200);

/// What was measured.
#[derive(Clone, Copy, Debug)]
pub struct Floor {
    pub packets: u64,
    /// CPU time of the sending thread, user and system.
    pub cpu_ns: u64,
    /// Given up by the sender, or not arrived.
    pub lost: u64,
}

/// Sends at least `packets` to `sinks` sockets. `gso`: by segmentation offload, else `sendmmsg`.
pub fn measure(packets: u64, sinks: usize, gso: bool) -> Result<Floor, String> {
    if !(1..=SINKS_MAX).contains(&sinks) || packets > PACKETS_MAX {
        return Err(format!(
            "not 1 to {SINKS_MAX} sinks, or more than {PACKETS_MAX} packets"
        ));
    }
    let bind = || UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|s| duplicate(s.as_raw_fd()));
    let wrong = |e: std::io::Error| format!("no socket: {e}");
    let sockets: Vec<UdpSocket> = (0..sinks)
        .map(|_| bind())
        .collect::<Result<_, _>>()
        .map_err(wrong)?;
    let mut to = Vec::with_capacity(sinks);
    for socket in &sockets {
        socket.set_nonblocking(true).map_err(wrong)?;
        let address: SocketAddr = socket.local_addr().map_err(wrong)?;
        to.push(RawAddr::new(address, false));
    }
    let port = Port::new(bind().map_err(wrong)?, gso).map_err(wrong)?;
    let (done, read) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut floor = std::thread::scope(|scope| {
        scope.spawn(|| drain(&sockets, &done, &read));
        let floor = send(port, &to, packets);
        done.store(true, Ordering::Relaxed);
        floor
    });
    floor.lost = floor.packets.saturating_sub(read.into_inner());
    Ok(floor)
}

fn send(mut port: Port, to: &[RawAddr], packets: u64) -> Floor {
    let keys: Vec<Srtp> = (0..to.len())
        .map(|sink| {
            let keys = Keys {
                material: vec![sink as u8; 56],
                profile: 1,
                active: true,
            };
            Srtp::new(&keys, Way::Out)
        })
        .collect();
    let payload = vec![9; PACKET_BYTES - HEAD_BYTES - keys[0].tag_len()];
    let (start, mut sent, mut index) = (thread_cpu_ns(), 0, 0);
    while sent < packets {
        for (address, srtp) in to.iter().zip(&keys) {
            for step in 0..BURST {
                let packet = port.push(address, PACKET_BYTES);
                packet[..HEAD_BYTES].fill(step as u8);
                packet[HEAD_BYTES..HEAD_BYTES + payload.len()].copy_from_slice(&payload);
                srtp.seal(packet, HEAD_BYTES, 1, index + step as u64);
            }
            sent += BURST as u64;
        }
        index += BURST as u64;
        port.flush();
        std::thread::sleep(PAUSE);
    }
    Floor {
        packets: sent,
        cpu_ns: thread_cpu_ns() - start,
        lost: 0,
    }
}

/// Reads what arrives until a round after `done` finds nothing.
fn drain(sockets: &[UdpSocket], done: &AtomicBool, read: &AtomicU64) {
    let mut batch = RxBatch::new();
    loop {
        let last = done.load(Ordering::Relaxed);
        let mut found = 0;
        for socket in sockets {
            found += batch.receive(socket) as u64;
        }
        read.fetch_add(found, Ordering::Relaxed);
        if found == 0 {
            if last {
                return;
            }
            std::thread::sleep(DRAIN_PAUSE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_packets_arrive_and_cost_time() {
        for gso in [false, true] {
            let floor = measure(2_000, 20, gso).unwrap();
            assert!((2_000..2_200).contains(&floor.packets));
            assert_eq!(floor.lost, 0);
            assert!(floor.cpu_ns > floor.packets * 200);
        }
        assert!(measure(1, 0, false).is_err());
    }
}
