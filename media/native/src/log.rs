//! The packet log of one medium of a stream on one worker: what a joiner starts from and what lost
//! packets are sent again from.
//!
//! Dense by index: holes are kept as holes. It holds the packets since the newest key frame began
//! (the current group of pictures), bounded in bytes, and at least the last `KEPT_PACKETS`, or
//! those of the last `KEPT_MS` where that is more and the bytes allow it.

use crate::packet::Packet;
use std::collections::VecDeque;

/// Packets kept for retransmission whatever the group of pictures is.
pub const KEPT_PACKETS: usize = 1_024;
/// Time that packets are kept for retransmission, by their timestamps.
const KEPT_MS: u64 = 1_500;
/// Slots, holes included: a bound against indexes that jump.
const SLOTS_MAX: usize = 65_536;
/// A jump of indexes over this many starts the log anew.
const JUMP_MAX: u64 = 4_096;
/// What a packet costs beside its payload, for the bound in bytes.
const PACKET_OVERHEAD_BYTES: usize = 96;

/// The group of pictures that a joiner can start from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Group {
    start: u64,
    ts: u64,
    bytes: usize,
    packets: usize,
}

/// One medium's log.
pub struct Log {
    first: u64,
    slots: VecDeque<Option<Packet>>,
    group: Option<Group>,
    group_bytes_max: usize,
    /// Bytes of all packets kept.
    bytes: usize,
    top_ts: u64,
    overflows: u64,
}

/// What came of an insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    Stored,
    /// Too old, or there already: must not be sent to anyone.
    Refused,
    /// Stored, but the group of pictures has grown too big and is given up: a key frame is wanted.
    Overflow,
}

impl Log {
    pub fn new(group_bytes_max: usize) -> Self {
        Log {
            first: 0,
            slots: VecDeque::new(),
            group: None,
            group_bytes_max,
            bytes: 0,
            top_ts: 0,
            overflows: 0,
        }
    }

    /// Index after the newest packet; None before the first.
    pub fn end(&self) -> Option<u64> {
        (!self.slots.is_empty()).then(|| self.first + self.slots.len() as u64)
    }

    /// Oldest index kept.
    pub fn first(&self) -> u64 {
        self.first
    }

    /// Timestamp of the newest packet.
    pub fn top_ts(&self) -> u64 {
        self.top_ts
    }

    /// First packet of the current group of pictures.
    pub fn group_start(&self) -> Option<u64> {
        self.group.map(|g| g.start)
    }

    /// Another publisher: nobody starts from the former one's pictures any more.
    pub fn forget_group(&mut self) {
        self.group = None;
    }

    /// (packets, bytes) of the current group of pictures.
    pub fn group_size(&self) -> (usize, usize) {
        self.group.map_or((0, 0), |g| (g.packets, g.bytes))
    }

    /// Groups of pictures that were given up for their size.
    pub fn overflows(&self) -> u64 {
        self.overflows
    }

    pub fn get(&self, index: u64) -> Option<&Packet> {
        let at = usize::try_from(index.checked_sub(self.first)?).ok()?;
        self.slots.get(at)?.as_ref()
    }

    /// All packets kept, oldest first.
    pub fn packets(&self) -> impl Iterator<Item = &Packet> {
        self.slots.iter().flatten()
    }

    pub fn insert(&mut self, packet: Packet) -> Inserted {
        let (index, ts, key) = (packet.index, packet.ts, packet.key && packet.is_video());
        let size = packet.payload.len() + PACKET_OVERHEAD_BYTES;
        let end = self.first + self.slots.len() as u64;
        if self.slots.is_empty() || index > end + JUMP_MAX {
            self.slots.clear();
            self.bytes = 0;
            self.group = None;
            self.first = index;
            self.top_ts = ts;
            self.slots.push_back(Some(packet));
        } else if index >= end {
            for _ in end..index {
                self.slots.push_back(None);
            }
            self.slots.push_back(Some(packet));
            self.top_ts = self.top_ts.max(ts);
        } else {
            let at = index.checked_sub(self.first).map(|at| at as usize);
            match at.and_then(|at| self.slots.get_mut(at)) {
                Some(slot @ None) => *slot = Some(packet),
                _ => return Inserted::Refused,
            }
        }
        self.bytes += size;
        if key {
            self.begin_group(index, ts);
        }
        let overflow = self.grow_group(index, size);
        self.trim();
        if overflow {
            Inserted::Overflow
        } else {
            Inserted::Stored
        }
    }

    /// A key frame's packet: its group begins at the first packet of its timestamp.
    fn begin_group(&mut self, index: u64, ts: u64) {
        if self
            .group
            .is_some_and(|g| ts < g.ts || (ts == g.ts && index >= g.start))
        {
            return; // an older frame's straggler, or one more packet of this key frame
        }
        let mut start = index;
        while start > self.first && self.get(start - 1).is_some_and(|p| p.ts == ts) {
            start -= 1;
        }
        let (mut bytes, mut packets) = (0, 0);
        let from = (start - self.first) as usize;
        for p in self
            .slots
            .iter()
            .skip(from)
            .flatten()
            .filter(|p| p.index != index)
        {
            bytes += p.payload.len() + PACKET_OVERHEAD_BYTES;
            packets += 1;
        }
        self.group = Some(Group {
            start,
            ts,
            bytes,
            packets,
        });
    }

    /// Counts a packet into the group; true when that was too much.
    fn grow_group(&mut self, index: u64, size: usize) -> bool {
        let slots = self.slots.len();
        let Some(g) = self.group.as_mut().filter(|g| index >= g.start) else {
            return false;
        };
        g.bytes += size;
        g.packets += 1;
        if g.bytes <= self.group_bytes_max && slots <= SLOTS_MAX {
            return false;
        }
        self.group = None;
        self.overflows += 1;
        true
    }

