// What both players have in common: their states, trying again, the time to the first picture, and
// what they report. Knows neither WebRTC nor HLS, and draws nothing.
//
//   idle → connecting → playing ⇄ stalled
//             ↑   ↓         ↓
//             └ waiting (nobody publishes) / retrying (lost, or refused for now)
//   failed: only a person can help (a key, a codec); `start()` begins anew.
import { Backoff } from "./backoff";
import type { Latency } from "./latency";
import { RequestError } from "./problem";

export type PlayerState =
  | "idle"
  | "connecting"
  | "playing"
  | "stalled"
  | "waiting"
  | "retrying"
  | "failed";

/** How often a player looks at itself, in milliseconds. */
const SAMPLE_MS = 400;
/** Playing for so long means that the next fault is a new one, in milliseconds. */
const SETTLED_MS = 4000;
/** Between two questions whether an absent stream is there, unless the server says, in seconds. */
const ABSENT_SECONDS = 1;
/** Statuses that trying again does not change. */
const LASTING = new Set([400, 401, 403, 406, 415]);

/** What a person may want to know of a player; undefined where the browser does not say. */
export interface PlayerStats {
  codec?: string | undefined;
  audioCodec?: string | undefined;
  width?: number | undefined;
  height?: number | undefined;
  framesPerSecond?: number | undefined;
  bitsPerSecond?: number | undefined;
  lostPercent?: number | undefined;
  jitterBufferMs?: number | undefined;
  roundTripMs?: number | undefined;
  bufferMs?: number | undefined;
  holdBackMs?: number | undefined;
  playbackRate?: number | undefined;
}

export interface PlayerOptions {
  /** Bearer token, or empty. Asked for at each attempt. */
  key: () => string;
  /** The server's unix time, in milliseconds. */
  serverNow: () => number;
}

/** Reports `change` whenever its state or reason is another, and `sample` with every look. */
export abstract class LivePlayer extends EventTarget {
  state: PlayerState = "idle";
  /** Why it is not playing, in words, or empty. */
  reason = "";
  /** The status of the last refusal; 0: none, or no answer. */
  status = 0;
  latency: Latency | undefined;
  /** From the first request to the first picture, in milliseconds; of the last attempt. */
  joinMs: number | undefined;
  stalls = 0;
  droppedFrames = 0;
  /** How often it came back by itself. */
  reconnects = 0;
  stats: PlayerStats = {};

  private readonly backoff = new Backoff();
  private timer: number | undefined;
  private sampler: number | undefined;
  private attempt: AbortController | undefined;
  private startedMs = 0;
  private playingSinceMs = 0;
  private presentedFrames = 0;

  constructor(
    readonly video: HTMLVideoElement,
    protected readonly options: PlayerOptions,
  ) {
    super();
  }

  /** Opens one attempt; raises RequestError. Calls `lost` when it ends later on. */
  protected abstract open(signal: AbortSignal): Promise<void>;
  /** Lets go of what `open` made; the last picture may stay. */
  protected abstract shut(): void;
  /** Renews `stats`, `latency`, `droppedFrames`; may call `lost`. */
  protected abstract look(): Promise<void> | void;

  /** What is shown, rounded to whole milliseconds; undefined while nothing is. */
  get latencyMs(): number | undefined {
    return this.latency && Math.round(this.latency.ms);
  }

  start(): void {
    this.stop();
    this.backoff.reset();
    this.sampler = window.setInterval(() => void this.sample(), SAMPLE_MS);
    void this.connect();
  }

  /** Ends it for good (until `start`), and tells the server. */
  stop(): void {
    window.clearInterval(this.sampler);
    window.clearTimeout(this.timer);
    this.end();
    this.become("idle", "");
  }

  /** The stream is known to be live (again): do not wait any longer. */
  hurry(): void {
    if (this.state !== "waiting" && this.state !== "retrying") return;
    this.backoff.reset();
    window.clearTimeout(this.timer);
    void this.connect();
  }

  /** This attempt is over: says why, and tries again unless that is pointless. */
  protected lost(error: RequestError): void {
    if (this.state === "idle" || this.state === "failed") return;
    this.end();
    this.status = error.status;
    if (LASTING.has(error.status)) return this.become("failed", error.message);
    const absent = error.status === 404 || error.status === 409;
    this.become(absent ? "waiting" : "retrying", error.message);
    window.clearTimeout(this.timer);
    const floor = error.retryAfterSeconds ?? (absent ? ABSENT_SECONDS : undefined);
    const pause = this.backoff.nextMs(floor);
    this.timer = window.setTimeout(() => void this.connect(), pause);
  }

  protected become(state: PlayerState, reason: string): void {
    if (state === this.state && reason === this.reason) return;
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("change"));
  }

  /** The picture stopped although it should not. */
  protected stalled(): void {
    if (this.state !== "playing") return;
    this.stalls += 1;
    this.become("stalled", "");
  }

  /** The picture moves (again). */
  protected moving(): void {
    if (this.state === "stalled") this.become("playing", "");
  }

  private async connect(): Promise<void> {
    this.end();
    const attempt = new AbortController();
    this.attempt = attempt;
    this.startedMs = performance.now();
    if (this.state === "idle" || this.state === "failed") this.become("connecting", "");
    this.awaitFirstPicture(attempt.signal);
    try {
      await this.open(attempt.signal);
    } catch (error) {
      if (attempt.signal.aborted) return;
      const fault = error instanceof Error ? error.message : String(error);
      this.lost(error instanceof RequestError ? error : new RequestError(0, fault));
    }
  }

  private end(): void {
    if (!this.attempt) return;
    this.attempt.abort();
    this.attempt = undefined;
    this.latency = undefined;
    this.shut();
  }

  private awaitFirstPicture(signal: AbortSignal): void {
    const first = (nowMs: number): void => {
      if (signal.aborted) return;
      this.joinMs = Math.max(0, nowMs - this.startedMs);
      this.playingSinceMs = nowMs;
      if (this.presentedFrames > 0) this.reconnects += 1;
      this.presentedFrames += 1;
      this.status = 0;
      this.become("playing", "");
    };
    if ("requestVideoFrameCallback" in this.video) {
      // A frame that was asked for before the new stream is attached may still be an old one.
      const frame = (nowMs: number, data: VideoFrameCallbackMetadata): void => {
        if (signal.aborted) return;
        if (this.isAttached()) first(data.presentationTime || nowMs);
        else this.video.requestVideoFrameCallback(frame);
      };
      this.video.requestVideoFrameCallback(frame);
    }
    // A stream without pictures, or a browser without that callback.
    this.video.addEventListener(
      "timeupdate",
      () => {
        if (!signal.aborted && this.state !== "playing" && this.video.currentTime > 0) {
          if (this.isAttached() && this.video.videoWidth === 0) first(performance.now());
        }
      },
      { signal },
    );
  }

  /** Whether what the video element shows belongs to the present attempt. */
  protected abstract isAttached(): boolean;

  private async sample(): Promise<void> {
    if (this.attempt) await this.look();
    if (this.state === "playing" && performance.now() - this.playingSinceMs > SETTLED_MS) {
      this.backoff.reset();
    }
    this.dispatchEvent(new Event("sample"));
  }
}

/** Starts playing, muted if the browser insists. Resolves to whether it had to mute. */
export async function playOrMute(video: HTMLVideoElement): Promise<boolean> {
  try {
    await video.play();
    return false;
  } catch (error) {
    if (!(error instanceof DOMException) || error.name !== "NotAllowedError" || video.muted) {
      return false;
    }
    video.muted = true;
    await video.play().catch(() => undefined);
    return true;
  }
}
