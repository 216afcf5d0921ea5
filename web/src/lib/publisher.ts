// Keeps a publisher on air: opens a WHIP session, notices when it is lost, opens the next, and says
// what leaves. Which devices are sent, and what is shown of it, is not its business.
import { Backoff } from "./backoff";
import { Liveness } from "./liveness";
import { RequestError } from "./problem";
import { type WhipOptions, WhipSession } from "./whip";

export type PublisherState = "idle" | "connecting" | "live" | "retrying" | "failed";

export interface PublisherStats {
  codec?: string | undefined;
  width?: number | undefined;
  height?: number | undefined;
  framesPerSecond?: number | undefined;
  bitsPerSecond?: number | undefined;
  roundTripMs?: number | undefined;
  lostPercent?: number | undefined;
  /** What keeps the picture from being better: "bandwidth", "cpu", or empty. */
  limitedBy?: string | undefined;
}

const SAMPLE_MS = 400;
/** The bit rate is taken over at least so long, in seconds. */
const RATE_SECONDS = 1.5;
/** A connection may be "disconnected" for so long before a new one is made, in milliseconds. */
const DISCONNECTED_MS_MAX = 1500;
/** No connection within so long after the answer is a fault, in milliseconds. */
const CONNECT_MS_MAX = 8000;
const LASTING = new Set([400, 401, 403, 404, 406, 409, 413, 415]);

type Report = Record<string, number | string | undefined>;

/** Reports `change` with each state and `sample` with each look. */
export class Publisher extends EventTarget {
  state: PublisherState = "idle";
  reason = "";
  status = 0;
  stats: PublisherStats = {};
  liveSinceMs = 0;

  private session: WhipSession | undefined;
  private readonly backoff = new Backoff();
  private attempt: AbortController | undefined;
  private timer = 0;
  private sampler = 0;
  private troubledMs: number | undefined;
  private openedMs = 0;
  private liveness: Liveness | undefined;
  private before: Report = {};

  constructor(
    private readonly endpoint: string,
    private readonly media: MediaStream,
    private readonly options: WhipOptions,
  ) {
    super();
  }

  start(): void {
    this.sampler = window.setInterval(() => void this.look(), SAMPLE_MS);
    void this.connect();
  }

  /** Goes off air and tells the server. */
  stop(): void {
    window.clearInterval(this.sampler);
    window.clearTimeout(this.timer);
    this.end();
    this.become("idle", "");
  }

  /** Sends another camera, screen or microphone from now on. */
  async replace(track: MediaStreamTrack): Promise<void> {
    for (const old of this.media.getTracks()) {
      if (old.kind === track.kind && old !== track) this.media.removeTrack(old);
    }
    if (!this.media.getTracks().includes(track)) this.media.addTrack(track);
    const session = this.session;
    if (session && !(await session.replace(track))) await this.connect();
  }

  async limit(bitsPerSecond: number): Promise<void> {
    this.options.videoBitsPerSecondMax = bitsPerSecond;
    await this.session?.limit(bitsPerSecond);
  }

  private become(state: PublisherState, reason: string): void {
    if (state === this.state && reason === this.reason) return;
    this.state = state;
    this.reason = reason;
    this.dispatchEvent(new Event("change"));
  }

  private async connect(): Promise<void> {
    this.end();
    const attempt = new AbortController();
    this.attempt = attempt;
    if (this.state !== "retrying") this.become("connecting", "");
    try {
      const session = await WhipSession.open(this.endpoint, this.media, {
        ...this.options,
        signal: attempt.signal,
      });
      if (attempt.signal.aborted) return session.close();
      this.session = session;
      this.openedMs = performance.now();
      this.liveness = new Liveness(() => session.ask(), this.openedMs);
      this.watch(session, attempt.signal);
    } catch (error) {
      if (attempt.signal.aborted) return;
      const words = error instanceof Error ? error.message : String(error);
      this.lost(error instanceof RequestError ? error : new RequestError(0, words));
    }
  }

