// The stage: one player or two side by side, their controls, their keys on the keyboard and their
// statistics. The front page, the watch page and the embedded player each put one up.

import type { ServerClock } from "../lib/clock";
import { HlsPlayer } from "../lib/hls_player";
import { playOrMute } from "../lib/player";
import type { StreamInfo } from "../streams";
import { h, icon, iconButton, reface } from "./dom";
import { type Kind, PlayerView } from "./player_view";
import { StatsPanel } from "./stats_panel";

export type Mode = Kind | "both";

export interface StageOptions {
  stream: string;
  mode: Mode;
  clock: ServerClock;
  info: () => StreamInfo | undefined;
  muted?: boolean;
  controls?: boolean;
  /** Called when a person chooses another mode. */
  onMode?: (mode: Mode) => void;
}

/** What tests and embedding pages may read of a player. */
export interface PlayerFigures {
  readonly state: string;
  readonly latencyMs: number | undefined;
  readonly joinMs: number | undefined;
  readonly stalls: number;
  readonly droppedFrames: number;
  readonly reconnects: number;
  readonly video: HTMLVideoElement;
}

/** Controls vanish after so long without a sign of the person, in milliseconds. */
const QUIET_MS = 2600;

export class Stage extends EventTarget {
  readonly element: HTMLElement;
  readonly stats = new StatsPanel();
  views: PlayerView[] = [];
  mode: Mode;

  private readonly screen = h("div", { class: "screen" });
  private readonly play = iconButton("pause", "Pause (space)", () => this.togglePlay());
  private readonly sound = iconButton("muted", "Unmute (m)", () => this.toggleMute());
  private readonly volume: HTMLInputElement;
  private readonly unmute: HTMLButtonElement;
  private muted: boolean;
  private paused = false;
  private quiet = 0;

  constructor(private readonly options: StageOptions) {
    super();
    this.mode = options.mode;
    this.muted = options.muted ?? true;
    this.volume = h("input", {
      type: "range",
      class: "volume",
      min: "0",
      max: "100",
      value: "100",
      aria: { label: "Volume" },
      on: { input: () => this.setVolume() },
    });
    this.unmute = h(
      "button",
      { type: "button", class: "button unmute", on: { click: () => this.toggleMute() } },
      icon("muted"),
      "Unmute",
    );
    this.element = h("div", { class: "stage" }, this.screen, this.unmute);
    if (options.controls !== false) this.element.append(this.bar());
    for (const name of ["pointermove", "pointerdown", "focusin"]) {
      this.element.addEventListener(name, () => this.wake());
    }
    this.screen.addEventListener("dblclick", () => this.toggleFull());
    this.setMode(options.mode);
  }

  private bar(): HTMLElement {
    const right = [iconButton("stats", "Statistics (s)", () => this.toggleStats())];
    if (document.pictureInPictureEnabled) {
      right.push(iconButton("pip", "Picture in picture (p)", () => void this.togglePip()));
    }
    right.push(iconButton("full", "Full screen (f)", () => this.toggleFull()));
    return h(
      "div",
      { class: "controls", role: "group", aria: { label: "Player" } },
      this.play,
      this.sound,
      this.volume,
      h("span", { class: "spring" }),
      ...right,
    );
  }

  /** Puts up the players of a mode; those that stay are not interrupted. */
  setMode(mode: Mode): void {
    this.mode = mode;
    const kinds: Kind[] = mode === "both" ? ["webrtc", "hls"] : [mode];
    for (const view of this.views.filter((item) => !kinds.includes(item.options.kind))) {
      view.stop();
      view.element.remove();
    }
    this.views = kinds.map(
      (kind) => this.views.find((view) => view.options.kind === kind) ?? this.add(kind),
    );
    for (const view of this.views) this.screen.append(view.element);
    this.element.dataset.mode = mode;
    this.stats.show(this.views);
    this.hear();
    this.dispatchEvent(new Event("mode"));
  }

  private add(kind: Kind): PlayerView {
    const { stream, clock, info } = this.options;
    const view = new PlayerView({ kind, stream, clock, info, muted: true });
    view.player.addEventListener("sample", () => {
      this.stats.refresh();
      this.dispatchEvent(new Event("sample"));
    });
    view.player.addEventListener("change", () => this.dispatchEvent(new Event("change")));
    view.video.addEventListener("volumechange", () => this.heard(view));
    view.start();
    return view;
  }

  /** The list of streams has changed. */
  refresh(): void {
    for (const view of this.views) view.refresh();
  }

  /** Begins anew, with another key for instance. */
  restart(): void {
    for (const view of this.views) view.start();
  }