    fn trim(&mut self) {
        let group_start = self.group.map_or(u64::MAX, |g| g.start);
        while self.slots.len() > KEPT_PACKETS && self.first < group_start && !self.recent() {
            self.drop_first();
        }
        while let Some(None) = self.slots.front() {
            self.drop_first();
        }
    }

    /// Whether the oldest packet may still be asked for, and there is room for it.
    fn recent(&self) -> bool {
        let Some(Some(oldest)) = self.slots.front() else {
            return false;
        };
        let kept = u64::from(oldest.codec.clock_hz()) * KEPT_MS / 1_000;
        self.top_ts.saturating_sub(oldest.ts) < kept
            && self.bytes <= self.group_bytes_max
            && self.slots.len() <= SLOTS_MAX
    }

    fn drop_first(&mut self) {
        if let Some(dropped) = self.slots.pop_front() {
            self.bytes -= dropped.map_or(0, |p| p.payload.len() + PACKET_OVERHEAD_BYTES);
            self.first += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Codec;

    fn packet(index: u64, ts: u64, key: bool, size: usize) -> Packet {
        Packet {
            codec: Codec::H264,
            key,
            marker: false,
            index,
            ts,
            payload: vec![0; size].into(),
        }
    }

    #[test]
    fn a_joiner_starts_at_the_newest_key_frames_first_packet() {
        let mut log = Log::new(1 << 20);
        log.insert(packet(100, 0, true, 10));
        log.insert(packet(101, 10, false, 10));
        log.insert(packet(102, 20, false, 10)); // an access unit delimiter before the SPS
        log.insert(packet(103, 20, true, 10));
        log.insert(packet(104, 20, true, 10));
        assert_eq!(log.group_start(), Some(102));
        assert_eq!(log.group_size().0, 3);
        assert_eq!(log.end(), Some(105));
    }

    #[test]
    fn a_late_first_packet_moves_the_start_back() {
        let mut log = Log::new(1 << 20);
        log.insert(packet(100, 0, false, 10));
        log.insert(packet(102, 20, true, 10));
        assert_eq!(log.group_start(), Some(102));
        assert_eq!(log.insert(packet(101, 20, true, 10)), Inserted::Stored);
        assert_eq!(log.group_start(), Some(101));
    }

    #[test]
    fn an_older_key_frames_straggler_does_not_take_over() {
        let mut log = Log::new(1 << 20);
        log.insert(packet(100, 0, false, 10));
        log.insert(packet(105, 50, true, 10));
        log.insert(packet(103, 20, true, 10));
        assert_eq!(log.group_start(), Some(105));
    }

    #[test]
    fn each_index_is_stored_once_and_the_old_not_at_all() {
        let mut log = Log::new(1 << 20);
        log.insert(packet(100, 0, false, 10));
        log.insert(packet(103, 0, false, 10));
        assert_eq!(log.insert(packet(101, 0, false, 10)), Inserted::Stored);
        assert_eq!(log.insert(packet(101, 0, false, 10)), Inserted::Refused);
        assert_eq!(log.insert(packet(99, 0, false, 10)), Inserted::Refused);
        assert!(log.get(102).is_none());
        assert_eq!(log.get(103).map(|p| p.index), Some(103));
    }

    #[test]
    fn without_a_key_frame_only_the_last_packets_stay() {
        let mut log = Log::new(1 << 20);
        for i in 0..5_000 {
            log.insert(packet(i, i * 3_000, false, 10));
        }
        assert_eq!(log.packets().count(), KEPT_PACKETS);
        assert_eq!(log.end(), Some(5_000));
    }

    #[test]
    fn a_long_group_stays_whole_until_the_next_key_frame() {
        let mut log = Log::new(16 << 20);
        log.insert(packet(0, 0, true, 10));
        for i in 1..4_000 {
            log.insert(packet(i, i * 3_000, false, 10));
        }
        assert_eq!(log.packets().count(), 4_000);
        log.insert(packet(4_000, 4_000 * 3_000, true, 10));
        assert_eq!(log.packets().count(), KEPT_PACKETS);
        assert_eq!(log.group_start(), Some(4_000));
    }

    #[test]
    fn fast_streams_keep_more_than_a_second_as_far_as_bytes_allow() {
        let ts = |i: u64| i * 90_000 / 5_000; // 5,000 packets a second
        let mut log = Log::new(16 << 20);
        for i in 0..20_000 {
            log.insert(packet(i, ts(i), false, 1_000));
        }
        assert!((7_450..7_550).contains(&log.packets().count()));
        let mut small = Log::new(4 << 20);
        for i in 0..20_000 {
            small.insert(packet(i, ts(i), false, 1_000));
        }
        let count = small.packets().count();
        assert!(count >= KEPT_PACKETS && count * 1_096 <= 4 << 20, "{count}");
    }

    #[test]
    fn a_group_over_its_bytes_is_given_up() {
        let mut log = Log::new(10_000);
        log.insert(packet(0, 0, true, 1_000));
        let overflow =
            (1..20).find(|i| log.insert(packet(*i, *i, false, 1_000)) == Inserted::Overflow);
        assert_eq!(overflow, Some(9));
        assert_eq!(log.group_start(), None);
        assert_eq!(log.overflows(), 1);
    }

    #[test]
    fn jumping_indexes_stay_bounded() {
        let mut log = Log::new(16 << 20);
        log.insert(packet(0, 0, true, 10));
        for i in 1..100u64 {
            log.insert(packet(i * 4_000, i, false, 10));
            assert!(log.slots.len() <= SLOTS_MAX + 4_001);
        }
        log.insert(packet(1 << 40, 200, false, 10));
        assert_eq!(log.packets().count(), 1);
    }
}