  private watch(session: WhipSession, signal: AbortSignal): void {
    const connection = session.connection;
    const changed = (): void => {
      if (signal.aborted) return;
      const state = connection.connectionState;
      this.troubledMs = state === "disconnected" ? performance.now() : undefined;
      if (state === "connected" && this.state !== "live") {
        this.liveSinceMs = Date.now();
        this.status = 0;
        this.backoff.reset();
        this.become("live", "");
      }
      if (state === "failed" || state === "closed") this.gone("The connection was lost.");
    };
    connection.addEventListener("connectionstatechange", changed);
    changed();
  }

  private gone(reason: string): void {
    this.lost(new RequestError(0, reason));
  }

  private lost(error: RequestError): void {
    if (this.state === "idle" || this.state === "failed") return;
    this.end();
    this.status = error.status;
    if (LASTING.has(error.status)) {
      window.clearInterval(this.sampler);
      return this.become("failed", error.message);
    }
    this.become("retrying", error.message);
    window.clearTimeout(this.timer);
    const pause = this.backoff.nextMs(error.retryAfterSeconds);
    this.timer = window.setTimeout(() => void this.connect(), pause);
  }

  private end(): void {
    this.attempt?.abort();
    this.attempt = undefined;
    this.session?.close();
    this.session = undefined;
    this.troubledMs = undefined;
    this.before = {};
    this.stats = {};
  }

  private async look(): Promise<void> {
    const connection = this.session?.connection;
    if (connection) {
      const nowMs = performance.now();
      const waiting = connection.connectionState !== "connected" && this.state !== "live";
      if (waiting && nowMs - this.openedMs > CONNECT_MS_MAX) {
        this.gone("No answer to our packets. UDP to the server may be blocked.");
      } else if (this.troubledMs !== undefined && nowMs - this.troubledMs > DISCONNECTED_MS_MAX) {
        this.gone("The connection was lost.");
      } else await this.read(connection);
    }
    this.dispatchEvent(new Event("sample"));
  }

  private async read(connection: RTCPeerConnection): Promise<void> {
    const reports = await connection.getStats().catch(() => undefined);
    if (!reports || this.session?.connection !== connection) return;
    let out: Report = {};
    let remote: Report = {};
    let transport: Report = {};
    let roundTrip: number | undefined;
    let bytes = 0;
    const byId = new Map<string, Report>();
    reports.forEach((report: Report) => {
      byId.set(String(report.id), report);
      if (report.type === "outbound-rtp") {
        bytes += count(report.bytesSent);
        if (report.kind === "video") out = report;
      }
      if (report.type === "remote-inbound-rtp" && report.kind === "video") remote = report;
      if (report.type === "transport") transport = report;
      if (report.type === "candidate-pair" && typeof report.currentRoundTripTime === "number") {
        roundTrip = report.currentRoundTripTime;
      }
    });
    const atMs = count(out.timestamp) || performance.timeOrigin + performance.now();
    const seconds = (atMs - count(this.before.atMs)) / 1000;
    const first = this.before.atMs === undefined;
    const due = !first && seconds > RATE_SECONDS;
    const rate = due ? ((bytes - count(this.before.bytes)) * 8) / seconds : undefined;
    const mime = byId.get(String(out.codecId))?.mimeType;
    const limit = out.qualityLimitationReason;
    this.stats = {
      codec: typeof mime === "string" ? mime.split("/")[1] : undefined,
      width: optional(out.frameWidth),
      height: optional(out.frameHeight),
      framesPerSecond: optional(out.framesPerSecond),
      bitsPerSecond: rate ?? this.stats.bitsPerSecond,
      roundTripMs: roundTrip === undefined ? undefined : roundTrip * 1000,
      lostPercent: typeof remote.fractionLost === "number" ? remote.fractionLost * 100 : undefined,
      limitedBy: typeof limit === "string" && limit !== "none" ? limit : "",
    };
    if (first || due) this.before = { atMs, bytes };
    // RTCP comes back as long as the server knows us.
    const verdict = this.liveness?.judge(
      count(transport.packetsReceived),
      performance.now(),
      false,
    );
    if (verdict === "gone") this.gone("The server started anew.");
  }
}

function count(value: number | string | undefined): number {
  return typeof value === "number" ? value : 0;
}

function optional(value: number | string | undefined): number | undefined {
  return typeof value === "number" ? value : undefined;
}
