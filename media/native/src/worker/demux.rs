//! What a datagram is (RFC 7983), whose it is, and what it changes.

use super::commands::EARLY_NS;
use super::{survives, Early, Worker, HOLD_NS_PER_VIEWER};
use crate::handshake::{Flow, Step};
use crate::net::RawAddr;
use crate::source::Heard;
use crate::stun;
use std::net::{IpAddr, Ipv6Addr};

/// An address that another session has proved this lately is not taken from it.
const HELD_NS: u64 = 1_000_000_000;

impl Worker {
    pub(super) fn datagram(&mut self, bytes: &mut [u8], from: RawAddr, now: u64) {
        self.stats.bytes_in += bytes.len() as u64;
        let Some(&kind) = bytes.first() else {
            return;
        };
        if kind < 4 {
            return self.binding_request(bytes, from, now);
        }
        let Some(slot) = self.peers.find_addr(from.addr()) else {
            self.stats.dropped_in += 1;
            return;
        };
        let handled = survives(|| match kind {
            20..=63 => self.dtls(slot, bytes, &from, now),
            128..=191 if bytes.len() >= 8 && (192..=223).contains(&bytes[1]) => {
                self.rtcp(slot, bytes, now);
            }
            128..=191 => self.rtp(slot, bytes, now),
            _ => self.stats.dropped_in += 1,
        });
        if handled.is_none() {
            self.panicked(slot);
        }
    }

    fn binding_request(&mut self, bytes: &[u8], from: RawAddr, now: u64) {
        let Some(ufrag) = survives(|| stun::ufrag(bytes)).flatten() else {
            self.stats.dropped_in += 1;
            return;
        };
        let Some(slot) = self.peers.find_ufrag(ufrag) else {
            self.keep_early(bytes, from, now);
            return;
        };
        self.stats.stun_in += 1;
        if self.is_held(slot, &from, now) || self.is_crowded(slot, &from) {
            self.stats.peers_limited += 1;
            return;
        }
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let first = peer.addr.is_none();
        let port = &mut self.port;
        let Some(new_addr) = survives(|| peer.stun(bytes, &from, now, port)) else {
            return self.panicked(slot);
        };
        match new_addr {
            None => self.stats.dropped_in += 1,
            Some(new) => {
                if new || self.peers.find_addr(from.addr()) != Some(slot) {
                    self.peers.claim(from.addr(), slot);
                }
                if first {
                    self.drive(slot, now); // where we start DTLS, now we know whereto
                }
            }
        }
    }

    /// Whether the address is another session's, which has been heard from it just now: whoever
    /// asks may have forged it. Its owner asks again, so does whoever took over the port.
    fn is_held(&self, slot: usize, from: &RawAddr, now: u64) -> bool {
        let other = self.peers.find_addr(from.addr()).filter(|s| *s != slot);
        let link = other.and_then(|other| self.peers.get(other)?.link());
        link.is_some_and(|l| l.raw == *from && now.saturating_sub(l.rec.heard_ns) < HELD_NS)
    }

    /// Whether this peer's first check comes from an address that has enough sessions.
    fn is_crowded(&self, slot: usize, from: &RawAddr) -> bool {
        if self.peers.get(slot).is_none_or(|p| p.addr.is_some()) {
            return false;
        }
        let limits = &self.shared.limits;
        let place = prefix(from.addr().ip());
        let (mut connecting, mut all) = (0, 0);
        let there =
            |p: &&crate::handshake::Peer| p.addr.is_some_and(|a| prefix(a.addr().ip()) == place);
        for peer in self.peers.iter().filter(there) {
            all += 1;
            connecting += usize::from(!peer.connected());
        }
        let most = limits.sessions_per_address_max;
        connecting >= limits.handshakes_per_address_max || (most > 0 && all >= most)
    }

    fn keep_early(&mut self, bytes: &[u8], from: RawAddr, now: u64) {
        while let Some(early) = self.early.front().filter(|e| now - e.at_ns > EARLY_NS) {
            self.early_bytes -= early.bytes.len();
            self.early.pop_front();
        }
        if self.early_bytes + bytes.len() <= self.shared.limits.early_bytes_max {
            self.early_bytes += bytes.len();
            self.early.push_back(Early {
                at_ns: now,
                from,
                bytes: bytes.to_vec(),
            });
        } else {
            self.stats.early_dropped += 1;
        }
    }

    fn drive(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let port = &mut self.port;
        match survives(|| peer.drive(now, port)) {
            Some(step) => self.stepped(slot, step, now),
            None => self.panicked(slot),
        }
    }

    fn dtls(&mut self, slot: usize, bytes: &[u8], from: &RawAddr, now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let step = peer.dtls(bytes, from, now, &mut self.port);
        self.stepped(slot, step, now);
    }

    /// What follows from a step of the handshake.
    pub(super) fn stepped(&mut self, slot: usize, step: Step, now: u64) {
        match step {
            Step::Pending => {}
            Step::Over(reason) => self.close(slot, &reason),
            Step::Connected => {
                let Some(peer) = self.peers.get(slot) else {
                    return;
                };
                let (id, name) = (peer.id, peer.stream.name.clone());
                let publisher = peer.publisher;
                self.shared
                    .outbox
                    .event(id, &name, "connected", String::new());
                if !publisher {
                    self.watch(slot, now);
                }
            }
        }
    }

