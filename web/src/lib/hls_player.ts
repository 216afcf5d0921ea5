// Plays a stream by LL-HLS: with hls.js where there are Media Source Extensions, natively on Apple's
// browsers. Stays close to the edge without stalling: it plays a little faster while it is late, and
// keeps more distance after a stall. Which key and when to try again come from `player.ts`.
import type Hls from "hls.js";
import type { ErrorData, HlsConfig } from "hls.js";
import { hlsLatency } from "./latency";
import { LivePlayer, type PlayerOptions, playOrMute } from "./player";
import { RequestError, retryAfterSeconds } from "./problem";

/** Playback while catching up, a little late and much too late; pitch is kept, 5 % is not heard. */
const CATCH_UP_RATE = 1.05;
const HURRY_RATE = 1.1;
/** Later than the target by so much: hurry, or catch up. Nearer than the third: normal speed. */
const MUCH_TOO_LATE_SECONDS = 0.5;
const LATE_SECONDS = 0.12;
const ON_TIME_SECONDS = 0.03;
/** Never catch up with less media than this ahead of the playhead, in seconds. */
const AHEAD_SECONDS_MIN = 0.3;
/** Distance from the edge beyond PART-HOLD-BACK, for a busy machine and an uneven line, in seconds. */
const COMFORT_SECONDS = 0.5;
/** Further behind than this is not worth catching up: jump. */
const BEHIND_SECONDS_MAX = 1.5;
/** More distance after each stall, at most so much, and given back after so long without one. */
const STALL_SECONDS_STEP = 0.25;
const STALL_SECONDS_MAX = 1.5;
const STALL_FORGOTTEN_MS = 60_000;
/** The bit rate is measured over so many milliseconds. */
const RATE_WINDOW_MS = 4000;
/** A picture that does not move for so long while media is ahead: start over, in milliseconds. */
const STUCK_MS_MAX = 4000;

/** The playback rate for the next moment. All values in seconds. */
export function playbackRate(
  late: { latency: number; target: number; ahead: number },
  rateNow: number,
): number {
  const excess = late.latency - late.target;
  if (late.ahead < AHEAD_SECONDS_MIN) return 1;
  if (excess > MUCH_TOO_LATE_SECONDS) return HURRY_RATE;
  if (excess > LATE_SECONDS) return CATCH_UP_RATE;
  return excess > ON_TIME_SECONDS ? Math.min(rateNow, CATCH_UP_RATE) : 1;
}

/** Apple's browsers play LL-HLS themselves; others claim to and should not be believed. */
export function prefersNative(video: HTMLVideoElement): boolean {
  return (
    /^Apple/.test(navigator.vendor) && video.canPlayType("application/vnd.apple.mpegurl") !== ""
  );
}

/** Whether Opus in MP4 can be played. */
const OPUS = "MediaSource" in globalThis && MediaSource.isTypeSupported('audio/mp4; codecs="opus"');

/** A blocking request is answered within a part or two; a connection that died is noticed so fast. */
const FIRST_BYTE_MS_MAX = 1500;
const POLICY = {
  default: {
    maxTimeToFirstByteMs: FIRST_BYTE_MS_MAX,
    maxLoadTimeMs: 10_000,
    timeoutRetry: { maxNumRetry: 12, retryDelayMs: 0, maxRetryDelayMs: 500 },
    errorRetry: { maxNumRetry: 12, retryDelayMs: 100, maxRetryDelayMs: 1000 },
  },
};
const ONCE = {
  default: { ...POLICY.default, timeoutRetry: null, errorRetry: null },
};

export class HlsPlayer extends LivePlayer {
  private hls: Hls | undefined;
  private attached = false;
  private loaded: { atMs: number; bytes: number }[] = [];
  private stallSeconds = 0;
  private stalledMs = 0;
  private frames = { atMs: 0, count: 0 };
  private moved = { atMs: 0, time: 0 };
  private recoveredMs = 0;

