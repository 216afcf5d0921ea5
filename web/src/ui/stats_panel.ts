// Statistics of the players on the stage, as one table with a column a player.
import type { PlayerStats } from "../lib/player";
import { h, setText } from "./dom";
import { bitRate, codec, latency, unit } from "./format";
import { KIND_NAMES, type Kind, type PlayerView } from "./player_view";

const STATE_WORDS = {
  idle: "off",
  connecting: "connecting",
  playing: "playing",
  stalled: "stalled",
  waiting: "waiting for the publisher",
  retrying: "trying again",
  failed: "failed",
} as const;

type Row = [
  label: string,
  value: (view: PlayerView, stats: PlayerStats) => string,
  /** Where only one kind of player has it. */
  only?: Kind,
];

const ROWS: Row[] = [
  ["State", (view) => STATE_WORDS[view.player.state]],
  [
    "Latency",
    (view) => {
      const kind = view.player.latency?.kind;
      return latency(view.latencyMs) + (kind === "estimated" ? " (estimated)" : "");
    },
  ],
  ["Request to first picture", (view) => latency(view.player.joinMs)],
  ["Video", (_view, stats) => codec(stats.codec)],
  ["Audio", (_view, stats) => codec(stats.audioCodec)],
  ["Size", (_view, stats) => (stats.width ? `${stats.width} × ${stats.height}` : "–")],
  ["Frame rate", (_view, stats) => unit(stats.framesPerSecond, "fps")],
  ["Bit rate", (_view, stats) => bitRate(stats.bitsPerSecond)],
  ["Packet loss", (_view, stats) => unit(stats.lostPercent, "%", 1), "webrtc"],
  ["Jitter buffer", (_view, stats) => unit(stats.jitterBufferMs, "ms"), "webrtc"],
  ["Round trip", (_view, stats) => unit(stats.roundTripMs, "ms", 1), "webrtc"],
  ["Buffered ahead", (_view, stats) => unit(stats.bufferMs, "ms"), "hls"],
  ["Hold-back", (_view, stats) => unit(stats.holdBackMs, "ms"), "hls"],
  ["Playback rate", (_view, stats) => unit(stats.playbackRate, "×", 2), "hls"],
  ["Dropped frames", (view) => String(view.player.droppedFrames)],
  ["Stalls", (view) => String(view.player.stalls)],
  ["Reconnects", (view) => String(view.player.reconnects)],
];

export class StatsPanel {
  readonly element = h("section", { class: "stats", hidden: true, aria: { label: "Statistics" } });
  private cells: { cell: HTMLElement; value: () => string }[] = [];

  /** Shows these players from now on. */
  show(views: PlayerView[]): void {
    this.cells = [];
    const head = h(
      "tr",
      {},
      h("th", { scope: "col" }, h("span", { class: "visually-hidden" }, "Figure")),
    );
    for (const view of views) head.append(h("th", { scope: "col" }, KIND_NAMES[view.options.kind]));
    const body = h("tbody");
    const kinds = views.map((view) => view.options.kind);
    for (const [label, value, only] of ROWS) {
      if (only && !kinds.includes(only)) continue;
      const row = h("tr", {}, h("th", { scope: "row" }, label));
      for (const view of views) {
        const cell = h("td", {}, "–");
        this.cells.push({ cell, value: () => value(view, view.player.stats) });
        row.append(cell);
      }
      body.append(row);
    }
    this.element.replaceChildren(h("table", {}, h("thead", {}, head), body));
    this.refresh();
  }

  toggle(): boolean {
    this.element.hidden = !this.element.hidden;
    this.refresh();
    return !this.element.hidden;
  }

  refresh(): void {
    if (this.element.hidden) return;
    for (const { cell, value } of this.cells) setText(cell, value());
  }
}
