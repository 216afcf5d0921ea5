import { afterEach, beforeEach, expect, test, vi } from "vitest";
import { LivePlayer, type PlayerState } from "../../src/lib/player";
import { RequestError } from "../../src/lib/problem";

/** A player whose attempts the test decides. */
class Rehearsed extends LivePlayer {
  attempts = 0;
  open_ = 0;
  outcome: RequestError | undefined;

  protected async open(): Promise<void> {
    this.attempts += 1;
    if (this.outcome) throw this.outcome;
    this.open_ += 1;
  }

  protected shut(): void {
    this.open_ = 0;
  }

  protected look(): void {}

  protected isAttached(): boolean {
    return this.open_ > 0;
  }

  fall(error: RequestError): void {
    this.lost(error);
  }
}

let frame: ((now: number, data: { presentationTime: number }) => void) | undefined;
let player: Rehearsed;
let states: PlayerState[];

beforeEach(() => {
  vi.useFakeTimers();
  const video = document.createElement("video");
  Object.assign(video, {
    requestVideoFrameCallback: (callback: typeof frame) => {
      frame = callback;
    },
  });
  player = new Rehearsed(video, { key: () => "", serverNow: () => Date.now() });
  states = [];
  player.addEventListener("change", () => states.push(player.state));
});

afterEach(() => {
  player.stop();
  vi.useRealTimers();
});

async function present(): Promise<void> {
  await vi.advanceTimersByTimeAsync(120);
  frame?.(performance.now(), { presentationTime: performance.now() });
}

test("it plays from its first picture and says how long that took", async () => {
  player.start();
  await present();
  expect(states).toEqual(["connecting", "playing"]);
  expect(player.joinMs).toBeGreaterThanOrEqual(120);
  expect(player.joinMs).toBeLessThan(200);
});

test("nobody publishes: it waits, and hurries once it is told of a publisher", async () => {
  player.outcome = new RequestError(409, "nobody publishes", 20);
  player.start();
  await vi.advanceTimersByTimeAsync(1000);
  expect([player.state, player.reason, player.attempts]).toEqual([
    "waiting",
    "nobody publishes",
    1,
  ]);
  player.outcome = undefined;
  player.hurry();
  await present();
  expect([player.state, player.attempts]).toEqual(["playing", 2]);
});

test("a restart of the server is bridged within three seconds", async () => {
  player.start();
  await present();
  player.outcome = new RequestError(0, "away");
  player.fall(new RequestError(0, "lost"));
  await vi.advanceTimersByTimeAsync(2000);
  expect(player.state).toBe("retrying");
  player.outcome = undefined;
  await vi.advanceTimersByTimeAsync(900);
  await present();
  expect([player.state, player.reconnects]).toEqual(["playing", 1]);
});

test.each([401, 403, 406, 400])("a lasting refusal (%d) is not tried again", async (status) => {
  player.outcome = new RequestError(status, "no");
  player.start();
  await vi.advanceTimersByTimeAsync(60_000);
  expect([player.state, player.status, player.attempts]).toEqual(["failed", status, 1]);
});

test("after stop nothing is tried and nothing is reported", async () => {
  player.outcome = new RequestError(503, "full", 1);
  player.start();
  await vi.advanceTimersByTimeAsync(100);
  player.stop();
  const attempts = player.attempts;
  await vi.advanceTimersByTimeAsync(60_000);
  expect([player.state, player.attempts]).toEqual(["idle", attempts]);
});
