// Notices that the far side forgot a session: no packet for a while, and then its answer to the plain
// question. A silent publisher or an encoder that hangs is not mistaken for a dead server, and a
// thousand viewers do not all join again because one picture stopped.

export type Verdict = "well" | "silent" | "gone";

/** So long without a packet is worth a question, in milliseconds. */
const QUIET_MS = 700;
/** Between two questions while nobody answers, and once the session is known to live. */
const ASK_AGAIN_MS = 500;
const ASK_LIVING_MS = 5000;
/** Without an answer, so long a silence means that the session is gone, in milliseconds. */
const UNANSWERED_MS_MAX = 2500;
/** The server knows us and yet nothing comes: the way between is broken. */
const BROKEN_MS_MAX = 8000;

export class Liveness {
  private packets = -1;
  private heardMs: number;
  private askMs = 0;
  private asking = false;
  private alive = false;
  private verdict: Verdict = "well";

  constructor(
    private readonly ask: () => Promise<"alive" | "gone" | "unknown">,
    nowMs: number,
  ) {
    this.heardMs = nowMs;
  }

  /** How long nothing has come, in milliseconds. */
  silentMs(nowMs: number): number {
    return nowMs - this.heardMs;
  }

  /**
   * Judges by the count of packets received so far.
   * @param expected whether anything should come at all now; if not, only the question counts.
   */
  judge(packets: number, nowMs: number, expected = true): Verdict {
    if (packets !== this.packets) {
      this.packets = packets;
      this.heardMs = nowMs;
      this.alive = false;
      this.verdict = "well";
      return "well";
    }
    const silentMs = this.silentMs(nowMs);
    if (this.verdict === "gone" || silentMs < QUIET_MS) return this.verdict;
    this.verdict = "silent";
    const overdueMs = this.alive ? BROKEN_MS_MAX : UNANSWERED_MS_MAX;
    if (expected && silentMs > overdueMs) this.verdict = "gone";
    else if (!this.asking && nowMs >= this.askMs) void this.question(nowMs);
    return this.verdict;
  }

  /** Something should come from now on: silence until now is forgiven. */
  expect(nowMs: number): void {
    this.heardMs = Math.max(this.heardMs, nowMs - QUIET_MS);
    this.askMs = 0;
  }

  private async question(nowMs: number): Promise<void> {
    this.asking = true;
    const packets = this.packets;
    const answer = await this.ask();
    this.asking = false;
    if (packets !== this.packets) return;
    this.alive = answer === "alive";
    this.askMs = nowMs + (this.alive ? ASK_LIVING_MS : ASK_AGAIN_MS);
    if (answer === "gone") this.verdict = "gone";
  }
}
