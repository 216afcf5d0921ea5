// The server's clock, seen from the browser: how far `Date.now()` is off, so that a latency measured
// across two machines is true. No endpoint is needed: the Date header has whole seconds, but each
// answer bounds the offset (the server's clock was in [D, D+1 s) at some instant between sending and
// receiving), and requests timed at the edge of what is still possible halve it, down to the round
// trip. An `X-Server-Time` header (unix milliseconds), if a server sends it, gives it at once.
// On a loopback address both clocks are one, and nothing is asked.

/** Requests made at most for one estimate. */
const REQUESTS_MAX = 12;
/** Good enough: half-width of what is still possible, in milliseconds. */
const UNCERTAINTY_MS_GOAL = 8;

/** Between two answers that carry exact times, in milliseconds. */
const EXACT_PAUSE_MS = 100;

/** What is known of `server - browser`, in milliseconds: it lies in [lowMs, highMs]. */
export interface Bounds {
  lowMs: number;
  highMs: number;
}

export const UNKNOWN: Bounds = { lowMs: -Infinity, highMs: Infinity };

/** Bounds narrowed by one answer: sent and received by the browser's clock, dated by the server's. */
export function narrow(
  bounds: Bounds,
  sample: { sentMs: number; receivedMs: number; dateMs: number; resolutionMs: number },
): Bounds {
  const lowMs = sample.dateMs - sample.receivedMs;
  const highMs = sample.dateMs + sample.resolutionMs - sample.sentMs;
  const next = { lowMs: Math.max(bounds.lowMs, lowMs), highMs: Math.min(bounds.highMs, highMs) };
  return next.lowMs <= next.highMs ? next : { lowMs, highMs };
}

/** When to send the next request (browser's clock) so that its Date halves what is possible. */
export function nextAskMs(bounds: Bounds, nowMs: number, roundTripMs: number): number {
  const middleMs = (bounds.lowMs + bounds.highMs) / 2;
  if (!Number.isFinite(middleMs)) return nowMs;
  const serverMs = nowMs + middleMs + roundTripMs / 2;
  return nowMs + (1000 - (((serverMs % 1000) + 1000) % 1000));
}

/** True when the page came from this very machine. */
export function isLoopback(hostname: string): boolean {
  return /^(localhost|.*\.localhost|127(\.\d+){3}|\[?::1\]?)$/.test(hostname);
}

export class ServerClock {
  private bounds: Bounds;
  private running: Promise<void> | undefined;

  constructor(
    private readonly url: string | URL,
    private readonly headers: () => Record<string, string> = () => ({}),
    private readonly wait = (ms: number): Promise<void> =>
      new Promise((done) => setTimeout(done, ms)),
  ) {
    const host = new URL(url, document.baseURI).hostname;
    this.bounds = isLoopback(host) ? { lowMs: 0, highMs: 0 } : UNKNOWN;
  }

  /** Server minus browser, in milliseconds; 0 until something is known. */
  get offsetMs(): number {
    const middle = (this.bounds.lowMs + this.bounds.highMs) / 2;
    return Number.isFinite(middle) ? middle : 0;
  }

  /** How far `offsetMs` may be wrong, in milliseconds; Infinity until something is known. */
  get uncertaintyMs(): number {
    return (this.bounds.highMs - this.bounds.lowMs) / 2;
  }

  /** The server's unix time, in milliseconds. */
  now(): number {
    return Date.now() + this.offsetMs;
  }

  /** Asks until the offset is known well enough. Never raises; one run at a time. */
  measure(): Promise<void> {
    this.running ??= this.ask().finally(() => {
      this.running = undefined;
    });
    return this.running;
  }

  private async ask(): Promise<void> {
    let roundTripMs = 0;
    let exactly = false;
    for (let n = 0; n < REQUESTS_MAX && this.uncertaintyMs > UNCERTAINTY_MS_GOAL; n++) {
      const ask = exactly
        ? Date.now() + EXACT_PAUSE_MS
        : nextAskMs(this.bounds, Date.now(), roundTripMs);
      await this.wait(ask - Date.now());
      try {
        const sentMs = Date.now();
        const response = await fetch(this.url, {
          cache: "no-store",
          headers: this.headers(),
        });
        const receivedMs = Date.now();
        roundTripMs = receivedMs - sentMs;
        const exact = Number(response.headers.get("x-server-time") ?? "NaN");
        exactly = Number.isFinite(exact) && exact > 0;
        const dateMs = exactly ? exact : Date.parse(response.headers.get("date") ?? "");
        if (Number.isNaN(dateMs)) return;
        const resolutionMs = exactly ? 0 : 1000;
        this.bounds = narrow(this.bounds, { sentMs, receivedMs, dateMs, resolutionMs });
      } catch {
        await this.wait(500);
      }
    }
  }
}
