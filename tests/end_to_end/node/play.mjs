// A WHEP player on werift, a WebRTC stack in TypeScript that shares no code with ours, Chromium's or aiortc's.
// Usage: play.mjs URL FILE SECONDS. Writes H.264 as Annex B to FILE; prints one line of JSON at the end.
import fs from "node:fs";
import { RTCPeerConnection, RTCRtpCodecParameters, H264RtpPayload } from "werift";

const [url, file, seconds] = process.argv.slice(2);
const codec = (mimeType, clockRate, more = {}) => new RTCRtpCodecParameters({ mimeType, clockRate, ...more });
const pc = new RTCPeerConnection({
  iceAdditionalHostAddresses: ["127.0.0.1"],
  iceUseIpv6: false,
  codecs: {
    video: [codec("video/H264", 90000, {
      rtcpFeedback: [{ type: "nack" }, { type: "nack", parameter: "pli" }],
      parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    })],
    audio: [codec("audio/opus", 48000, { channels: 2 })],
  },
});
const counts = { video: 0, audio: 0, frames: 0, keyframes: 0, state: "" };
const out = fs.createWriteStream(file);
let fragment;
pc.onTrack.subscribe((track) => {
  track.onReceiveRtp.subscribe((rtp) => {
    counts[track.kind] += 1;
    if (track.kind !== "video") return;
    const part = H264RtpPayload.deSerialize(rtp.payload, fragment);
    fragment = part.fragment;
    if (part.payload) out.write(part.payload);
    if (part.isKeyframe) counts.keyframes += 1;
    if (rtp.header.marker) counts.frames += 1;
  });
});
pc.addTransceiver("video", { direction: "recvonly" });
pc.addTransceiver("audio", { direction: "recvonly" });
await pc.setLocalDescription(await pc.createOffer());
const answer = await fetch(url, {
  method: "POST",
  headers: { "Content-Type": "application/sdp" },
  body: pc.localDescription.sdp,
});
const body = await answer.text();
if (answer.status !== 201) throw new Error(`${answer.status} ${body}`);
await pc.setRemoteDescription({ type: "answer", sdp: body });
await new Promise((done) => setTimeout(done, Number(seconds) * 1000));
counts.state = pc.connectionState;
await fetch(new URL(answer.headers.get("location"), url), { method: "DELETE" });
await pc.close();
out.end(() => {
  console.log(JSON.stringify(counts));
  process.exit(0);
});
