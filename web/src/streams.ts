// What is live, as the server tells it: server-sent events, read with fetch so that a key can be
// shown, and polling where events do not get through (a proxy that collects them).
import { keyHeaders } from "./key";
import { Backoff } from "./lib/backoff";
import { RequestError, request, toRequestError } from "./lib/problem";

/** One stream; the fields of the control API. */
export interface StreamInfo {
  stream: string;
  state: "live" | "waiting" | "gone";
  since_unix: number;
  video: string;
  audio: string;
  width: number;
  height: number;
  hls: boolean;
  hls_reason: string;
  viewers_webrtc: number;
  viewers_hls: number;
  bits_per_second: number;
  keyframe_age_ms: number;
  lost: number;
}

const POLL_MS = 2000;
/** Without a sign of life for so long the event stream is taken for dead, in milliseconds. */
const SILENCE_MS_MAX = 40_000;
/** Longest event we keep while it arrives, in characters. */
const EVENT_CHARACTERS_MAX = 1_000_000;

/** One server-sent event. */
export interface ServerEvent {
  name: string;
  data: string;
}

/** Cuts text into events; what is not complete yet stays inside. */
export class EventParser {
  private rest = "";

  push(text: string): ServerEvent[] {
    this.rest = (this.rest + text).slice(-EVENT_CHARACTERS_MAX);
    const blocks = this.rest.split(/\r?\n\r?\n/);
    this.rest = blocks.pop() ?? "";
    const events: ServerEvent[] = [];
    for (const block of blocks) {
      let name = "message";
      const data: string[] = [];
      for (const line of block.split(/\r?\n/)) {
        const [, field, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
        if (field === "event") name = value ?? "";
        if (field === "data") data.push(value ?? "");
      }
      if (data.length > 0) events.push({ name, data: data.join("\n") });
    }
    return events;
  }
}

/** The streams in an answer or event: a list, an object that holds one, or a single stream. */
export function streamsIn(body: unknown): { streams: StreamInfo[]; whole: boolean } {
  if (Array.isArray(body)) return { streams: body.filter(isStream), whole: true };
  if (isStream(body)) return { streams: [body], whole: false };
  const lists = Object.values(typeof body === "object" && body !== null ? body : {});
  const list = lists.find(Array.isArray) as unknown[] | undefined;
  return list ? { streams: list.filter(isStream), whole: true } : { streams: [], whole: false };
}

function isStream(value: unknown): value is StreamInfo {
  return typeof value === "object" && value !== null && "stream" in value && "state" in value;
}

/** The list of streams, kept up to date. Reports `change`; `problem` says why it cannot be had. */
export class StreamList extends EventTarget {
  readonly streams = new Map<string, StreamInfo>();
  /** True once the server has answered. */
  known = false;
  problem: RequestError | undefined;

  private stopped = new AbortController();
  private readonly backoff = new Backoff();

  /** Those that are on air or just lost their publisher, longest on air first. */
  get present(): StreamInfo[] {
    return [...this.streams.values()].sort(
      (first, second) =>
        Number(second.state === "live") - Number(first.state === "live") ||
        first.since_unix - second.since_unix ||
        first.stream.localeCompare(second.stream),
    );
  }

  start(): void {
    this.stop();
    this.stopped = new AbortController();
    void this.follow(this.stopped.signal);
  }

  stop(): void {
    this.stopped.abort();
  }

  private async follow(stop: AbortSignal): Promise<void> {
    while (!stop.aborted) {
      try {
        await this.poll(stop);
        await this.listen(stop);
      } catch (error) {
        if (stop.aborted) return;
        this.fail(error instanceof RequestError ? error : new RequestError(0, String(error)));
      }
      const refused = this.problem && [401, 403].includes(this.problem.status);
      await pause(refused ? POLL_MS * 5 : Math.min(this.backoff.nextMs(), POLL_MS), stop);
    }
  }

  private async poll(stop: AbortSignal): Promise<void> {
    const response = await request("/api/v1/streams?limit=100", {
      headers: keyHeaders(),
      signal: stop,
    });
    if (!response.ok) throw await toRequestError(response);
    this.take(await response.json(), true);
  }

  private async listen(stop: AbortSignal): Promise<void> {
    const silent = new AbortController();
    const signal = AbortSignal.any([stop, silent.signal]);
    const headers = { Accept: "text/event-stream", ...keyHeaders() };
    const response = await request("/api/events", { headers, cache: "no-store", signal });
    if (!response.ok || !response.body) return;
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const parser = new EventParser();
    for (;;) {
      const timer = window.setTimeout(() => silent.abort(), SILENCE_MS_MAX);
      const { done, value } = await reader.read().catch(() => ({ done: true, value: "" }));
      window.clearTimeout(timer);
      if (done) return;
      for (const event of parser.push(value ?? "")) {
        const whole = /^(streams|snapshot|all)$/.test(event.name);
        this.take(JSON.parse(event.data), whole);
      }
      this.backoff.reset();
    }
  }

  private take(body: unknown, fromList: boolean): void {
    const { streams, whole } = streamsIn(body);
    if (whole && fromList) this.streams.clear();
    for (const info of streams) {
      if (info.state === "gone") this.streams.delete(info.stream);
      else this.streams.set(info.stream, info);
    }
    this.known = true;
    this.problem = undefined;
    this.dispatchEvent(new Event("change"));
  }

  private fail(problem: RequestError): void {
    this.problem = problem;
    this.dispatchEvent(new Event("change"));
  }
}

function pause(milliseconds: number, stop: AbortSignal): Promise<void> {
  return new Promise((done) => {
    const timer = window.setTimeout(done, milliseconds);
    stop.addEventListener("abort", () => {
      window.clearTimeout(timer);
      done();
    });
  });
}
