// How long to wait before trying again: quickly at first, because most faults are a restart that is
// over within a second, then slower, with jitter so that a thousand viewers do not come at once.

/** Pauses in milliseconds; the last one repeats. */
const PAUSES_MS = [150, 250, 400, 500, 500, 700, 1000, 1500, 2000, 3000, 5000] as const;
/** Longest pause a server may ask for, in seconds. */
const RETRY_AFTER_SECONDS_MAX = 30;

export class Backoff {
  private attempt = 0;

  constructor(private readonly random: () => number = Math.random) {}

  /** How many pauses were taken since the last success. */
  get attempts(): number {
    return this.attempt;
  }

  /**
   * Milliseconds to wait before the next attempt.
   * @param retryAfterSeconds what the server asked for; it is a floor once the quick tries are over.
   */
  nextMs(retryAfterSeconds?: number): number {
    const pause = PAUSES_MS[Math.min(this.attempt, PAUSES_MS.length - 1)] ?? 5000;
    this.attempt += 1;
    const floor = Math.min(retryAfterSeconds ?? 0, RETRY_AFTER_SECONDS_MAX) * 1000;
    return Math.max(pause * (0.8 + 0.4 * this.random()), floor);
  }

  /** To be called once it works. */
  reset(): void {
    this.attempt = 0;
  }
}
