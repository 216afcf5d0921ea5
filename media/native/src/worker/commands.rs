//! What a worker is asked by the caller and by other workers, and how sessions come and go.

use super::local::{Feed, Local, Tap};
use super::report::Report;
use super::{survives, Early, Worker};
use crate::clock::Mapping;
use crate::handshake::{Flow, Peer};
use crate::packet::{Batch, Packet};
use crate::shared::{now_ns, StreamInfo};
use crate::stun;
use std::sync::mpsc::SyncSender;
use std::sync::Arc;

/// How long a binding request waits for its session.
pub(super) const EARLY_NS: u64 = 50_000_000;

/// A request to a worker.
pub enum Command {
    /// A new session; told when it is registered.
    Add(Box<Peer>, SyncSender<()>),
    Close(u64, String),
    KeyFrame(Arc<StreamInfo>),
    Tap(Arc<StreamInfo>, bool),
    /// The stream is not in the directory any more.
    Forget(u64),
    Report(SyncSender<Report>),
    Stop,
    /// To a stream's home: `worker` has viewers of it from now on.
    Subscribe {
        stream: Arc<StreamInfo>,
        worker: usize,
        generation: u64,
    },
    Unsubscribe {
        stream: u64,
        worker: usize,
    },
    /// From a stream's home: all it has, then every packet.
    Snapshot {
        stream: u64,
        generation: u64,
        packets: Vec<Packet>,
        clocks: [Option<Mapping>; 2],
    },
    Forward(u64, Arc<Batch>),
}

impl Worker {
    pub(super) fn command(&mut self, command: Command) {
        let now = now_ns();
        match command {
            Command::Add(peer, done) => {
                self.add(peer, now);
                let _ = done.send(());
            }
            Command::Close(session, reason) => {
                if let Some(slot) = self.peers.find_id(session) {
                    let port = &mut self.port;
                    if let Some(peer) = self.peers.get_mut(slot) {
                        survives(|| peer.bye(port));
                    }
                    self.close(slot, &reason);
                }
            }
            Command::KeyFrame(stream) => self.ask_keyframe(stream.id, now),
            Command::Tap(stream, on) => {
                if on {
                    self.local(&stream);
                }
                if let Some(hearth) = self.hearth(stream.id) {
                    if hearth.tap.is_some() != on {
                        hearth.tap = on.then(Tap::default);
                    }
                }
            }
            Command::Forget(stream) => self.forget(stream),
            Command::Report(reply) => {
                let report = self.report(now);
                let _ = reply.send(report);
            }
            Command::Stop => self.stopping = true,
            Command::Subscribe {
                stream,
                worker,
                generation,
            } => self.subscribed(&stream, worker, generation),
            Command::Unsubscribe { stream, worker } => {
                if let Some(hearth) = self.hearth(stream) {
                    hearth.subscribers.retain(|w| *w != worker);
                }
            }
            Command::Snapshot {
                stream,
                generation,
                packets,
                clocks,
            } => self.snapshot(stream, generation, packets, clocks),
            Command::Forward(stream, batch) => self.forwarded(stream, &batch),
        }
    }

    /// The stream on this worker, made if it is new here.
    pub(super) fn local(&mut self, info: &Arc<StreamInfo>) -> &mut Local {
        let (me, gop) = (self.me, self.shared.limits.gop_bytes_max);
        self.streams
            .entry(info.id)
            .or_insert_with(|| Local::new(info.clone(), me, gop))
    }

    pub(super) fn hearth(&mut self, stream: u64) -> Option<&mut super::local::Hearth> {
        self.streams.get_mut(&stream)?.hearth.as_deref_mut()
    }

    fn add(&mut self, peer: Box<Peer>, now: u64) {
        let info = peer.stream.clone();
        let ufrag = peer.ufrag.clone();
        self.local(&info);
        let slot = self.peers.insert(peer);
        self.opening.push(slot);
        let mine = |e: &Early| stun::ufrag(&e.bytes) == Some(&ufrag);
        let early = std::mem::take(&mut self.early).into_iter();
        let (mine, others): (Vec<Early>, _) = early.partition(mine);
        self.early = others.into();
        for mut request in mine {
            self.early_bytes -= request.bytes.len();
            if now.saturating_sub(request.at_ns) <= EARLY_NS {
                self.datagram(&mut request.bytes, request.from, now);
            }
        }
    }

