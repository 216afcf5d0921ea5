//! A stream on one worker: its logs and viewers, and at its home everything about the publisher.

use super::tally::Tally;
use crate::clock::Mapping;
use crate::log::Log;
use crate::packet::Packet;
use crate::sdp::Codec;
use crate::shared::StreamInfo;
use crate::stream::Home;
use crate::tap::Assembler;
use std::sync::Arc;

/// Where this worker's packets of the stream come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feed {
    /// This worker is the stream's home.
    Home,
    /// Nobody here watches.
    None,
    /// The home has been asked; packets are ignored until its log comes with this generation.
    Awaiting(u64),
    Live,
}

/// Units of a stream that Python wants: one assembler a medium, made when the codec is known.
#[derive(Default)]
pub struct Tap {
    pub assemblers: [Option<(Codec, Assembler)>; 2],
}

/// The home's part of a stream.
pub struct Hearth {
    pub home: Home,
    /// Slot of the publisher on air.
    pub source: Option<usize>,
    /// To the publisher and back; None: unknown.
    pub round_trip_ns: Option<u64>,
    /// Other workers that watch.
    pub subscribers: Vec<usize>,
    pub tap: Option<Tap>,
    /// Packets since the last fan-out.
    pub pending: Vec<Packet>,
}

/// A stream as one worker has it.
pub struct Local {
    pub info: Arc<StreamInfo>,
    /// Audio, video.
    pub logs: [Log; 2],
    pub clocks: [Option<Mapping>; 2],
    /// Slots of connected viewers.
    pub viewers: Vec<usize>,
    pub feed: Feed,
    /// What sessions that went had counted.
    pub past: Tally,
    pub hearth: Option<Box<Hearth>>,
}

impl Local {
    pub fn new(info: Arc<StreamInfo>, me: usize, gop_bytes_max: usize) -> Self {
        let at_home = info.home == me;
        let hearth = at_home.then(|| {
            Box::new(Hearth {
                home: Home::default(),
                source: None,
                round_trip_ns: None,
                subscribers: vec![],
                tap: None,
                pending: vec![],
            })
        });
        Local {
            info,
            logs: [Log::new(gop_bytes_max), Log::new(gop_bytes_max)],
            clocks: [None; 2],
            viewers: vec![],
            past: Tally::default(),
            feed: if at_home { Feed::Home } else { Feed::None },
            hearth,
        }
    }
}
