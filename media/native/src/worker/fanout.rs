//! From the publisher's packets to everyone: the log, viewers here, other workers, the tap.

use super::local::{Feed, Hearth, Local, Tap};
use super::{survives, Worker};
use crate::handshake::Flow;
use crate::log::Inserted;
use crate::outbox::Unit;
use crate::packet::{Batch, Packet};
use crate::shared::Shared;
use crate::tap::{Assembler, Piece};
use std::sync::Arc;

impl Worker {
    /// Sends on all that has come.
    pub(super) fn fan_out(&mut self, now: u64) {
        self.pending_due = None;
        for stream in std::mem::take(&mut self.pending) {
            self.fan_out_stream(stream, now);
        }
    }

    /// Sends on what has come of one stream.
    pub(super) fn flush_stream(&mut self, stream: u64) {
        if let Some(at) = self.pending.iter().position(|s| *s == stream) {
            self.pending.swap_remove(at);
            self.fan_out_stream(stream, crate::shared::now_ns());
        }
        if self.pending.is_empty() {
            self.pending_due = None;
        }
    }

    fn fan_out_stream(&mut self, stream: u64, now: u64) {
        let Some(local) = self.streams.get_mut(&stream) else {
            return;
        };
        let Some(hearth) = &mut local.hearth else {
            return;
        };
        let mut packets = std::mem::take(&mut hearth.pending);
        local.clocks = [0, 1].map(|medium| hearth.home.clock.mapping(medium));
        let overflow = remember(&mut local.logs, &mut packets);
        let batch = Arc::new(Batch {
            packets,
            clocks: local.clocks,
        });
        for &worker in &hearth.subscribers {
            let command = super::Command::Forward(stream, batch.clone());
            if !self.shared.mailboxes[worker].post(command) {
                self.stats.dropped_between += batch.packets.len() as u64;
            }
        }
        let source = hearth.source;
        if survives(|| tap(local, &batch.packets, &self.shared, now)).is_none() {
            self.untapped(stream, source);
        }
        self.deliver(stream, &batch.packets);
        if overflow {
            self.ask_keyframe(stream, now);
        }
    }

    /// Taking a publisher's units apart panicked: it goes, and what was half-built with it.
    pub(super) fn untapped(&mut self, stream: u64, source: Option<usize>) {
        if let Some(tap) = self.hearth(stream).and_then(|h| h.tap.as_mut()) {
            *tap = Tap::default();
        }
        match source {
            Some(slot) => self.panicked(slot),
            None => self.stats.panics += 1,
        }
    }

    /// A batch from the stream's home.
    pub(super) fn forwarded(&mut self, stream: u64, batch: &Batch) {
        let Some(local) = self.streams.get_mut(&stream) else {
            return;
        };
        if local.feed != Feed::Live {
            return;
        }
        local.clocks = batch.clocks;
        let mut packets = batch.packets.clone();
        remember(&mut local.logs, &mut packets);
        self.deliver(stream, &packets);
    }

    /// To every viewer here. Video first, then audio: neighbours of one size share a message.
    pub(super) fn deliver(&mut self, stream: u64, packets: &[Packet]) {
        let Some(local) = self.streams.get(&stream) else {
            return;
        };
        let mut panicked = vec![];
        for &slot in &local.viewers {
            let Some(Flow::View(viewer)) = self.peers.get_mut(slot).map(|p| &mut p.flow) else {
                continue;
            };
            let port = &mut self.port;
            let done = survives(|| {
                viewer.forward(packets, 1, port);
                viewer.forward(packets, 0, port);
            });
            if done.is_none() {
                panicked.push(slot);
            }
        }
        for slot in panicked {
            self.panicked(slot);
        }
    }

