//! What a worker tells about its sessions and streams when asked.

use super::tally::Tally;
use super::Worker;
use crate::handshake::Flow;
use crate::sdp::Live;
use std::collections::HashMap;

/// One session, as `Sfu.sessions` gives it.
pub struct SessionRow {
    pub session: u64,
    pub stream: String,
    pub publisher: bool,
    pub connected: bool,
    pub remote: String,
    pub packets: u64,
    pub bytes: u64,
    pub lost: u64,
    pub rtx: u64,
    pub nacks: u64,
    pub plis: u64,
    pub age_ms: u64,
    pub idle_ms: u64,
    /// -1: unknown.
    pub rtt_ms: i64,
}

/// One stream on one worker; the home's numbers are 0 elsewhere.
#[derive(Clone, Copy, Default)]
pub struct StreamRow {
    pub stream: u64,
    pub home: bool,
    pub publisher: u64,
    pub viewers: u64,
    /// Audio, video.
    pub packets_in: [u64; 2],
    pub bytes_in: [u64; 2],
    pub frames_in: u64,
    /// Of the publisher on air alone.
    pub lost_in: u64,
    pub keyframe_age_ms: i64,
    pub gop_packets: u64,
    pub gop_bytes: u64,
    pub plis_out: u64,
    /// To the publisher and back; -1: unknown.
    pub rtt_ms: i64,
    pub tally: Tally,
}

/// All sessions and streams of one worker.
#[derive(Default)]
pub struct Report {
    pub sessions: Vec<SessionRow>,
    pub streams: Vec<StreamRow>,
}

impl Worker {
    pub(super) fn report(&self, now: u64) -> Report {
        let mut streams: HashMap<u64, StreamRow> = self
            .streams
            .keys()
            .map(|id| (*id, self.stream_row(*id, now)))
            .collect();
        for peer in self.peers.iter() {
            if let Some(row) = streams.get_mut(&peer.stream.id) {
                row.tally.add_flow(&peer.flow);
            }
        }
        Report {
            sessions: self.peers.iter().map(|p| session_row(p, now)).collect(),
            streams: streams.into_values().collect(),
        }
    }

    fn stream_row(&self, id: u64, now: u64) -> StreamRow {
        let mut row = StreamRow {
            stream: id,
            keyframe_age_ms: -1,
            rtt_ms: -1,
            ..StreamRow::default()
        };
        let Some(local) = self.streams.get(&id) else {
            return row;
        };
        row.viewers = local.viewers.len() as u64;
        row.tally = local.past;
        let Some(hearth) = &local.hearth else {
            return row;
        };
        row.home = true;
        row.publisher = hearth.home.publisher.unwrap_or(0);
        row.packets_in = hearth.home.packets_in;
        row.bytes_in = hearth.home.bytes_in;
        row.frames_in = hearth.home.frames_in;
        row.plis_out = hearth.home.plis_out;
        if let Some(at) = hearth.home.keyframe_ns {
            row.keyframe_age_ms = (now.saturating_sub(at) / 1_000_000) as i64;
        }
        let (packets, bytes) = local.logs[1].group_size();
        (row.gop_packets, row.gop_bytes) = (packets as u64, bytes as u64);
        let source = hearth.source.and_then(|slot| self.peers.get(slot));
        if let Some(Flow::Source(source)) = source.map(|p| &p.flow) {
            row.lost_in = source.counts().lost;
            row.rtt_ms = source.link.rec.round_trip.ms();
        }
        row
    }
}

fn session_row(peer: &crate::handshake::Peer, now: u64) -> SessionRow {
    let since = |at: u64| now.saturating_sub(at) / 1_000_000;
    let heard = peer.link().map_or(peer.born_ns, |l| l.rec.heard_ns);
    let mut row = SessionRow {
        session: peer.id,
        stream: peer.stream.name.to_string(),
        publisher: peer.publisher,
        connected: peer.connected(),
        remote: peer.addr.map_or(String::new(), |a| a.addr().to_string()),
        packets: 0,
        bytes: 0,
        lost: 0,
        rtx: 0,
        nacks: 0,
        plis: 0,
        age_ms: since(peer.born_ns),
        idle_ms: since(heard),
        rtt_ms: peer.link().map_or(-1, |l| l.rec.round_trip.ms()),
    };
    match &peer.flow {
        Flow::Opening => {}
        Flow::Source(source) => {
            let counts = source.counts();
            row.packets = counts.packets;
            row.bytes = counts.bytes;
            row.lost = counts.lost;
            row.rtx = counts.rtx;
            row.nacks = counts.nacks;
            row.plis = counts.plis;
        }
        Flow::View(viewer) => {
            row.packets = viewer.counts.packets.iter().sum();
            row.bytes = viewer.counts.bytes.iter().sum();
            row.lost = viewer.lost();
            row.rtx = viewer.counts.rtx;
            row.nacks = viewer.counts.nacks;
            row.plis = viewer.counts.plis;
        }
    }
    row
}

/// The "tracks" event's detail.
pub(super) fn tracks_json(live: &Live) -> String {
    let codec = |medium: &Option<(crate::sdp::Codec, String)>| {
        medium
            .as_ref()
            .map_or("null".into(), |(c, _)| quoted(c.name()))
    };
    let format = |medium: &Option<(crate::sdp::Codec, String)>| {
        quoted(medium.as_ref().map_or("", |(_, fmtp)| fmtp))
    };
    format!(
        r#"{{"video":{},"audio":{},"video_format":{},"audio_format":{}}}"#,
        codec(&live.video),
        codec(&live.audio),
        format(&live.video),
        format(&live.audio)
    )
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sdp::Codec;

    #[test]
    fn the_tracks_events_detail_is_json_whatever_the_format_says() {
        let live = Live {
            video: Some((Codec::H264, "a=\"1\"\\;\n".into())),
            audio: None,
        };
        let expected = concat!(
            r#"{"video":"H264","audio":null,"#,
            r#""video_format":"a=\"1\"\\;\u000a","audio_format":""}"#
        );
        assert_eq!(tracks_json(&live), expected);
    }
}
