//! Placeholder until the parser lands.
use super::*;

/// Answers a publisher's offer (WHIP).
pub fn answer_publisher(
    offer: &str,
    local: &Local,
) -> Result<(String, Remote, Vec<PublishTrack>), SdpFault> {
    let _ = (offer, local);
    Err(SdpFault::NotAcceptable("not built yet".into()))
}

/// Answers a viewer's offer (WHEP). `ssrc` makes a new SSRC at each call.
pub fn answer_viewer(
    offer: &str,
    local: &Local,
    live: &Live,
    ssrc: impl FnMut() -> u32,
) -> Result<(String, Remote, Vec<PlayTrack>), SdpFault> {
    let _ = (offer, local, live, ssrc);
    Err(SdpFault::NotAcceptable("not built yet".into()))
}
