import { expect, test } from "vitest";
import { Backoff } from "../../src/lib/backoff";
import { playbackRate } from "../../src/lib/hls_player";
import {
  CaptureClock,
  hlsLatency,
  playoutToUnixMs,
  Smoothed,
  webrtcLatency,
} from "../../src/lib/latency";
import { stereo } from "../../src/lib/whep";
import { preferred } from "../../src/lib/whip";

const NTP = 2_208_988_800_000;
const NOW = 1_790_000_000_000;

test("the picture on screen is dated by the sender reports, in NTP or unix time", () => {
  expect(playoutToUnixMs(NOW + NTP)).toBe(NOW);
  expect(playoutToUnixMs(NOW)).toBe(NOW);
  const report = { estimatedPlayoutTimestamp: NOW + NTP - 84, framesDecoded: 10 };
  expect(webrtcLatency(report, undefined, NOW, 1)).toEqual({ ms: 84 + 12, kind: "measured" });
});

test("without a date the stages are summed, over the interval", () => {
  const before = { framesDecoded: 100, totalProcessingDelay: 10, jitterBufferEmittedCount: 100 };
  const now = { framesDecoded: 130, totalProcessingDelay: 10.9, jitterBufferEmittedCount: 130 };
  const latency = webrtcLatency(now, before, NOW, 20);
  expect(latency?.kind).toBe("estimated");
  expect(latency?.ms).toBeCloseTo(30 + 10 + 12, 3);
});

test("a date that is out of the question is not believed", () => {
  const report = { estimatedPlayoutTimestamp: NOW + NTP - 9_999_999, framesDecoded: 0 };
  expect(webrtcLatency(report, undefined, NOW, 0)).toBeUndefined();
  expect(hlsLatency(NOW - 1_120, NOW)).toEqual({ ms: 1_120, kind: "measured" });
  expect(hlsLatency(NOW - 9_999_999, NOW)).toBeUndefined();
});

test("what is shown is the median", () => {
  const smoothed = new Smoothed(5);
  for (const value of [80, 82, 900, 81, 83]) smoothed.push(value);
  expect(smoothed.value).toBe(82);
});

test("a late playhead catches up, a starved one does not", () => {
  expect(playbackRate({ latency: 1.4, target: 0.8, ahead: 0.6 }, 1)).toBe(1.1);
  expect(playbackRate({ latency: 1.2, target: 0.8, ahead: 0.6 }, 1.1)).toBe(1.05);
  expect(playbackRate({ latency: 0.86, target: 0.8, ahead: 0.6 }, 1.05)).toBe(1.05);
  expect(playbackRate({ latency: 0.86, target: 0.8, ahead: 0.6 }, 1)).toBe(1);
  expect(playbackRate({ latency: 0.81, target: 0.8, ahead: 0.6 }, 1.05)).toBe(1);
  expect(playbackRate({ latency: 3, target: 0.8, ahead: 0.1 }, 1.05)).toBe(1);
});

test("five quick tries fit into the two seconds of a restart, then it gets slower", () => {
  const backoff = new Backoff(() => 0.5);
  const pauses = Array.from({ length: 14 }, () => backoff.nextMs());
  expect(pauses.slice(0, 5).reduce((sum, pause) => sum + pause, 0)).toBeLessThanOrEqual(2000);
  expect(pauses.at(-1)).toBe(5000);
  expect(backoff.nextMs(12)).toBe(12_000);
  expect(backoff.nextMs(86_400)).toBe(30_000);
  backoff.reset();
  expect(backoff.nextMs()).toBe(150);
});

test("H.264 baseline comes first, retransmission and the rest stay behind in their order", () => {
  const codecs = [
    { mimeType: "video/VP8" },
    { mimeType: "video/rtx" },
    { mimeType: "video/H264", sdpFmtpLine: "profile-level-id=64001f;packetization-mode=1" },
    { mimeType: "video/H264", sdpFmtpLine: "profile-level-id=42e01f;packetization-mode=0" },
    { mimeType: "video/H264", sdpFmtpLine: "profile-level-id=42e01f;packetization-mode=1" },
    { mimeType: "video/AV1" },
    { mimeType: "video/red" },
  ];
  expect(preferred(codecs).map((codec) => codec.sdpFmtpLine ?? codec.mimeType)).toEqual([
    "profile-level-id=42e01f;packetization-mode=1",
    "profile-level-id=64001f;packetization-mode=1",
    "profile-level-id=42e01f;packetization-mode=0",
    "video/VP8",
    "video/AV1",
    "video/rtx",
    "video/red",
  ]);
});

test("stereo is asked for once", () => {
  const offer = "a=rtpmap:111 opus/48000/2\r\na=fmtp:111 minptime=10;useinbandfec=1\r\n";
  const asked = stereo(offer);
  expect(asked).toContain("a=fmtp:111 minptime=10;useinbandfec=1;stereo=1\r\n");
  expect(stereo(asked)).toBe(asked);
  expect(stereo("v=0\r\n")).toBe("v=0\r\n");
});

test("what wobbles is steadied, what is really later is not hidden", () => {
  const clock = new CaptureClock();
  let latency = 0;
  const frame = (n: number, late: number): number => {
    const rtpTimestamp = (0xffff_f000 + n * 36_000) >>> 0; // wraps after the first
    const wobble = ((n * 7) % 11) * 8 - 40;
    return clock.steady({ rtpTimestamp, displayMs: NOW + n * 400 + late }, late + wobble);
  };
  for (let n = 0; n < 30; n++) latency = frame(n, 90);
  expect(Math.abs(latency - 90)).toBeLessThanOrEqual(8);
  expect(Math.abs(frame(30, 190) - 190)).toBeLessThanOrEqual(8);
});
