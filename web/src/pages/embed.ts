// /embed/{stream}?mode=webrtc|hls|both&muted=1&controls=1 : the bare player, for iframes.
//
// It talks to the page around it by postMessage; every message has `nexus: 1`.
//   to the player:   { nexus: 1, command: "play" | "pause" | "mute" | "unmute" }
//                    { nexus: 1, command: "mode", mode: "webrtc" | "hls" | "both" }
//                    { nexus: 1, command: "key", key: "…" }      (a read key; kept for the tab)
//   from the player: { nexus: 1, event: "state", stream, players: { webrtc?: Figures, hls?: Figures } }
//                    on every change of state, and once a second while something plays;
//                    Figures = { state, latencyMs, joinMs, stalls, droppedFrames, reconnects }
// Commands are taken from the embedding window alone; what they do, any viewer could do as well.
import { expose } from "../expose";
import { keyHeaders, setKey } from "../key";
import { ServerClock } from "../lib/clock";
import { StreamList } from "../streams";
import { byId, h } from "../ui/dom";
import { type Mode, Stage } from "../ui/stage";
import * as urls from "../urls";

const MODES: readonly string[] = ["webrtc", "hls", "both"];
const REPORT_MS = 1000;

const name = urls.streamOfPage(location.pathname);
if (name) run(name);
else byId("stage").append(h("p", { class: "notice" }, "There is no stream of that name."));

function run(stream: string): void {
  document.title = `${stream} · Nexus`;
  const query = new URLSearchParams(location.search);
  const flag = (option: string): boolean => !/^(0|false|no)$/.test(query.get(option) ?? "1");
  const asked = query.get("mode") ?? "";
  const clock = new ServerClock("/livez", keyHeaders);
  const list = new StreamList();
  const stage = new Stage({
    stream,
    mode: MODES.includes(asked) ? (asked as Mode) : "webrtc",
    clock,
    info: () => list.streams.get(stream),
    muted: flag("muted"),
    controls: flag("controls"),
  });
  byId("stage").append(stage.element, stage.stats.element);
  expose(() => stage);
  void clock.measure();
  list.addEventListener("change", () => stage.refresh());
  list.start();
  document.addEventListener("keydown", (event) => void stage.key(event));
  window.addEventListener("pagehide", () => {
    for (const view of stage.views) view.player.stop();
  });
  window.addEventListener("nexus-key", () => {
    stage.restart();
    list.start();
  });
  if (window.parent === window) return;
  const report = (): void => window.parent.postMessage(news(stream, stage), "*");
  stage.addEventListener("change", report);
  window.setInterval(report, REPORT_MS);
  window.addEventListener("message", (event) => {
    if (event.source === window.parent) obey(stage, event.data);
  });
}

function news(stream: string, stage: Stage): object {
  const players = Object.fromEntries(
    Object.entries(stage.players).map(([kind, figures]) => {
      const { state, latencyMs, joinMs, stalls, droppedFrames, reconnects } = figures;
      return [kind, { state, latencyMs, joinMs, stalls, droppedFrames, reconnects }];
    }),
  );
  return { nexus: 1, event: "state", stream, players };
}

function obey(stage: Stage, message: unknown): void {
  if (typeof message !== "object" || message === null) return;
  const { nexus, command, mode, key } = message as Record<string, unknown>;
  if (nexus !== 1) return;
  if (command === "play") stage.setPaused(false);
  if (command === "pause") stage.setPaused(true);
  if (command === "mute") stage.setMuted(true);
  if (command === "unmute") stage.setMuted(false);
  if (command === "mode" && typeof mode === "string" && MODES.includes(mode)) {
    stage.choose(mode as Mode);
  }
  if (command === "key" && typeof key === "string") {
    setKey(key);
    window.dispatchEvent(new Event("nexus-key"));
  }
}
