// / : what is on air. The first stream plays here, by WebRTC and by LL-HLS side by side, each with
// its true latency; below are all streams, kept up to date, and how to go on air.
import { expose } from "../expose";
import { getKey, keyHeaders, setKey } from "../key";
import { ServerClock } from "../lib/clock";
import { type StreamInfo, StreamList } from "../streams";
import { byId, h, setText } from "../ui/dom";
import { age, bitRate, codec, plural } from "../ui/format";
import { publishGuide } from "../ui/guide";
import { KIND_NAMES, type Kind } from "../ui/player_view";
import { Stage } from "../ui/stage";
import * as urls from "../urls";

const FEATURE_FIRST = "demo";
const EXPLAINED: Record<Kind, string> = {
  webrtc: "For talking back: every packet is passed on as it comes.",
  hls: "For any number of viewers: plain files over HTTP, in parts of a fifth of a second.",
};

const clock = new ServerClock("/livez", keyHeaders);
const list = new StreamList();
let stage: Stage | undefined;
let featured = "";

expose(() => stage);
void clock.measure();
list.addEventListener("change", render);
list.start();
window.setInterval(refreshAges, 1000);
window.addEventListener("nexus-key", () => list.start());
window.addEventListener("pagehide", () => {
  for (const view of stage?.views ?? []) view.player.stop();
});
window.addEventListener("pageshow", (event) => {
  if (event.persisted) stage?.restart();
});
document.addEventListener("keydown", (event) => void stage?.key(event));
byId<HTMLFormElement>("key").addEventListener("submit", (event) => {
  event.preventDefault();
  setKey(byId<HTMLInputElement>("key-field").value);
  list.start();
});

function render(): void {
  const refused = list.problem?.status === 401 || list.problem?.status === 403;
  byId("key").hidden = !refused;
  if (refused && getKey()) setText(byId("notice"), "This key does not fit.");
  else
    setText(
      byId("notice"),
      list.problem && !refused ? `${list.problem.message} Trying again…` : "",
    );
  byId("notice").hidden = byId("notice").textContent === "";
  byId("list-section").hidden = refused;
  const present = list.present;
  feature(present);
  cards(present);
  const live = present.filter((info) => info.state === "live").length;
  setText(byId("list-title"), list.known && !present.length ? "Nothing is on air" : "On air");
  setText(byId("count"), list.known ? (live ? plural(live, "stream") : "") : "Looking…");
  const guide = byId("guide");
  guide.hidden = !list.known || refused;
  if (!guide.hidden && guide.childElementCount === 0) {
    guide.append(h("h2", {}, "Put something on air"), publishGuide());
  }
  guide.classList.toggle("first", present.length === 0);
}

/** Chooses what plays on top; what plays is not exchanged while it is there. */
function feature(present: StreamInfo[]): void {
  const still = present.some((info) => info.stream === featured);
  if (still || !list.known) return stage?.refresh();
  const live = present.filter((info) => info.state === "live");
  const next = (live.find((info) => info.stream === FEATURE_FIRST) ?? live[0])?.stream ?? "";
  stage?.stop();
  stage = undefined;
  featured = next;
  const section = byId("feature");
  section.hidden = next === "";
  section.replaceChildren();
  if (!next) return;
  const info = (): StreamInfo | undefined => list.streams.get(next);
  stage = new Stage({ stream: next, mode: "both", clock, info });
  section.append(
    h(
      "div",
      { class: "feature-head" },
      h("span", { class: "live-dot", aria: { hidden: "true" } }),
      h("h2", {}, next),
      h("a", { class: "button button-quiet", href: urls.watch(next) }, "Open"),
    ),
    stage.element,
    captions(stage),
    stage.stats.element,
  );
}

/** Under each picture: how it came and how late it is. */
function captions(of: Stage): HTMLElement {
  const row = h("div", { class: "captions" });
  for (const view of of.views) {
    const { kind } = view.options;
    const figure = h("strong", { class: "big-figure" }, "–");
    of.addEventListener("sample", () => setText(figure, view.latencyWords));
    row.append(
      h(
        "div",
        { class: "caption" },
        h("p", { class: "caption-head" }, h("span", {}, KIND_NAMES[kind]), figure),
        h("p", { class: "quiet" }, EXPLAINED[kind]),
      ),
    );
  }
  return row;
}

const shown = new Map<string, { element: HTMLElement; update: (info: StreamInfo) => void }>();

function cards(present: StreamInfo[]): void {
  const parent = byId("list");
  const names = new Set(present.map((info) => info.stream));
  for (const [name, card] of shown) {
    if (names.has(name)) continue;
    card.element.remove();
    shown.delete(name);
  }
  present.forEach((info, place) => {
    let card = shown.get(info.stream);
    if (!card) {
      card = makeCard(info.stream);
      shown.set(info.stream, card);
    }
    if (parent.children[place] !== card.element) {
      parent.insertBefore(card.element, parent.children[place] ?? null);
    }
    card.update(info);
  });
}

function makeCard(stream: string): { element: HTMLElement; update: (info: StreamInfo) => void } {
  const state = h("span", { class: "state" });
  const format = h("p", { class: "card-format" });
  const viewers = h("dd");
  const rate = h("dd");
  const since = h("dd", { class: "since" });
  const note = h("p", { class: "card-note" });
  const element = h(
    "li",
    { class: "card" },
    h(
      "div",
      { class: "card-head" },
      h("h3", {}, h("a", { href: urls.watch(stream) }, stream)),
      state,
    ),
    format,
    h(
      "dl",
      { class: "card-figures" },
      h("div", {}, h("dt", {}, "Viewers"), viewers),
      h("div", {}, h("dt", {}, "Bit rate"), rate),
      h("div", {}, h("dt", {}, "On air"), since),
    ),
    note,
  );
  const update = (info: StreamInfo): void => {
    const live = info.state === "live";
    element.dataset.state = info.state;
    setText(state, live ? "Live" : "Away");
    const codecs = [info.video, info.audio].filter(Boolean).map(codec).join(" + ");
    const size = info.width ? `${info.width} × ${info.height}` : "";
    setText(format, [size, codecs].filter(Boolean).join(" · ") || "Starting…");
    setText(viewers, String(info.viewers_webrtc + info.viewers_hls));
    viewers.title = `${info.viewers_webrtc} by WebRTC, ${info.viewers_hls} by LL-HLS`;
    setText(rate, live ? bitRate(info.bits_per_second) : "–");
    since.dataset.since = String(info.since_unix);
    setText(note, live && !info.hls && info.hls_reason ? `No LL-HLS: ${info.hls_reason}` : "");
    refreshAge(since);
  };
  return { element, update };
}

function refreshAge(element: HTMLElement): void {
  setText(element, age(Number(element.dataset.since), clock.now()));
}

function refreshAges(): void {
  for (const element of document.querySelectorAll<HTMLElement>(".since[data-since]")) {
    refreshAge(element);
  }
}
