// Plays a stream by WHEP in a video element and keeps it playing: notices a lost connection or
// silence, joins again, measures latency, loss and stalls. The last picture stays until the next
// session has one.
import { CaptureClock, type Shown, webrtcLatency } from "./latency";
import { Liveness } from "./liveness";
import { LivePlayer, type PlayerOptions, playOrMute } from "./player";
import { RequestError } from "./problem";
import { WhepSession } from "./whep";

/** A connection may be "disconnected" for so long before a new one is made, in milliseconds. */
const DISCONNECTED_MS_MAX = 2000;
/** No packet for so long is said to the viewer, in milliseconds. */
const SILENCE_MS = 1200;
/** No connection within so long after the answer is a fault (UDP blocked), in milliseconds. */
const CONNECT_MS_MAX = 8000;
/** The first pictures come in a burst and then at their pace: not counted as a stall, in milliseconds. */
const SETTLING_MS = 2500;

type Report = Record<string, number | string | undefined>;

export class WebRtcPlayer extends LivePlayer {
  /** What is known from elsewhere: false while the publisher is known to be away. */
  publisherPresent = true;

  private session: WhepSession | undefined;
  private media: MediaStream | undefined;
  private before: Report = {};
  private liveness: Liveness | undefined;
  private openedMs = 0;
  private troubledMs: number | undefined;
  private freezes = 0;
  private captureClock = new CaptureClock();
  private shown: Shown | undefined;

  constructor(
    video: HTMLVideoElement,
    private readonly endpoint: string,
    options: PlayerOptions,
  ) {
    super(video, options);
  }

  /** The peer connection, for tests and the statistics of other code. */
  get connection(): RTCPeerConnection | undefined {
    return this.session?.connection;
  }

  protected async open(signal: AbortSignal): Promise<void> {
    const media = new MediaStream();
    this.before = {};
    this.freezes = 0;
    this.troubledMs = undefined;
    this.captureClock = new CaptureClock();
    this.shown = undefined;
    this.followPictures(signal);
    const session = await WhepSession.open(
      this.endpoint,
      (event) => {
        if (!signal.aborted) this.attach(media, event);
      },
      { key: this.options.key(), signal },
    );
    if (signal.aborted) return session.close();
    this.session = session;
    this.openedMs = performance.now();
    this.liveness = new Liveness(() => session.ask(), this.openedMs);
    const connection = session.connection;
    connection.addEventListener("connectionstatechange", () => {
      if (signal.aborted) return;
      const state = connection.connectionState;
      this.troubledMs = state === "disconnected" ? performance.now() : undefined;
      if (state === "failed" || state === "closed") this.gone("The connection was lost.");
    });
  }

  /** Keeps note of the picture on screen. */
  private followPictures(signal: AbortSignal): void {
    if (!("requestVideoFrameCallback" in this.video)) return;
    const frame = (_nowMs: number, data: VideoFrameCallbackMetadata): void => {
      if (signal.aborted) return;
      if (data.rtpTimestamp !== undefined && this.isAttached()) {
        const displayMs = Date.now() + data.expectedDisplayTime - performance.now();
        this.shown = { rtpTimestamp: data.rtpTimestamp, displayMs };
      }
      this.video.requestVideoFrameCallback(frame);
    };
    this.video.requestVideoFrameCallback(frame);
  }

  private attach(media: MediaStream, event: RTCTrackEvent): void {
    const receiver = event.receiver as RTCRtpReceiver & { playoutDelayHint?: number };
    if ("jitterBufferTarget" in receiver) receiver.jitterBufferTarget = 0;
    if ("playoutDelayHint" in receiver) receiver.playoutDelayHint = 0;
    media.addTrack(event.track);
    // Audio waits for the picture's track, so that the element is set up once.
    const tracks = media.getTracks().length;
    if (this.video.srcObject === media || (tracks < 2 && event.track.kind === "audio")) {
      if (tracks < 2) queueMicrotask(() => this.show(media));
      return;
    }
    this.show(media);
  }

  private show(media: MediaStream): void {
    if (this.video.srcObject === media) return;
    this.media = media;
    this.video.removeAttribute("src");
    this.video.srcObject = media;
    void playOrMute(this.video);
  }

  protected isAttached(): boolean {
    return this.media !== undefined && this.video.srcObject === this.media;
  }

  protected shut(): void {
    this.session?.close();
    this.session = undefined;
    this.media = undefined;
  }

