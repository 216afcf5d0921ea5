import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { type Bounds, isLoopback, narrow, ServerClock, UNKNOWN } from "../../src/lib/clock";

beforeEach(() => vi.useFakeTimers({ now: 1_790_000_000_123 }));
afterEach(() => {
  vi.useRealTimers();
  vi.unstubAllGlobals();
});

/** A server whose clock is ahead, behind a line with a delay; its Date has whole seconds. */
function server(aheadMs: number, delayMs: number, exact = false): { asked: () => number } {
  let asked = 0;
  vi.stubGlobal("fetch", async () => {
    asked += 1;
    await vi.advanceTimersByTimeAsync(delayMs);
    const serverMs = Date.now() + aheadMs;
    const headers: Record<string, string> = {
      Date: new Date(Math.floor(serverMs / 1000) * 1000).toUTCString(),
    };
    if (exact) headers["X-Server-Time"] = serverMs.toFixed(1);
    await vi.advanceTimersByTimeAsync(delayMs);
    return new Response("", { headers });
  });
  return { asked: () => asked };
}

const waiting = async (ms: number): Promise<void> => {
  await vi.advanceTimersByTimeAsync(Math.max(0, ms));
};

test.each([-7_777, -3, 0, 480, 12_345])("whole seconds bound an offset of %d ms", async (ahead) => {
  server(ahead, 3);
  const clock = new ServerClock("http://media.test/livez", undefined, waiting);
  await clock.measure();
  expect(Math.abs(clock.offsetMs - ahead)).toBeLessThanOrEqual(10);
  expect(clock.uncertaintyMs).toBeLessThanOrEqual(10);
  expect(clock.now()).toBeCloseTo(Date.now() + clock.offsetMs, 3);
});

test("an exact header needs one request", async () => {
  const { asked } = server(5_000, 4, true);
  const clock = new ServerClock("http://media.test/livez", undefined, waiting);
  await clock.measure();
  expect(asked()).toBe(1);
  expect(Math.abs(clock.offsetMs - 5_000)).toBeLessThanOrEqual(4);
});

test("on loopback nothing is asked", async () => {
  const { asked } = server(5_000, 1);
  const clock = new ServerClock("http://127.0.0.1:8080/livez", undefined, waiting);
  await clock.measure();
  expect([clock.offsetMs, clock.uncertaintyMs, asked()]).toEqual([0, 0, 0]);
});

test("nothing known is an offset of 0 and an uncertainty without end", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("network");
  });
  const clock = new ServerClock("http://media.test/livez", undefined, waiting);
  await clock.measure();
  expect(clock.offsetMs).toBe(0);
  expect(clock.uncertaintyMs).toBe(Infinity);
});

test("answers that contradict each other start anew with the newest", () => {
  const before: Bounds = { lowMs: 0, highMs: 10 };
  const sample = { sentMs: 1000, receivedMs: 1002, dateMs: 9000, resolutionMs: 0 };
  expect(narrow(before, sample)).toEqual({ lowMs: 7998, highMs: 8000 });
  expect(narrow(UNKNOWN, sample)).toEqual({ lowMs: 7998, highMs: 8000 });
});

test("loopback is told by its name", () => {
  for (const host of ["localhost", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]"]) {
    expect(isLoopback(host)).toBe(true);
  }
  for (const host of ["example.org", "128.0.0.1", "localhost.example.org", "127.0.0.1.example"]) {
    expect(isLoopback(host)).toBe(false);
  }
});