    fn rtcp(&mut self, slot: usize, bytes: &mut [u8], now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let stream = peer.stream.id;
        if peer.rates.feedback.left(self.shared.limits.feedback, now) == 0 {
            self.stats.feedback_limited += 1;
            return;
        }
        let (limits, rates) = (&self.shared.limits, &mut peer.rates);
        match &mut peer.flow {
            Flow::Opening => self.stats.dropped_in += 1,
            Flow::Source(source) => {
                let heard = source.rtcp(bytes, now);
                if heard.authentic {
                    rates.feedback.charge(1, limits.feedback, now);
                }
                self.publisher_said(slot, stream, &heard, now);
            }
            Flow::View(viewer) => {
                let Some(local) = self.streams.get(&stream) else {
                    return;
                };
                let before = viewer.counts.rtx;
                let most = rates.resends.left(limits.resends, now);
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let wishes = viewer.rtcp_within(bytes, &local.logs, (now, most), &mut self.port);
                let resent = viewer.counts.rtx - before;
                self.stats.rtx_out += resent;
                self.stats.resends_limited += wishes.unheard;
                if !wishes.authentic {
                    self.stats.dropped_in += 1;
                    return;
                }
                rates.feedback.charge(1, limits.feedback, now);
                rates.resends.charge(resent, limits.resends, now);
                let may_ask = wishes.keyframe && rates.keyframes.take(1, limits.keyframes, now);
                peer.settled();
                if may_ask {
                    self.ask_keyframe(stream, now);
                } else if wishes.keyframe {
                    self.stats.keyframes_limited += 1;
                }
                if wishes.goodbye {
                    self.close(slot, "peer said goodbye");
                }
            }
        }
    }

    fn publisher_said(&mut self, slot: usize, stream: u64, heard: &Heard, now: u64) {
        let unix_ns = self.shared.unix_ns(now);
        if let Some(hearth) = self.hearth(stream).filter(|h| h.source == Some(slot)) {
            for (medium, info) in &heard.reports {
                hearth.home.report(*medium, info, unix_ns);
            }
        }
        if heard.goodbye {
            self.close(slot, "peer said goodbye");
        }
    }

    fn rtp(&mut self, slot: usize, bytes: &mut [u8], now: u64) {
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let (session, info) = (peer.id, peer.stream.clone());
        let Flow::Source(source) = &mut peer.flow else {
            self.stats.dropped_in += 1;
            return;
        };
        let arrival = source.rtp(bytes, now);
        if let Some(due) = source.due_ns() {
            self.next_tick = self.next_tick.min(due);
        }
        let Some(arrival) = arrival else {
            self.stats.dropped_in += 1;
            return;
        };
        let (limits, rates) = (&self.shared.limits, &mut peer.rates);
        let bits = 8 * arrival.payload.len() as u64;
        let allowed = rates.packets.take(1, limits.publisher_packets, now)
            && rates.bits.take(bits, limits.publisher_bits, now);
        peer.settled();
        if !allowed {
            self.stats.packets_limited += 1;
            return;
        }
        let codec = arrival.codec;
        if !self.is_on_air(slot, session, info.id) {
            return;
        }
        let unix_ns = self.shared.unix_ns(now);
        let hold_ns = self.hold_ns(info.id);
        let Some(hearth) = self.hearth(info.id) else {
            return;
        };
        let news = hearth.home.codecs[usize::from(codec.is_video())] != Some(codec);
        let Some(packet) = hearth.home.place(session, &arrival, now, unix_ns) else {
            return;
        };
        let (marker, seen) = (packet.marker && packet.is_video(), hearth.home.codecs);
        let wanted = std::mem::take(&mut hearth.home.keyframe_wanted);
        hearth.pending.push(packet);
        if hearth.pending.len() == 1 {
            self.pending.push(info.id);
        }
        let due = if marker { now } else { now + hold_ns };
        self.pending_due = Some(self.pending_due.map_or(due, |other| other.min(due)));
        if news {
            self.on_air(slot, &seen);
        }
        if wanted {
            self.ask_keyframe(info.id, now);
        }
    }

    /// How long a packet of the stream may wait: next to nothing for a few viewers.
    pub(super) fn hold_ns(&self, stream: u64) -> u64 {
        let viewers = self.streams.get(&stream).map_or(0, |s| s.viewers.len());
        (viewers as u64 * HOLD_NS_PER_VIEWER).min(self.shared.limits.hold_ns)
    }

    /// Whether this publisher's packets count; the newest session takes the stream over.
    fn is_on_air(&mut self, slot: usize, session: u64, stream: u64) -> bool {
        let Some(local) = self.streams.get_mut(&stream) else {
            return false;
        };
        let Some(hearth) = &mut local.hearth else {
            return false;
        };
        if hearth.source == Some(slot) {
            return true;
        }
        if hearth
            .home
            .publisher
            .is_some_and(|current| current > session)
        {
            return false;
        }
        let replaced = hearth.source;
        hearth.source = Some(slot);
        hearth.home.take_over(session);
        local.logs[1].forget_group();
        if let Some(tap) = &mut hearth.tap {
            tap.restart();
        }
        if let Some(old) = replaced {
            if let Some(peer) = self.peers.get_mut(old) {
                peer.bye(&mut self.port);
            }
            self.close(old, "replaced");
        }
        true
    }

    /// The media on air have changed: viewers to come and the caller are told.
    fn on_air(&mut self, slot: usize, seen: &[Option<crate::sdp::Codec>; 2]) {
        let Some(peer) = self.peers.get(slot) else {
            return;
        };
        let live = peer.live(seen);
        let detail = super::report::tracks_json(&live);
        if peer.stream.set_live(peer.id, live) {
            self.shared
                .outbox
                .event(peer.id, &peer.stream.name, "tracks", detail);
        }
    }
}

/// What counts as one address: of IPv6 the /64 that one customer has.
fn prefix(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(v6) => {
            let [a, b, c, d, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}
