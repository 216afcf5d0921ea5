// /watch/{stream}?mode=webrtc|hls|both : one stream, by whichever way the viewer likes.
import { expose } from "../expose";
import { keyHeaders } from "../key";
import { ServerClock } from "../lib/clock";
import { type StreamInfo, StreamList } from "../streams";
import { byId, copyButton, h, iconButton, setText } from "../ui/dom";
import { age, bitRate, codec, plural } from "../ui/format";
import { helpDialog } from "../ui/help";
import { KIND_NAMES } from "../ui/player_view";
import { type Mode, Stage } from "../ui/stage";
import * as urls from "../urls";

const MODES: [Mode, string, string][] = [
  ["webrtc", "WebRTC", "w"],
  ["hls", "LL-HLS", "h"],
  ["both", "Side by side", "b"],
];

const name = urls.streamOfPage(location.pathname);
if (name) run(name);
else {
  setText(byId("name"), "No such stream");
  setText(byId("facts"), "A stream's name has letters, digits, dots, dashes and underscores.");
}

function run(stream: string): void {
  document.title = `${stream} · Nexus`;
  setText(byId("name"), stream);
  const clock = new ServerClock("/livez", keyHeaders);
  const list = new StreamList();
  const info = (): StreamInfo | undefined => list.streams.get(stream);
  const help = helpDialog();
  const stage = new Stage({ stream, mode: modeOf(location.search), clock, info, onMode: remember });
  byId("stage").append(stage.element);
  byId("panel").append(stage.stats.element);
  document.body.append(help);
  expose(() => stage);
  void clock.measure();

  const choice = modeChoice(stage);
  byId("tools").append(
    choice.element,
    copyButton("Copy link", () => urls.absolute(urls.watch(stream))),
    copyButton("Embed", () => embedCode(stream)),
    iconButton("help", "Keys (?)", () => help.showModal()),
  );
  stage.addEventListener("mode", choice.refresh);
  stage.addEventListener("change", () => announce(stage));
  const facts = (): void => describe(stream, list, clock);
  list.addEventListener("change", () => {
    stage.refresh();
    facts();
  });
  window.setInterval(facts, 1000);
  window.addEventListener("nexus-key", () => {
    stage.restart();
    list.start();
  });
  document.addEventListener("keydown", (event) => {
    if (stage.key(event) || event.key !== "?" || help.open) return;
    help.showModal();
  });
  window.addEventListener("pagehide", () => {
    for (const view of stage.views) view.player.stop();
  });
  window.addEventListener("pageshow", (event) => {
    if (event.persisted) stage.restart();
  });
  list.start();
}

function modeOf(search: string): Mode {
  const asked = new URLSearchParams(search).get("mode");
  return MODES.find(([mode]) => mode === asked)?.[0] ?? "webrtc";
}

function remember(mode: Mode): void {
  history.replaceState(history.state, "", `${location.pathname}?mode=${mode}`);
}

function modeChoice(stage: Stage): { element: HTMLElement; refresh: () => void } {
  const element = h(
    "fieldset",
    { class: "choice" },
    h("legend", { class: "visually-hidden" }, "Play by"),
  );
  const inputs = MODES.map(([mode, label, key]) => {
    const input = h("input", {
      type: "radio",
      name: "mode",
      value: mode,
      on: { change: () => stage.choose(mode) },
    });
    element.append(h("label", { title: `${label} (${key})` }, input, h("span", {}, label)));
    return input;
  });
  const refresh = (): void => {
    for (const input of inputs) input.checked = input.value === stage.mode;
  };
  refresh();
  return { element, refresh };
}

function embedCode(stream: string): string {
  const address = urls.absolute(urls.embed(stream));
  return `<iframe src="${address}" allow="autoplay; fullscreen; picture-in-picture" width="640" height="360" title="${stream}"></iframe>`;
}

function announce(stage: Stage): void {
  const words = stage.views.map((view) => `${KIND_NAMES[view.options.kind]}: ${view.player.state}`);
  setText(byId("said"), words.join(", "));
}

function describe(stream: string, list: StreamList, clock: ServerClock): void {
  const facts = byId("facts");
  const info = list.streams.get(stream);
  const live = info?.state === "live";
  facts.classList.toggle("is-live", live);
  if (!info || !live) {
    const away = info ? "The publisher is away." : "Not on air.";
    return setText(facts, list.known ? away : "");
  }
  const parts = [
    `On air for ${age(info.since_unix, clock.now())}`,
    plural(info.viewers_webrtc + info.viewers_hls, "viewer"),
    [info.video, info.audio].filter(Boolean).map(codec).join(" + "),
    info.width ? `${info.width} × ${info.height}` : "",
    bitRate(info.bits_per_second),
    info.hls ? "" : `No LL-HLS: ${info.hls_reason || "not yet"}`,
  ];
  setText(facts, parts.filter((part) => part && part !== "–").join(" · "));
}