  /** @param playlist the multivariant playlist; `keyed` makes its address with a key in the path. */
  constructor(
    video: HTMLVideoElement,
    private readonly playlist: string,
    private readonly keyed: (key: string) => string,
    options: PlayerOptions,
  ) {
    super(video, options);
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const video = this.video;
    this.attached = false;
    this.loaded = [];
    this.moved = { atMs: performance.now(), time: -1 };
    video.addEventListener("waiting", () => this.paused(), { signal });
    video.addEventListener("playing", () => this.moving(), { signal });
    if (prefersNative(video)) return this.openNative(signal);
    const { default: Library } = await import("hls.js");
    if (signal.aborted) return;
    if (!Library.isSupported()) {
      throw new RequestError(406, "This browser plays neither HLS nor Media Source Extensions.");
    }
    const hls = new Library(this.config());
    this.hls = hls;
    hls.on(Library.Events.FRAG_LOADED, (_event, data) => {
      const bytes = data.part ? data.part.stats.total : data.frag.stats.total;
      this.loaded.push({ atMs: performance.now(), bytes });
    });
    hls.on(Library.Events.MEDIA_ATTACHED, () => {
      this.attached = true;
    });
    hls.on(Library.Events.MANIFEST_PARSED, () => void playOrMute(video));
    hls.on(Library.Events.ERROR, (_event, data) => this.fault(hls, data, signal));
    video.srcObject = null;
    hls.loadSource(this.playlist);
    hls.attachMedia(video);
  }

  private config(): Partial<HlsConfig> {
    const key = this.options.key();
    return {
      lowLatencyMode: true,
      enableWorker: false, // fMP4 passes through; a blob worker would need a wider CSP
      maxLiveSyncPlaybackRate: 1, // ours is `playbackRate` below
      liveSyncOnStallIncrease: 0, // ours is `stallSeconds`, which is given back
      liveDurationInfinity: true,
      maxBufferLength: 10,
      // AAC is made from the Opus for those who need it: later, and for that player alone.
      ...(OPUS ? { audioPreference: { audioCodec: "opus" } } : {}),
      testBandwidth: false,
      abrEwmaDefaultEstimate: 8_000_000,
      manifestLoadPolicy: ONCE,
      playlistLoadPolicy: POLICY,
      fragLoadPolicy: POLICY,
      xhrSetup: (xhr) => {
        if (key) xhr.setRequestHeader("Authorization", `Bearer ${key}`);
      },
    };
  }

  private openNative(signal: AbortSignal): void {
    const video = this.video;
    const key = this.options.key();
    video.srcObject = null;
    video.src = key ? this.keyed(key) : this.playlist;
    this.attached = true;
    video.addEventListener(
      "error",
      () => this.lost(new RequestError(404, "There is no HLS of this stream now.")),
      { signal },
    );
    void playOrMute(video);
  }

  protected isAttached(): boolean {
    return this.attached && this.video.currentTime > 0;
  }

  protected shut(): void {
    this.hls?.destroy();
    this.hls = undefined;
    this.attached = false;
    this.video.playbackRate = 1;
  }

  override stop(): void {
    super.stop();
    this.video.removeAttribute("src");
    this.video.load();
  }

  /** Moves the playhead to the live edge, after a pause. */
  jumpToLive(): void {
    const position = this.hls?.liveSyncPosition;
    if (position) this.video.currentTime = position - COMFORT_SECONDS - this.stallSeconds;
    else if (this.video.seekable.length > 0) {
      this.video.currentTime = this.video.seekable.end(this.video.seekable.length - 1) - 1;
    }
  }

  private fault(hls: Hls, data: ErrorData, signal: AbortSignal): void {
    if (!data.fatal || signal.aborted) return;
    const nowMs = performance.now();
    if (data.type === "mediaError" && nowMs - this.recoveredMs > 5000) {
      this.recoveredMs = nowMs;
      hls.recoverMediaError();
      return;
    }
    const status = data.response?.code ?? 0;
    const answer = data.networkDetails instanceof XMLHttpRequest ? data.networkDetails : undefined;
    const retry = retryAfterSeconds(answer?.getResponseHeader("retry-after") ?? null);
    this.lost(new RequestError(status, explain(answer) || words(status, data), retry));
  }

  private paused(): void {
    if (this.video.paused || this.video.seeking || this.state !== "playing") return;
    this.stalledMs = performance.now();
    // With media ahead it was the machine that was slow, and distance does not help.
    if (aheadSeconds(this.video) < AHEAD_SECONDS_MIN) {
      this.stallSeconds = Math.min(this.stallSeconds + STALL_SECONDS_STEP, STALL_SECONDS_MAX);
    }
    this.stalled();
  }