  stop(): void {
    for (const view of this.views) view.stop();
    this.views = [];
    this.element.remove();
    this.stats.element.remove();
  }

  // -- what a person does ------------------------------------------------------------------

  togglePlay(): void {
    this.setPaused(!this.paused);
  }

  setPaused(paused: boolean): void {
    if (paused === this.paused) return;
    this.paused = paused;
    for (const view of this.views) {
      if (this.paused) view.video.pause();
      else {
        if (view.player instanceof HlsPlayer) view.player.jumpToLive();
        void playOrMute(view.video);
      }
    }
    reface(
      this.play,
      this.paused ? "play" : "pause",
      this.paused ? "Play (space)" : "Pause (space)",
    );
    this.wake();
  }

  toggleMute(): void {
    this.setMuted(!this.muted);
  }

  setMuted(muted: boolean): void {
    this.muted = muted;
    if (!this.muted && Number(this.volume.value) === 0) this.volume.value = "60";
    this.hear();
    this.wake();
  }

  private setVolume(): void {
    this.muted = Number(this.volume.value) === 0;
    this.hear();
  }

  /** Only the first player is heard: two at once would be an echo. */
  private hear(): void {
    const volume = Number(this.volume.value) / 100;
    this.views.forEach((view, place) => {
      view.video.volume = volume;
      view.video.muted = this.muted || place > 0;
    });
    this.face();
  }

  /** The browser muted the player: say so. */
  private heard(view: PlayerView): void {
    if (view !== this.views[0] || view.video.muted === this.muted) return;
    this.muted = view.video.muted;
    this.face();
  }

  private face(): void {
    this.unmute.hidden = !this.muted;
    reface(this.sound, this.muted ? "muted" : "sound", this.muted ? "Unmute (m)" : "Mute (m)");
  }

  toggleFull(): void {
    const video = this.views[0]?.video as
      | (HTMLVideoElement & { webkitEnterFullscreen?: () => void })
      | undefined;
    if (document.fullscreenElement) void document.exitFullscreen();
    else if (this.element.requestFullscreen) {
      void this.element.requestFullscreen().catch(() => undefined);
    } else video?.webkitEnterFullscreen?.();
  }

  async togglePip(): Promise<void> {
    const video = this.views[0]?.video;
    if (document.pictureInPictureElement) await document.exitPictureInPicture();
    else await video?.requestPictureInPicture?.().catch(() => undefined);
  }

  toggleStats(): void {
    this.stats.toggle();
  }

  choose(mode: Mode): void {
    if (mode === this.mode) return;
    this.setMode(mode);
    this.options.onMode?.(mode);
  }

  /** Acts on a key press; true when it was one of ours. */
  key(event: KeyboardEvent): boolean {
    if (event.ctrlKey || event.metaKey || event.altKey) return false;
    const target = event.target instanceof Element ? event.target : null;
    if (target?.closest("input, textarea, select, [contenteditable], dialog[open]")) return false;
    if (event.key === " " && target?.closest("button, a, summary")) return false;
    const acts: Record<string, () => void> = {
      " ": () => this.togglePlay(),
      k: () => this.togglePlay(),
      m: () => this.toggleMute(),
      f: () => this.toggleFull(),
      p: () => void this.togglePip(),
      s: () => this.toggleStats(),
      w: () => this.choose("webrtc"),
      h: () => this.choose("hls"),
      b: () => this.choose("both"),
    };
    const act = acts[event.key.toLowerCase()];
    if (!act) return false;
    event.preventDefault();
    act();
    return true;
  }

  private wake(): void {
    this.element.classList.add("awake");
    window.clearTimeout(this.quiet);
    this.quiet = window.setTimeout(() => {
      if (!this.element.querySelector(".controls :focus-visible")) {
        this.element.classList.remove("awake");
      }
    }, QUIET_MS);
  }

  /** Figures of each player that is up. */
  get players(): Partial<Record<Kind, PlayerFigures>> {
    const figures: Partial<Record<Kind, PlayerFigures>> = {};
    for (const view of this.views) {
      const { player } = view;
      figures[view.options.kind] = {
        get state() {
          return player.state;
        },
        get latencyMs() {
          const ms = view.latencyMs;
          return ms === undefined ? undefined : Math.round(ms);
        },
        get joinMs() {
          return player.joinMs;
        },
        get stalls() {
          return player.stalls;
        },
        get droppedFrames() {
          return player.droppedFrames;
        },
        get reconnects() {
          return player.reconnects;
        },
        video: view.video,
      };
    }
    return figures;
  }
}
