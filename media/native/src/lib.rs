//! The packet data plane of Nexus COS, and nothing else: WebRTC media in and out, no signalling
//! transport, no policy. Python sees it as `media._native` (`python.rs`); `api.rs` is the same for
//! Rust.
//!
//! Where to read on: `worker.rs` is the loop, `source.rs` a publisher, `stream.rs` what makes one
//! stream of many publishers, `viewer.rs` a viewer, `clock.rs` the time.

pub mod api;
pub mod clock;
pub mod dtls;
pub mod handshake;
pub mod keyframe;
pub mod link;
pub mod log;
pub mod net;
pub mod outbox;
pub mod packet;
pub mod rate;
pub mod rtcp;
pub mod sdp;
pub mod shared;
pub mod source;
pub mod srtp;
pub mod stream;
pub mod stun;
pub mod swarm;
pub mod tap;
pub mod viewer;
pub mod wire;
pub mod worker;

#[cfg(feature = "extension")]
mod python;

#[cfg(feature = "extension")]
#[pyo3::pymodule]
fn _native(m: &pyo3::Bound<'_, pyo3::types::PyModule>) -> pyo3::PyResult<()> {
    python::init(m)
}
