// One player on the page: the picture, what it is and how late it is, and, when there is no picture,
// why not, in words. The controls around it are `stage.ts`.
import { getKey, setKey } from "../key";
import type { ServerClock } from "../lib/clock";
import { HlsPlayer } from "../lib/hls_player";
import { Smoothed } from "../lib/latency";
import type { LivePlayer } from "../lib/player";
import { WebRtcPlayer } from "../lib/webrtc_player";
import type { StreamInfo } from "../streams";
import * as urls from "../urls";
import { h, setText } from "./dom";
import { latency } from "./format";

export type Kind = "webrtc" | "hls";
export const KIND_NAMES: Record<Kind, string> = { webrtc: "WebRTC", hls: "LL-HLS" };

/** What is said when there is no picture. */
export interface Explanation {
  title: string;
  text: string;
  busy: boolean;
  asksKey: boolean;
}

/** Words for a player's state; undefined while there is a picture and nothing to say. */
export function explain(
  kind: Kind,
  player: Pick<LivePlayer, "state" | "reason" | "status">,
  stream: string,
  info: StreamInfo | undefined,
): Explanation | undefined {
  const say = (title: string, text: string, busy = false, asksKey = false): Explanation => ({
    title,
    text,
    busy,
    asksKey,
  });
  const { state, reason, status } = player;
  if (state === "playing" || state === "idle") return undefined;
  if (state === "stalled" && info?.state !== "waiting") return say("", "", true);
  if (state === "failed") {
    if (status === 401)
      return say("A key is needed", "This server asks for a key to watch.", false, true);
    if (status === 403) return say("This key does not fit", reason, false, true);
    if (status === 406) return say("This browser cannot play it", reason);
    return say("It does not play", reason);
  }
  if (kind === "hls" && info?.state === "live" && !info.hls) {
    return say(
      "No LL-HLS yet",
      info.hls_reason || "It begins with the next key frame.",
      !info.hls_reason,
    );
  }
  const away = info?.state === "waiting";
  if (away && (state === "waiting" || state === "retrying" || kind === "hls")) {
    return say("The publisher is away", "It goes on as soon as they are back.", true);
  }
  if (state === "waiting" && info?.state === "live") return say("", "", true);
  if (state === "waiting") {
    return say("Not live yet", `As soon as somebody publishes to ${stream}, it plays here.`, true);
  }
  if (state === "retrying") return say("Trying again", reason, true);
  return say("", "", true);
}

export interface ViewOptions {
  kind: Kind;
  stream: string;
  clock: ServerClock;
  muted: boolean;
  /** What the list of streams says of this one now. */
  info: () => StreamInfo | undefined;
}

export class PlayerView {
  readonly element: HTMLElement;
  readonly video: HTMLVideoElement;
  readonly player: LivePlayer;

  private readonly shown = new Smoothed();
  private readonly figure = h("span", { class: "figure" }, "–");
  private readonly title = h("strong");
  private readonly words = h("span");
  private readonly message = h("div", {
    class: "message",
    role: "status",
    aria: { live: "polite" },
  });
  private readonly form: HTMLFormElement;

  constructor(readonly options: ViewOptions) {
    const { kind, stream, clock } = options;
    this.video = h("video", {
      playsInline: true,
      muted: options.muted,
      autoplay: true,
      disablePictureInPicture: false,
      data: { player: kind },
      aria: { label: `${stream} by ${KIND_NAMES[kind]}` },
    });
    const deps = { key: getKey, serverNow: () => clock.now() };
    this.player =
      kind === "webrtc"
        ? new WebRtcPlayer(this.video, urls.whep(stream), deps)
        : new HlsPlayer(
            this.video,
            urls.playlist(stream),
            (key) => urls.keyedPlaylist(stream, key),
            deps,
          );
    this.form = this.keyForm();
    this.message.append(
      h("span", { class: "spinner", aria: { hidden: "true" } }),
      this.title,
      this.words,
    );
    const caption = h(
      "figcaption",
      { class: "badge", title: "From the camera to this screen" },
      h("span", {}, KIND_NAMES[kind]),
      this.figure,
    );
    this.element = h(
      "figure",
      { class: "player", data: { kind } },
      this.video,
      this.message,
      caption,
    );
    this.message.append(this.form);
    this.player.addEventListener("change", () => this.render());
    this.player.addEventListener("sample", () => this.measure());
    this.render();
  }

  start(): void {
    this.player.start();
  }

  stop(): void {
    this.player.stop();
    this.video.remove();
  }

  /** Something is new in the list of streams. */
  refresh(): void {
    const info = this.options.info();
    const player = this.player;
    if (player instanceof WebRtcPlayer) {
      const present = info?.state !== "waiting";
      if (present && !player.publisherPresent) player.expectMedia();
      player.publisherPresent = present;
    }
    if (info?.state === "live" && (this.options.kind === "webrtc" || info.hls)) player.hurry();
    this.render();
  }

  /** The latency that is shown, in milliseconds: the median of the last few. */
  get latencyMs(): number | undefined {
    return this.player.latency && this.shown.value;
  }

  /** The latency as it is shown; ≈ where it is an estimate. */
  get latencyWords(): string {
    const prefix = this.player.latency?.kind === "estimated" ? "≈ " : "";
    return this.latencyMs === undefined ? "–" : prefix + latency(this.latencyMs);
  }

  private measure(): void {
    const now = this.player.latency;
    if (now && !this.video.paused) this.shown.push(now.ms);
    else if (!now) this.shown.clear();
    setText(this.figure, this.latencyWords);
  }

  private render(): void {
    const { kind, stream } = this.options;
    const what = explain(kind, this.player, stream, this.options.info());
    this.element.dataset.state = this.player.state;
    this.message.classList.toggle("shown", what !== undefined);
    this.message.classList.toggle("busy", what?.busy === true);
    this.message.classList.toggle("bare", what !== undefined && what.title === "");
    setText(this.title, what?.title ?? "");
    setText(this.words, what?.text ?? "");
    this.form.hidden = !what?.asksKey;
  }

  private keyForm(): HTMLFormElement {
    const field = h("input", {
      type: "password",
      autocomplete: "off",
      required: true,
      placeholder: "Key",
      aria: { label: "Key" },
    });
    const form = h("form", { class: "key-form" }, field, h("button", { class: "button" }, "Watch"));
    form.hidden = true;
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      setKey(field.value);
      field.value = "";
      window.dispatchEvent(new Event("nexus-key"));
    });
    return form;
  }
}
