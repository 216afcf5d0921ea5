// A WHIP sender on werift: forwards RTP that ffmpeg sends to two UDP ports. Usage: publish.mjs URL FFMPEG SECONDS.
import dgram from "node:dgram";
import { spawn } from "node:child_process";
import { RTCPeerConnection, RTCRtpCodecParameters, MediaStreamTrack } from "werift";

const [url, ffmpeg, seconds] = process.argv.slice(2);
const codec = (mimeType, clockRate, more = {}) => new RTCRtpCodecParameters({ mimeType, clockRate, ...more });
const pc = new RTCPeerConnection({
  iceAdditionalHostAddresses: ["127.0.0.1"],
  iceUseIpv6: false,
  codecs: {
    video: [codec("video/H264", 90000, {
      payloadType: 96,
      rtcpFeedback: [{ type: "nack" }, { type: "nack", parameter: "pli" }],
      parameters: "level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f",
    })],
    audio: [codec("audio/opus", 48000, { payloadType: 97, channels: 2 })],
  },
});
const ports = {};
for (const kind of ["video", "audio"]) {
  const track = new MediaStreamTrack({ kind });
  const socket = dgram.createSocket("udp4");
  socket.on("message", (packet) => {
    // ffmpeg sends its sender reports to the next port; what comes here is RTP alone
    track.writeRtp(packet);
  });
  await new Promise((done) => socket.bind(0, "127.0.0.1", done));
  ports[kind] = socket.address().port;
  pc.addTransceiver(track, { direction: "sendonly" });
}
await pc.setLocalDescription(await pc.createOffer());
const answer = await fetch(url, {
  method: "POST",
  headers: { "Content-Type": "application/sdp" },
  body: pc.localDescription.sdp,
});
const body = await answer.text();
if (answer.status !== 201) throw new Error(`${answer.status} ${body}`);
await pc.setRemoteDescription({ type: "answer", sdp: body });
for (let i = 0; i < 100 && pc.connectionState !== "connected"; i++) await new Promise((r) => setTimeout(r, 50));
console.log("state", pc.connectionState);
const card = ["-hide_banner", "-loglevel", "error", "-re",
  "-f", "lavfi", "-i", "testsrc2=size=640x360:rate=30", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000",
  "-map", "0:v", "-c:v", "libx264", "-profile:v", "baseline", "-preset", "ultrafast", "-tune", "zerolatency",
  "-pix_fmt", "yuv420p", "-g", "30", "-b:v", "800k", "-payload_type", "96", "-bsf:v", "dump_extra",
  "-f", "rtp", `rtp://127.0.0.1:${ports.video}?pkt_size=1200`,
  "-map", "1:a", "-c:a", "libopus", "-b:a", "64k", "-ac", "2", "-payload_type", "97",
  "-f", "rtp", `rtp://127.0.0.1:${ports.audio}`];
const sender = spawn(ffmpeg, card, { stdio: ["ignore", "ignore", "inherit"] });
const stop = async () => {
  sender.kill("SIGKILL");
  await fetch(new URL(answer.headers.get("location"), url), { method: "DELETE" }).catch(() => {});
  await pc.close();
  process.exit(0);
};
process.on("SIGTERM", stop);
setTimeout(stop, Number(seconds) * 1000);