  override stop(): void {
    super.stop();
    this.video.srcObject = null;
  }

  private gone(reason: string): void {
    this.lost(new RequestError(0, reason));
  }

  protected async look(): Promise<void> {
    const connection = this.session?.connection;
    if (!connection) return;
    const reports = await connection.getStats().catch(() => undefined);
    if (!reports || this.session?.connection !== connection) return;
    let video: Report = {};
    let audio: Report = {};
    let pair: Report = {};
    const byId = new Map<string, Report>();
    reports.forEach((report: Report) => {
      byId.set(String(report.id), report);
      if (report.type === "inbound-rtp") {
        if (report.kind === "video") video = report;
        else audio = report;
      }
      if (report.type === "candidate-pair" && report.state === "succeeded") pair = report;
    });
    this.watch(count(video.packetsReceived) + count(audio.packetsReceived));
    this.tell(video, audio, pair, byId);
    this.before = video;
  }

  /** Decides whether the session still lives. */
  private watch(packets: number): void {
    const nowMs = performance.now();
    if (this.troubledMs !== undefined && nowMs - this.troubledMs > DISCONNECTED_MS_MAX) {
      return this.gone("The connection was lost.");
    }
    const connected = this.session?.connection.connectionState === "connected";
    if (!connected && packets === 0) {
      if (nowMs - this.openedMs > CONNECT_MS_MAX) {
        this.gone("No media arrives. UDP to the server may be blocked; LL-HLS may work.");
      }
      return;
    }
    const verdict = this.liveness?.judge(packets, nowMs, this.publisherPresent);
    if (verdict === "gone") return this.gone("The server started anew.");
    const silent = (this.liveness?.silentMs(nowMs) ?? 0) > SILENCE_MS;
    if (silent && !this.publisherPresent) this.become("waiting", "The publisher is away.");
    else if (silent && this.state === "playing") this.become("stalled", "");
    else if (this.state === "waiting" && this.isAttached()) this.become("playing", "");
  }

  /** The publisher is back after having been away: media is expected from now on. */
  expectMedia(): void {
    this.publisherPresent = true;
    this.liveness?.expect(performance.now());
  }

  private tell(video: Report, audio: Report, pair: Report, byId: Map<string, Report>): void {
    const before = this.before;
    const seconds = (count(video.timestamp) - count(before.timestamp)) / 1000;
    const since = (name: string): number => count(video[name]) - count(before[name]);
    const received = since("packetsReceived");
    const lost = Math.max(0, since("packetsLost"));
    const emitted = since("jitterBufferEmittedCount");
    const roundTrip = optional(pair.currentRoundTripTime);
    const again = before.timestamp !== undefined && seconds > 0;
    this.droppedFrames = count(video.framesDropped);
    this.stats = {
      codec: codecName(byId.get(String(video.codecId))),
      audioCodec: codecName(byId.get(String(audio.codecId))),
      width: optional(video.frameWidth),
      height: optional(video.frameHeight),
      framesPerSecond: optional(video.framesPerSecond),
      bitsPerSecond: again ? (since("bytesReceived") * 8) / seconds : undefined,
      lostPercent: received + lost > 0 ? (100 * lost) / (received + lost) : 0,
      jitterBufferMs: emitted > 0 ? (since("jitterBufferDelay") / emitted) * 1000 : undefined,
      roundTripMs: roundTrip === undefined ? undefined : roundTrip * 1000,
    };
    this.latency = webrtcLatency(
      video,
      again ? before : undefined,
      this.options.serverNow(),
      (roundTrip ?? 0) * 1000,
    );
    if (this.latency?.kind === "measured" && this.shown && !this.video.paused) {
      this.latency.ms = this.captureClock.steady(this.shown, this.latency.ms);
    }
    this.freeze(count(video.freezeCount), again ? since("framesDecoded") : 1);
  }

  private freeze(freezes: number, decoded: number): void {
    const settled = performance.now() - this.openedMs > SETTLING_MS;
    if (freezes > this.freezes && settled) this.stalls += freezes - this.freezes;
    this.freezes = freezes;
    if (decoded > 0) this.moving();
  }
}

function count(value: number | string | undefined): number {
  return typeof value === "number" ? value : 0;
}

function optional(value: number | string | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}

function codecName(report: Report | undefined): string | undefined {
  return typeof report?.mimeType === "string" ? report.mimeType.split("/")[1] : undefined;
}
