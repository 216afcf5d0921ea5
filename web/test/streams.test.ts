import { expect, test } from "vitest";
import { EventParser, type StreamInfo, streamsIn } from "../src/streams";
import { age, bitRate, codec, latency, plural, unit } from "../src/ui/format";
import { ffmpegCommand } from "../src/ui/guide";
import { explain } from "../src/ui/player_view";
import { keyedPlaylist, streamOfPage } from "../src/urls";

const LIVE: StreamInfo = {
  stream: "demo",
  state: "live",
  since_unix: 0,
  video: "H264",
  audio: "opus",
  width: 1280,
  height: 720,
  hls: true,
  hls_reason: "",
  viewers_webrtc: 0,
  viewers_hls: 0,
  bits_per_second: 0,
  keyframe_age_ms: 0,
  lost: 0,
};

test("events are cut wherever the network cuts them", () => {
  const parser = new EventParser();
  const text = 'event: stream\ndata: {"a":1}\n\n: heartbeat\n\ndata: x\r\ndata: y\r\n\r\n';
  const events = [...text].flatMap((character) => parser.push(character));
  expect(events).toEqual([
    { name: "stream", data: '{"a":1}' },
    { name: "message", data: "x\ny" },
  ]);
});

test("a list and a single stream are told apart", () => {
  expect(streamsIn({ streams: [LIVE], next: null })).toEqual({ streams: [LIVE], whole: true });
  expect(streamsIn(LIVE)).toEqual({ streams: [LIVE], whole: false });
  expect(streamsIn({ streams: [{ nonsense: 1 }] })).toEqual({ streams: [], whole: true });
  expect(streamsIn("nonsense")).toEqual({ streams: [], whole: false });
});

test("figures read as people read them", () => {
  expect([latency(83.6), latency(1118), latency(undefined)]).toEqual(["84 ms", "1.12 s", "–"]);
  expect([bitRate(1_540_000), bitRate(480_000), bitRate(0)]).toEqual(["1.5 Mb/s", "480 kb/s", "–"]);
  expect([age(0, 12_000), age(0, 300_000), age(0, 12_000_000)]).toEqual([
    "12 s",
    "5 min",
    "3 h 20 min",
  ]);
  expect([plural(1, "viewer"), plural(0, "viewer")]).toEqual(["1 viewer", "0 viewers"]);
  expect([codec("avc1.42e01f"), codec("H264"), codec("mp4a.40.2"), codec("opus")]).toEqual([
    "H.264",
    "H.264",
    "AAC",
    "Opus",
  ]);
  expect([unit(1.25, "%", 1), unit(undefined, "ms"), unit(Number.NaN, "ms")]).toEqual([
    "1.3 %",
    "–",
    "–",
  ]);
});

test("a page's stream is the last part of its address, if it is a name", () => {
  expect(streamOfPage("/watch/demo")).toBe("demo");
  expect(streamOfPage("/watch/demo/")).toBe("demo");
  expect(streamOfPage("/watch/")).toBeUndefined();
  expect(streamOfPage("/watch/%3Cb%3E")).toBeUndefined();
  expect(keyedPlaylist("demo", "k")).toBe("/hls/~k/demo/index.m3u8");
  expect(ffmpegCommand("http://localhost/whip/a")).toMatch(/-f whip http:\/\/localhost\/whip\/a$/);
});

test("every state without a picture is said in words", () => {
  const player = (state: string, status = 0, reason = ""): Parameters<typeof explain>[1] =>
    ({ state, status, reason }) as Parameters<typeof explain>[1];
  expect(explain("webrtc", player("playing"), "demo", LIVE)).toBeUndefined();
  expect(explain("webrtc", player("waiting", 409), "demo", undefined)?.title).toBe("Not live yet");
  const away = { ...LIVE, state: "waiting" as const };
  expect(explain("webrtc", player("waiting"), "demo", away)?.title).toBe("The publisher is away");
  expect(explain("webrtc", player("failed", 401), "demo", undefined)?.asksKey).toBe(true);
  expect(explain("webrtc", player("failed", 406, "H264 only"), "demo", LIVE)?.text).toBe(
    "H264 only",
  );
  expect(explain("webrtc", player("retrying", 0, "lost"), "demo", LIVE)?.text).toBe("lost");
  const vp8 = { ...LIVE, video: "VP8", hls: false, hls_reason: "VP8 has no HLS" };
  expect(explain("hls", player("waiting", 404), "demo", vp8)?.text).toBe("VP8 has no HLS");
});