    /// Ends a session, for whatever reason; its "closed" event comes from here alone.
    pub(super) fn close(&mut self, slot: usize, reason: &str) {
        let Some(peer) = self.peers.remove(slot) else {
            return;
        };
        self.opening.retain(|s| *s != slot);
        self.behind.retain(|s| *s != slot);
        let stream = peer.stream.id;
        if let Some(local) = self.streams.get_mut(&stream) {
            local.past.add_flow(&peer.flow);
            local.viewers.retain(|s| *s != slot);
            if let Some(hearth) = &mut local.hearth {
                if hearth.source == Some(slot) {
                    hearth.source = None;
                    hearth.home.publisher = None;
                    peer.stream.clear_live(peer.id);
                }
            }
            let deserted =
                local.viewers.is_empty() && !matches!(local.feed, Feed::Home | Feed::None);
            if deserted {
                self.unsubscribe(stream);
            }
        }
        self.shared.closed(peer.id, &peer.stream, reason);
    }

    /// Nobody needs the stream: its log goes, unless a session has come back meanwhile.
    fn forget(&mut self, stream: u64) {
        let used = self.peers.iter().any(|p| p.stream.id == stream);
        if !used {
            self.streams.remove(&stream);
        }
    }

    /// A viewer is connected: it gets what there is and all that comes.
    pub(super) fn watch(&mut self, slot: usize, now: u64) {
        let Some(peer) = self.peers.get(slot) else {
            return;
        };
        let info = peer.stream.clone();
        self.local(&info).viewers.push(slot);
        if self.local(&info).feed == Feed::None {
            self.generation += 1;
            let generation = self.generation;
            self.local(&info).feed = Feed::Awaiting(generation);
            let worker = self.me;
            self.shared.mailboxes[info.home].post(Command::Subscribe {
                stream: info.clone(),
                worker,
                generation,
            });
        }
        if !matches!(self.local(&info).feed, Feed::Awaiting(_)) {
            self.start_viewer(slot, info.id, now);
        }
    }

    fn start_viewer(&mut self, slot: usize, stream: u64, now: u64) {
        let (Some(peer), Some(local)) = (self.peers.get_mut(slot), self.streams.get(&stream))
        else {
            return;
        };
        let Flow::View(viewer) = &mut peer.flow else {
            return;
        };
        let wanted = viewer.start(&local.logs, now);
        if viewer.behind() && !self.behind.contains(&slot) {
            self.behind.push(slot);
        }
        if wanted {
            self.ask_keyframe(stream, now);
        }
    }

    fn unsubscribe(&mut self, stream: u64) {
        let (me, gop) = (self.me, self.shared.limits.gop_bytes_max);
        if let Some(local) = self.streams.get_mut(&stream) {
            let info = local.info.clone();
            self.shared.mailboxes[info.home].post(Command::Unsubscribe { stream, worker: me });
            let past = local.past;
            *local = Local::new(info, me, gop);
            local.past = past;
        }
    }

    fn subscribed(&mut self, stream: &Arc<StreamInfo>, worker: usize, generation: u64) {
        self.flush_stream(stream.id);
        let local = self.local(stream);
        let packets = local
            .logs
            .iter()
            .flat_map(|l| l.packets())
            .cloned()
            .collect();
        let clocks = local.clocks;
        if let Some(hearth) = &mut local.hearth {
            if !hearth.subscribers.contains(&worker) {
                hearth.subscribers.push(worker);
            }
        }
        self.shared.mailboxes[worker].post(Command::Snapshot {
            stream: stream.id,
            generation,
            packets,
            clocks,
        });
    }

    fn snapshot(
        &mut self,
        stream: u64,
        generation: u64,
        packets: Vec<Packet>,
        clocks: [Option<Mapping>; 2],
    ) {
        let Some(local) = self.streams.get_mut(&stream) else {
            return;
        };
        if local.feed != Feed::Awaiting(generation) {
            return;
        }
        local.feed = Feed::Live;
        local.clocks = clocks;
        for packet in packets {
            let medium = packet.medium();
            local.logs[medium].insert(packet);
        }
        let now = now_ns();
        for slot in local.viewers.clone() {
            self.start_viewer(slot, stream, now);
        }
    }

    /// Asks the publisher for a key frame, here or at the stream's home.
    pub(super) fn ask_keyframe(&mut self, stream: u64, now: u64) {
        let Some(local) = self.streams.get_mut(&stream) else {
            return;
        };
        match &mut local.hearth {
            None => {
                let info = local.info.clone();
                self.shared.mailboxes[info.home].post(Command::KeyFrame(info));
            }
            Some(hearth) => {
                if hearth.source.is_some() && hearth.home.ask(now) == crate::stream::Ask::Now {
                    self.send_pli(stream);
                }
            }
        }
    }

    pub(super) fn send_pli(&mut self, stream: u64) {
        let Some(hearth) = self
            .streams
            .get_mut(&stream)
            .and_then(|l| l.hearth.as_mut())
        else {
            return;
        };
        let Some(slot) = hearth.source else {
            return;
        };
        let Some(Flow::Source(source)) = self.peers.get_mut(slot).map(|p| &mut p.flow) else {
            return;
        };
        if source.pli(&mut self.port) {
            hearth.home.plis_out += 1;
            self.stats.plis_out += 1;
        }
    }
}
