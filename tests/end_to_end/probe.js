// Measures what a <video> shows: when a frame was made (the burnt-in strip, see edge/demo/strip.py), when it was
// shown, when the picture flashes and when the sound beeps. Injected into pages by the tests; no page needs it.
(() => {
  const COLUMNS = 80;
  const START = [0b10110010, 0b01001101];
  const crc8 = (bytes) => {
    let crc = 0;
    for (const b of bytes) {
      crc ^= b;
      for (let i = 0; i < 8; i++) crc = crc & 0x80 ? ((crc << 1) ^ 7) & 0xff : (crc << 1) & 0xff;
    }
    return crc;
  };
  const CELL = 4;
  const surface = () => {
    const canvas = document.createElement("canvas");
    canvas.width = COLUMNS * CELL;
    canvas.height = 2 * CELL;
    return canvas.getContext("2d", { willReadFrequently: true });
  };

  // {unixMs, number} of the frame that the video shows now, or null when the strip cannot be read.
  const read = (video, context) => {
    const w = video.videoWidth;
    if (!w) return null;
    context.drawImage(video, 0, 0, w, (2 * w) / COLUMNS, 0, 0, COLUMNS * CELL, 2 * CELL);
    const pixels = context.getImageData(0, 0, COLUMNS * CELL, 2 * CELL).data;
    const luma = (row, column) => {
      let sum = 0;
      for (const dy of [1, 2]) for (const dx of [1, 2]) {
        const i = 4 * ((row * CELL + dy) * COLUMNS * CELL + column * CELL + dx);
        sum += 0.299 * pixels[i] + 0.587 * pixels[i + 1] + 0.114 * pixels[i + 2];
      }
      return sum / 4;
    };
    const white = [], black = [];
    for (const row of [0, 1]) for (let c = 0; c < 8; c++) ((START[row] >> (7 - c)) & 1 ? white : black).push(luma(row, c));
    const mean = (v) => v.reduce((a, b) => a + b, 0) / v.length;
    if (mean(white) - mean(black) < 40) return null;
    const threshold = (mean(white) + mean(black)) / 2;
    const bytes = (row, from, count) => Array.from({ length: count }, (_, k) => {
      let v = 0;
      for (let i = 0; i < 8; i++) v = v * 2 + (luma(row, from + 8 * k + i) > threshold ? 1 : 0);
      return v;
    });
    for (const row of [0, 1]) if (bytes(row, 0, 1)[0] !== START[row]) return null;
    const time = bytes(0, 8, 6), number = bytes(1, 8, 3), crc = bytes(1, 32, 1)[0];
    if (crc8([...time, ...number]) !== crc) return null;
    return { unixMs: time.reduce((a, b) => a * 256 + b, 0), number: number.reduce((a, b) => a * 256 + b, 0) };
  };

  // Samples every presented frame: {now, unixMs, number, shown, flash}; `flash`: mean luma of a rectangle given in shares.
  const watch = (video, flashAt) => {
    const context = surface();
    const spot = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    spot.canvas.width = spot.canvas.height = 4;
    const probe = { frames: [], unread: 0, first: 0, stop: false };
    const origin = performance.timeOrigin;
    const step = (now, metadata) => {
      if (probe.stop) return;
      if (!probe.first) probe.first = origin + now;
      const mark = read(video, context);
      if (mark === null) probe.unread += 1;
      let flash = 0;
      if (flashAt) {
        const { videoWidth: w, videoHeight: h } = video;
        spot.drawImage(video, flashAt.x * w, flashAt.y * h, flashAt.w * w, flashAt.h * h, 0, 0, 4, 4);
        const p = spot.getImageData(0, 0, 4, 4).data;
        for (let i = 0; i < p.length; i += 4) flash += p[i] / (p.length / 4);
      }
      probe.frames.push({
        now: origin + now, shown: origin + metadata.expectedDisplayTime, media: metadata.mediaTime, flash,
        unixMs: mark ? mark.unixMs : 0, number: mark ? mark.number : -1, width: video.videoWidth,
      });
      video.requestVideoFrameCallback(step);
    };
    video.requestVideoFrameCallback(step);
    return probe;
  };

  // Onsets of a beep, on the clock of performance.timeOrigin, from what the element really plays.
  const listen = async (video) => {
    const context = new AudioContext({ latencyHint: "interactive" });
    await context.resume();
    const code = `registerProcessor("onset", class extends AudioWorkletProcessor {
      constructor() { super(); this.quiet = 0; this.loud = false; }
      process(inputs) {
        const x = inputs[0][0];
        if (!x) return true;
        for (let i = 0; i < x.length; i++) {
          if (Math.abs(x[i]) > 0.05) {
            if (!this.loud && this.quiet > sampleRate / 4) this.port.postMessage(currentTime + i / sampleRate);
            this.loud = true; this.quiet = 0;
          } else if (++this.quiet > sampleRate / 50) this.loud = false;
        }
        return true;
      }
    });`;
    await context.audioWorklet.addModule(URL.createObjectURL(new Blob([code], { type: "text/javascript" })));
    const node = new AudioWorkletNode(context, "onset");
    const source = video.srcObject ? context.createMediaStreamSource(video.srcObject) : context.createMediaElementSource(video);
    if (!video.srcObject) { video.muted = false; source.connect(context.destination); }
    source.connect(node);
    const onsets = [];
    node.port.onmessage = (e) => {
      const at = context.getOutputTimestamp();
      const heard = at.performanceTime + (e.data - at.contextTime) * 1000;
      const processed = performance.now() - (context.currentTime - e.data) * 1000;
      onsets.push({ heard: performance.timeOrigin + heard, processed: performance.timeOrigin + processed });
    };
    return { onsets, context };
  };

  // A camera of our own: a moving picture with the strip, and silence or a tone. Returns the MediaStream.
  const camera = ({ width = 640, height = 360, rate = 30 } = {}) => {
    const canvas = document.createElement("canvas");
    canvas.width = width;
    canvas.height = height;
    const g = canvas.getContext("2d");
    let number = 0;
    const draw = () => {
      const unixMs = Math.round(performance.timeOrigin + performance.now());
      g.fillStyle = "#245";
      g.fillRect(0, 0, width, height);
      g.fillStyle = "#fa3";
      g.fillRect((number * 5) % width, height / 2, width / 10, height / 6);
      const cell = width / COLUMNS;
      const time = Array.from({ length: 6 }, (_, i) => Math.floor(unixMs / 256 ** (5 - i)) % 256);
      const count = Array.from({ length: 3 }, (_, i) => Math.floor(number / 256 ** (2 - i)) % 256);
      [[START[0], ...time], [START[1], ...count, crc8([...time, ...count])]].forEach((bytes, row) =>
        bytes.forEach((byte, k) => {
          for (let i = 0; i < 8; i++) {
            g.fillStyle = (byte >> (7 - i)) & 1 ? "#fff" : "#000";
            g.fillRect((8 * k + i) * cell, row * cell, cell, cell);
          }
        }));
      number += 1;
    };
    draw();
    const timer = setInterval(draw, 1000 / rate);
    const stream = canvas.captureStream(rate);
    const context = new AudioContext();
    const tone = context.createOscillator(), out = context.createMediaStreamDestination();
    tone.connect(out);
    tone.start();
    stream.addTrack(out.stream.getAudioTracks()[0]);
    stream.getVideoTracks()[0].addEventListener("ended", () => clearInterval(timer));
    return stream;
  };

  // A bare WHIP sender: {pc, location}.
  const whip = async (url, stream, { codec = "video/H264", bitrate = 1_500_000 } = {}) => {
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    for (const track of stream.getTracks()) {
      const t = pc.addTransceiver(track, { direction: "sendonly", streams: [stream] });
      if (track.kind === "video") {
        const all = RTCRtpSender.getCapabilities("video").codecs;
        t.setCodecPreferences([...all.filter((c) => c.mimeType === codec), ...all.filter((c) => c.mimeType === "video/rtx")]);
        const p = t.sender.getParameters();
        p.encodings[0].maxBitrate = bitrate;
        await t.sender.setParameters(p);
      }
    }
    await pc.setLocalDescription();
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp });
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    return { pc, location: new URL(answer.headers.get("Location"), url).href };
  };

  // A bare WHEP player on a new <video>: {pc, video, times}; times in ms since the POST was sent.
  const whep = async (url) => {
    const video = document.createElement("video");
    video.muted = video.playsInline = true;
    document.body.append(video);
    const pc = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    const stream = new MediaStream();
    video.srcObject = stream;
    pc.ontrack = (e) => { e.receiver.jitterBufferTarget = 0; stream.addTrack(e.track); video.play(); };
    pc.addTransceiver("video", { direction: "recvonly" });
    pc.addTransceiver("audio", { direction: "recvonly" });
    await pc.setLocalDescription();
    const times = { frame: 0, connected: 0 };
    const t0 = performance.now();
    video.requestVideoFrameCallback(() => { times.frame = performance.now() - t0; });
    pc.onconnectionstatechange = () => { if (pc.connectionState === "connected") times.connected = performance.now() - t0; };
    const answer = await fetch(url, { method: "POST", headers: { "Content-Type": "application/sdp" }, body: pc.localDescription.sdp });
    if (answer.status !== 201) throw new Error(`${answer.status} ${await answer.text()}`);
    await pc.setRemoteDescription({ type: "answer", sdp: await answer.text() });
    return { pc, video, times, location: new URL(answer.headers.get("Location"), url).href };
  };

  window.probe = { read, watch, listen, camera, whip, whep, surface };
})();
