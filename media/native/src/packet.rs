//! One publisher's packet on its way to viewers: decrypted once, shared by all of them.

use crate::clock::Mapping;
use crate::sdp::Codec;
use crate::wire::Wire;
use std::sync::Arc;

/// A media packet as viewers see it: index and timestamp are the stream's, continuous over
/// publishers.
#[derive(Clone)]
pub struct Packet {
    pub codec: Codec,
    /// A decoder can start here: the packet is, or opens, a key frame.
    pub key: bool,
    pub marker: bool,
    pub index: u64,
    /// In ticks of the codec's clock, extended to 64 bits.
    pub ts: u64,
    pub payload: Arc<[u8]>,
}

impl Packet {
    pub fn is_video(&self) -> bool {
        self.codec.is_video()
    }

    /// Which of the two media, as an index.
    pub fn medium(&self) -> usize {
        usize::from(self.is_video())
    }
}

/// What a stream got since the last fan-out, with its clock as it is now. Crosses workers.
pub struct Batch {
    pub packets: Vec<Packet>,
    pub clocks: [Option<Mapping>; 2],
}

/// Codecs in the order of their number in records.
const CODECS: [Codec; 5] = [Codec::H264, Codec::Vp8, Codec::Vp9, Codec::Av1, Codec::Opus];

impl Wire for Codec {
    fn put(&self, out: &mut Vec<u8>) {
        let number = CODECS.iter().position(|c| c == self).unwrap_or(0);
        (number as u8).put(out);
    }
    fn get(input: &mut &[u8]) -> Option<Self> {
        CODECS.get(usize::from(u8::get(input)?)).copied()
    }
}
