import { expect, test, vi } from "vitest";
import { Liveness } from "../../src/lib/liveness";

type Answer = "alive" | "gone" | "unknown";

/** Judges every 400 ms without a packet; the time of the verdict "gone", or undefined. */
async function silence(answers: (n: number) => Answer, expected = true, forMs = 20_000) {
  const ask = vi.fn(async () => answers(ask.mock.calls.length));
  const liveness = new Liveness(ask, 0);
  liveness.judge(10, 0, expected);
  for (let nowMs = 400; nowMs <= forMs; nowMs += 400) {
    if (liveness.judge(10, nowMs, expected) === "gone")
      return { nowMs, asked: ask.mock.calls.length };
    await Promise.resolve();
    await Promise.resolve();
  }
  return { nowMs: undefined, asked: ask.mock.calls.length };
}

test("a server that forgot us is noticed within a second and a half", async () => {
  const { nowMs } = await silence(() => "gone");
  expect(nowMs).toBeLessThanOrEqual(1500);
});

test("a silent publisher is waited for, and the server is not asked often", async () => {
  const { nowMs, asked } = await silence(() => "alive", false, 60_000);
  expect(nowMs).toBeUndefined();
  expect(asked).toBeLessThanOrEqual(13);
});

test("without answers a viewer joins again, a publisher keeps asking", async () => {
  expect((await silence(() => "unknown")).nowMs).toBeLessThanOrEqual(3000);
  expect((await silence(() => "unknown", false)).nowMs).toBeUndefined();
});

test("a server that comes back without our session is noticed when it answers", async () => {
  const { nowMs } = await silence((n) => (n < 4 ? "unknown" : "gone"), false);
  expect(nowMs).toBeLessThanOrEqual(4000);
});

test("known to the server, but nothing comes: joined again after a while", async () => {
  const { nowMs } = await silence(() => "alive");
  expect(nowMs).toBeGreaterThan(5000);
  expect(nowMs).toBeLessThanOrEqual(8800);
});

test("a packet makes all well again", async () => {
  const liveness = new Liveness(async () => "alive", 0);
  expect(liveness.judge(1, 0)).toBe("well");
  expect(liveness.judge(1, 1000)).toBe("silent");
  expect(liveness.judge(2, 1400)).toBe("well");
  expect(liveness.silentMs(1400)).toBe(0);
});