    /// Gives viewers that are behind their next piece.
    pub(super) fn serve_behind(&mut self, now: u64) {
        let mut panicked = vec![];
        let (peers, streams, port) = (&mut self.peers, &self.streams, &mut self.port);
        self.behind.retain(|&slot| {
            let Some(peer) = peers.get_mut(slot) else {
                return false;
            };
            let (Flow::View(viewer), Some(local)) = (&mut peer.flow, streams.get(&peer.stream.id))
            else {
                return false;
            };
            let going = survives(|| viewer.catch_up(&local.logs[1], now, port));
            if going.is_none() {
                panicked.push(slot);
            }
            going.unwrap_or(false)
        });
        for slot in panicked {
            self.panicked(slot);
        }
    }
}

/// Puts packets into the logs; leaves only those that are new. True: a key frame is wanted.
fn remember(logs: &mut [crate::log::Log; 2], packets: &mut Vec<Packet>) -> bool {
    let mut overflow = false;
    packets.retain(
        |packet| match logs[packet.medium()].insert(packet.clone()) {
            Inserted::Stored => true,
            Inserted::Overflow => {
                overflow = true;
                true
            }
            Inserted::Refused => false,
        },
    );
    overflow
}

/// Hands packets to the assemblers, and their units to the caller.
fn tap(local: &mut Local, packets: &[Packet], shared: &Shared, now: u64) {
    let clocks = local.clocks;
    let Some(hearth) = local.hearth.as_deref_mut() else {
        return;
    };
    let Hearth { home, tap, .. } = hearth;
    let (Some(tap), Some(session)) = (tap, home.publisher) else {
        return;
    };
    let mut made = vec![];
    for packet in packets {
        let medium = packet.medium();
        let Some(assembler) = tap.assembler(packet) else {
            continue;
        };
        let piece = Piece {
            index: packet.index,
            ts: packet.ts,
            marker: packet.marker,
            payload: &packet.payload,
        };
        let mut units = vec![];
        assembler.push(&piece, now, &mut units);
        made.extend(units.into_iter().map(|unit| (medium, unit)));
    }
    tap_units(&local.info.name, session, &clocks, made, shared);
}

/// Dates units by the stream clock and queues them.
pub(super) fn tap_units(
    stream: &Arc<str>,
    session: u64,
    clocks: &[Option<crate::clock::Mapping>; 2],
    made: Vec<(usize, crate::tap::Assembled)>,
    shared: &Shared,
) {
    if made.is_empty() {
        return;
    }
    shared
        .outbox
        .push_units(made.into_iter().map(|(medium, unit)| Unit {
            stream: stream.clone(),
            session,
            video: medium == 1,
            at_ns: clocks[medium].map_or(0, |clock| clock.at_ns(unit.ts)),
            timestamp: unit.ts,
            keyframe: unit.keyframe,
            lost: unit.lost,
            data: unit.data,
            sps: unit.sps,
            pps: unit.pps,
        }));
}

impl Tap {
    /// Another publisher: half-built units go, parameter sets will be told again.
    pub(super) fn restart(&mut self) {
        for (_, assembler) in self.assemblers.iter_mut().flatten() {
            assembler.restart();
        }
    }

    /// Units that need not be waited for any longer, with their medium.
    pub(super) fn expire(
        &mut self,
        round_trip_ns: Option<u64>,
        now: u64,
    ) -> Vec<(usize, crate::tap::Assembled)> {
        let mut made = vec![];
        for (medium, slot) in self.assemblers.iter_mut().enumerate() {
            let Some((_, assembler)) = slot else { continue };
            let mut units = vec![];
            assembler.adapt(round_trip_ns);
            assembler.expire(now, &mut units);
            made.extend(units.into_iter().map(|unit| (medium, unit)));
        }
        made
    }

    fn assembler(&mut self, packet: &Packet) -> Option<&mut Assembler> {
        let slot = &mut self.assemblers[packet.medium()];
        if slot
            .as_ref()
            .is_none_or(|(codec, _)| *codec != packet.codec)
        {
            *slot = Assembler::new(packet.codec).map(|a| (packet.codec, a));
        }
        slot.as_mut().map(|(_, assembler)| assembler)
    }
}