  protected look(): void {
    const { video, hls } = this;
    const nowMs = performance.now();
    const quality = video.getVideoPlaybackQuality();
    const ahead = aheadSeconds(video);
    const seconds = (nowMs - this.frames.atMs) / 1000;
    const presented = quality.totalVideoFrames - quality.droppedVideoFrames;
    this.loaded = this.loaded.filter((item) => nowMs - item.atMs < RATE_WINDOW_MS);
    const details = hls?.latestLevelDetails;
    const level = hls?.levels[Math.max(0, hls.currentLevel)];
    this.droppedFrames = quality.droppedVideoFrames;
    this.stats = {
      codec: level?.videoCodec,
      audioCodec: hls?.audioTracks[hls.audioTrack]?.audioCodec ?? level?.audioCodec,
      width: video.videoWidth || undefined,
      height: video.videoHeight || undefined,
      framesPerSecond: Math.max(0, (presented - this.frames.count) / seconds),
      bitsPerSecond: hls
        ? (this.loaded.reduce((sum, item) => sum + item.bytes, 0) * 8000) / RATE_WINDOW_MS
        : undefined,
      bufferMs: ahead * 1000,
      holdBackMs: details ? (details.partHoldBack || details.holdBack) * 1000 : undefined,
      playbackRate: video.playbackRate,
    };
    this.frames = { atMs: nowMs, count: presented };
    const playing = hls ? hls.playingDate?.getTime() : nativeDate(video);
    this.latency =
      playing && this.isAttached() ? hlsLatency(playing, this.options.serverNow()) : undefined;
    if (hls && details) this.steer(hls, ahead);
    this.unstick(nowMs, ahead);
  }

  /** Keeps the playhead at its distance from the edge. */
  private steer(hls: Hls, ahead: number): void {
    const video = this.video;
    if (video.paused || this.state !== "playing") return;
    if (performance.now() - this.stalledMs > STALL_FORGOTTEN_MS) {
      this.stallSeconds = Math.max(0, this.stallSeconds - STALL_SECONDS_STEP);
      this.stalledMs = performance.now();
    }
    const target = (hls.targetLatency ?? 1) + COMFORT_SECONDS + this.stallSeconds;
    if (hls.latency > target + BEHIND_SECONDS_MAX) return this.jumpToLive();
    const rate = playbackRate({ latency: hls.latency, target, ahead }, video.playbackRate);
    if (video.playbackRate !== rate) video.playbackRate = rate;
  }

  private unstick(nowMs: number, ahead: number): void {
    const time = this.video.currentTime;
    if (time !== this.moved.time || this.video.paused || ahead < AHEAD_SECONDS_MIN) {
      this.moved = { atMs: nowMs, time };
    } else if (nowMs - this.moved.atMs > STUCK_MS_MAX) {
      this.lost(new RequestError(0, "The picture stopped."));
    }
  }
}

function aheadSeconds(video: HTMLVideoElement): number {
  const time = video.currentTime;
  for (let n = 0; n < video.buffered.length; n++) {
    if (video.buffered.start(n) <= time + 0.05 && time < video.buffered.end(n)) {
      return video.buffered.end(n) - time;
    }
  }
  return 0;
}

function nativeDate(video: HTMLVideoElement): number | undefined {
  const start = (video as HTMLVideoElement & { getStartDate?: () => Date }).getStartDate?.();
  const startMs = start?.getTime();
  return startMs ? startMs + video.currentTime * 1000 : undefined;
}

function explain(answer: XMLHttpRequest | undefined): string {
  if (!answer || (answer.responseType !== "" && answer.responseType !== "text")) return "";
  try {
    const body = JSON.parse(answer.responseText) as { detail?: unknown; title?: unknown };
    const reason = [body.detail, body.title].find((part) => typeof part === "string");
    return typeof reason === "string" ? reason.slice(0, 300) : "";
  } catch {
    return "";
  }
}

function words(status: number, data: ErrorData): string {
  if (status === 404) return "There is no HLS of this stream now.";
  if (status > 0) return `The server answered ${status}.`;
  if (data.type === "networkError") return "The server cannot be reached.";
  return "The picture could not be decoded.";
}
