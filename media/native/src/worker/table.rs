//! The peers of a worker, and the ways to find one: by slot, session, ICE name, source address.

use crate::handshake::Peer;
use std::collections::HashMap;
use std::net::SocketAddr;

/// Peers in numbered slots; a slot is used again once its peer is gone.
#[derive(Default)]
pub struct Table {
    slots: Vec<Option<Box<Peer>>>,
    free: Vec<usize>,
    by_id: HashMap<u64, usize>,
    by_ufrag: HashMap<String, usize>,
    by_addr: HashMap<SocketAddr, usize>,
}

impl Table {
    pub fn insert(&mut self, peer: Box<Peer>) -> usize {
        let slot = self.free.pop().unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.by_id.insert(peer.id, slot);
        self.by_ufrag.insert(peer.ufrag.clone(), slot);
        self.slots[slot] = Some(peer);
        slot
    }

    pub fn remove(&mut self, slot: usize) -> Option<Box<Peer>> {
        let peer = self.slots.get_mut(slot)?.take()?;
        self.by_id.remove(&peer.id);
        self.by_ufrag.remove(&peer.ufrag);
        for addr in &peer.addrs {
            if self.by_addr.get(addr) == Some(&slot) {
                self.by_addr.remove(addr);
            }
        }
        self.free.push(slot);
        Some(peer)
    }

    pub fn get(&self, slot: usize) -> Option<&Peer> {
        self.slots.get(slot)?.as_deref()
    }

    pub fn get_mut(&mut self, slot: usize) -> Option<&mut Peer> {
        self.slots.get_mut(slot)?.as_deref_mut()
    }

    pub fn find_id(&self, id: u64) -> Option<usize> {
        self.by_id.get(&id).copied()
    }

    pub fn find_ufrag(&self, ufrag: &str) -> Option<usize> {
        self.by_ufrag.get(ufrag).copied()
    }

    pub fn find_addr(&self, addr: SocketAddr) -> Option<usize> {
        self.by_addr.get(&addr).copied()
    }

    /// Datagrams from `addr` are this peer's from now on.
    pub fn claim(&mut self, addr: SocketAddr, slot: usize) {
        self.by_addr.insert(addr, slot);
        let surplus = self.get_mut(slot).and_then(Peer::surplus_addr);
        if let Some(surplus) = surplus.filter(|a| self.by_addr.get(a) == Some(&slot)) {
            self.by_addr.remove(&surplus);
        }
    }

    pub fn len(&self) -> usize {
        self.by_id.len()
    }

    /// Slots that are, or have been, in use.
    pub fn slots(&self) -> std::ops::Range<usize> {
        0..self.slots.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Peer> {
        self.slots.iter().filter_map(Option::as_deref)
    }
}
