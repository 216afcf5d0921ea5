// From capture to screen, in milliseconds, for both ways of playing. Pure arithmetic on what the
// browser reports; `clock.ts` corrects for the two machines' clocks.
//
// WebRTC: the server's sender reports carry unix time of capture, so the browser knows which capture
// time is on screen (`estimatedPlayoutTimestamp`). It comes only with both audio and video; without
// it the sum of what each stage reports is used, and marked as an estimate.
// LL-HLS: EXT-X-PROGRAM-DATE-TIME dates the picture at the playhead by the same clock.

/** Between the NTP epoch (1900) and the unix epoch (1970). */
const NTP_UNIX_OFFSET_MS = 2_208_988_800_000;
/** What is further off than this is a clock fault, not a latency. */
const LATENCY_MS_MAX = 120_000;
/** One display refresh and composition, which no browser reports for WebRTC. */
const DISPLAY_MS = 12;

export interface Latency {
  ms: number;
  /** measured: from a dated picture; estimated: summed from the stages the browser reports. */
  kind: "measured" | "estimated";
}

function plausible(ms: number): boolean {
  return Number.isFinite(ms) && ms > -1000 && ms < LATENCY_MS_MAX;
}

/** An `estimatedPlayoutTimestamp` (NTP or unix milliseconds, browsers differ) as unix milliseconds. */
export function playoutToUnixMs(timestamp: number): number {
  return timestamp > NTP_UNIX_OFFSET_MS ? timestamp - NTP_UNIX_OFFSET_MS : timestamp;
}

/** What of an inbound-rtp video report is needed here. */
export interface InboundVideo {
  estimatedPlayoutTimestamp?: number | undefined;
  jitterBufferDelay?: number | undefined;
  jitterBufferEmittedCount?: number | undefined;
  totalProcessingDelay?: number | undefined;
  framesDecoded?: number | undefined;
}

function mean(total: number, totalBefore: number, count: number, countBefore: number): number {
  const n = count - countBefore;
  return n > 0 ? (total - totalBefore) / n : 0;
}

/**
 * The latency of the picture on screen.
 * @param now the newest report; `before` the one before it, for means over the interval.
 * @param roundTripMs of the connection, 0 when unknown.
 */
export function webrtcLatency(
  now: InboundVideo,
  before: InboundVideo | undefined,
  serverNowMs: number,
  roundTripMs: number,
): Latency | undefined {
  const playout = now.estimatedPlayoutTimestamp;
  if (playout !== undefined && playout > 0) {
    const ms = serverNowMs - playoutToUnixMs(playout) + DISPLAY_MS;
    if (plausible(ms)) return { ms: Math.max(0, ms), kind: "measured" };
  }
  if (!now.framesDecoded) return undefined;
  const processing =
    mean(
      now.totalProcessingDelay ?? 0,
      before?.totalProcessingDelay ?? 0,
      now.framesDecoded,
      before?.framesDecoded ?? 0,
    ) * 1000;
  const buffered =
    mean(
      now.jitterBufferDelay ?? 0,
      before?.jitterBufferDelay ?? 0,
      now.jitterBufferEmittedCount ?? 0,
      before?.jitterBufferEmittedCount ?? 0,
    ) * 1000;
  const ms = Math.max(processing, buffered) + roundTripMs / 2 + DISPLAY_MS;
  return plausible(ms) ? { ms, kind: "estimated" } : undefined;
}

/** RTP video clock, in ticks a millisecond. */
const TICKS_PER_MS = 90;
/** Browsers derive the capture time from few sender reports: single values wobble by tens of
 * milliseconds. The median of so many does not. */
const READINGS_MAX = 40;

/** A picture that is on screen. */
export interface Shown {
  rtpTimestamp: number;
  /** When it is shown, by the browser's clock, in unix milliseconds. */
  displayMs: number;
}

/**
 * Steadies the measured latency: relates RTP timestamps to capture times by the median of what the
 * browser said lately, and dates the picture on screen by its own timestamp. One per connection.
 */
export class CaptureClock {
  private first: number | undefined;
  private readonly offsets: number[] = [];

  /** Takes what the browser says now, and returns the latency of the picture that is shown now. */
  steady(shown: Shown, measuredMs: number): number {
    this.first ??= shown.rtpTimestamp;
    const ticks = (shown.rtpTimestamp - this.first) | 0; // wraps as RTP does
    const mediaMs = ticks / TICKS_PER_MS;
    this.offsets.push(shown.displayMs - measuredMs - mediaMs);
    if (this.offsets.length > READINGS_MAX) this.offsets.shift();
    const sorted = [...this.offsets].sort((before, after) => before - after);
    const capturedMs = mediaMs + (sorted[Math.floor(sorted.length / 2)] ?? 0);
    return Math.max(0, shown.displayMs - capturedMs);
  }
}

/** The latency at an HLS playhead that shows the picture dated `playingMs` (unix). */
export function hlsLatency(playingMs: number, serverNowMs: number): Latency | undefined {
  const ms = serverNowMs - playingMs;
  return plausible(ms) ? { ms: Math.max(0, ms), kind: "measured" } : undefined;
}

/** The median of the last few values: what to show, calm enough to be read. */
export class Smoothed {
  private readonly values: number[] = [];

  constructor(private readonly length = 7) {}

  push(value: number): void {
    this.values.push(value);
    if (this.values.length > this.length) this.values.shift();
  }

  get value(): number | undefined {
    const sorted = [...this.values].sort((first, second) => first - second);
    return sorted[Math.floor(sorted.length / 2)];
  }

  clear(): void {
    this.values.length = 0;
  }
}
