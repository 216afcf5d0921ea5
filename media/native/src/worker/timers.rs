//! What happens because time passes: handshakes, reports, consent, overdue units.

use super::fanout::tap_units;
use super::{survives, Worker, IDLE_TICK_NS, TICK_NS};
use crate::handshake::Flow;
use crate::shared::thread_cpu_ns;

/// A peer is looked at every so many ticks.
const SWEEP: usize = 10;

impl Worker {
    pub(super) fn tick(&mut self, now: u64) {
        self.tick_openings(now);
        let busy = self.tick_streams(now) || !self.opening.is_empty();
        self.next_tick = now + if busy { TICK_NS } else { IDLE_TICK_NS };
        self.sweep = (self.sweep + 1) % SWEEP;
        let part = if busy { SWEEP } else { 1 };
        for slot in self.peers.slots().skip(self.sweep % part).step_by(part) {
            self.look_at(slot, now);
        }
        self.shared.outbox.tick(now);
        self.stats.cpu_ns = thread_cpu_ns();
    }

    fn tick_openings(&mut self, now: u64) {
        let handshake_ns = self.shared.limits.handshake_ns;
        for slot in self.opening.clone() {
            let Some(peer) = self.peers.get_mut(slot) else {
                continue;
            };
            let port = &mut self.port;
            match survives(|| peer.tick(now, handshake_ns, port)) {
                Some(step) => self.stepped(slot, step, now),
                None => self.panicked(slot),
            }
        }
        let peers = &self.peers;
        self.opening
            .retain(|&slot| peers.get(slot).is_some_and(|p| p.is_opening()));
        let connecting = |slot: &&usize| peers.get(**slot).is_some_and(|p| !p.connected());
        self.stats.handshakes = self.opening.iter().filter(connecting).count() as u64;
    }

    /// Publishers' feedback. False: nothing is on air here.
    fn tick_streams(&mut self, now: u64) -> bool {
        let mut panicked = vec![];
        let mut untapped = vec![];
        let (mut due, mut again) = (vec![], vec![]);
        let mut busy = false;
        for (id, local) in &mut self.streams {
            busy |= !local.viewers.is_empty();
            let Some(hearth) = &mut local.hearth else {
                continue;
            };
            let Some(slot) = hearth.source else {
                continue;
            };
            busy = true;
            if hearth.home.ask_due(now) {
                due.push(*id);
            }
            let round_trip_ns = hearth.round_trip_ns;
            if let (Some(tap), Some(session)) = (&mut hearth.tap, hearth.home.publisher) {
                match survives(|| tap.expire(round_trip_ns, now)) {
                    Some(made) => {
                        tap_units(&local.info.name, session, &local.clocks, made, &self.shared);
                    }
                    None => untapped.push((*id, slot)),
                }
            }
            let Some(Flow::Source(source)) = self.peers.get_mut(slot).map(|p| &mut p.flow) else {
                continue;
            };
            let port = &mut self.port;
            match survives(|| source.tick(now, port)) {
                Some(asked) => self.stats.nacks_out += asked,
                None => panicked.push(slot),
            }
            let way = source.link.rec.round_trip.smooth_ns;
            hearth.round_trip_ns = way;
            if source.take_broken() {
                due.push(*id);
            }
            if source.lossy(now) && hearth.home.repeat_due(way, now) {
                again.push(*id);
            }
        }
        for (stream, slot) in untapped {
            self.untapped(stream, Some(slot));
        }
        for slot in panicked {
            self.panicked(slot);
        }
        for stream in due {
            self.ask_keyframe(stream, now);
        }
        for stream in again {
            self.send_pli(stream);
        }
        busy
    }

    /// Sender reports to viewers, and whether the peer is still there.
    fn look_at(&mut self, slot: usize, now: u64) {
        let silence_ns = self.shared.limits.silence_ns;
        let unix_ns = self.shared.unix_ns(now);
        let Some(peer) = self.peers.get_mut(slot) else {
            return;
        };
        let mut over = peer
            .link()
            .and_then(|l| l.gone(now, silence_ns))
            .map(String::from);
        if let Flow::View(viewer) = &mut peer.flow {
            if let Some(codec) = viewer.mismatch {
                over = over.or(Some(format!(
                    "failed: the stream has changed to {}",
                    codec.name()
                )));
            } else if let Some(local) = self.streams.get(&peer.stream.id) {
                if viewer.first_ns != 0 && !viewer.first_told {
                    viewer.first_told = true;
                    let (id, name) = (peer.id, &peer.stream.name);
                    let detail = viewer.first_ns.to_string();
                    self.shared.outbox.event(id, name, "playing", detail);
                }
                let port = &mut self.port;
                if survives(|| viewer.tick(now, unix_ns, &local.clocks, port)).is_none() {
                    return self.panicked(slot);
                }
            }
        }
        if let Some(reason) = over {
            self.close(slot, &reason);
        }
    }
}
