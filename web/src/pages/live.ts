// /live : go on air from this browser by WHIP. Camera or screen, microphone, preview, level, size and
// bit rate; then what leaves, and where it can be watched.
import type { Exposed } from "../expose";
import { getKey, setKey } from "../key";
import { Publisher } from "../lib/publisher";
import {
  fill,
  obstacle,
  openMicrophone,
  openPicture,
  SILENT,
  type Wishes,
  words,
} from "../live/devices";
import { Meter } from "../live/meter";
import { byId, copyButton, h, setText } from "../ui/dom";
import { age, bitRate, codec, unit } from "../ui/format";
import * as urls from "../urls";

const form = byId<HTMLFormElement>("form");
const camera = byId<HTMLSelectElement>("camera");
const microphone = byId<HTMLSelectElement>("microphone");
const size = byId<HTMLSelectElement>("size");
const rate = byId<HTMLSelectElement>("rate");
const bitrate = byId<HTMLInputElement>("bitrate");
const name = byId<HTMLInputElement>("stream");
const key = byId<HTMLInputElement>("key");
const go = byId<HTMLButtonElement>("go");
const preview = h("video", {
  muted: true,
  autoplay: true,
  playsInline: true,
  aria: { label: "Preview" },
});
const blank = h("p", { class: "preview-blank" }, "Waiting for the camera…");
const tally = h("span", { class: "tally", hidden: true }, "On air");
const meter = new Meter(byId("meter"), byId("meter-level"), byId("meter-peak"));

let picture: MediaStream | undefined;
let sound: MediaStream | undefined;
let publisher: Publisher | undefined;
/** Which request for devices is the newest: an older one that comes late is thrown away. */
const newest = { picture: 0, sound: 0 };

async function begin(): Promise<void> {
  byId("preview").append(preview, blank, tally);
  key.value = getKey();
  const asked = new URLSearchParams(location.search).get("stream") ?? "";
  if (urls.STREAM_NAME.test(asked)) name.value = asked;
  showRate();
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    if (publisher) leave();
    else enter();
  });
  window.addEventListener("beforeunload", (event) => {
    if (publisher && publisher.state !== "failed") event.preventDefault();
  });
  window.addEventListener("pagehide", () => publisher?.stop());
  const fault = obstacle();
  if (fault) {
    notice(fault);
    setText(blank, "No camera here.");
    for (const field of form.querySelectorAll("input, select")) field.setAttribute("disabled", "");
    return;
  }
  byId("source").addEventListener("change", () => void choose("picture"));
  camera.addEventListener("change", () => void choose("picture"));
  size.addEventListener("change", () => void choose("picture"));
  rate.addEventListener("change", () => void choose("picture"));
  microphone.addEventListener("change", () => void choose("sound"));
  bitrate.addEventListener("input", showRate);
  bitrate.addEventListener("change", () => void publisher?.limit(bitsPerSecond()));
  navigator.mediaDevices.addEventListener("devicechange", () => void devicesChanged());
  await choose("picture");
  await choose("sound");
  await listDevices();
}

function wishes(): Wishes {
  const [width, height] = size.value.split("x").map(Number);
  const source = new FormData(form).get("source");
  return {
    source: source === "screen" || source === "none" ? source : "camera",
    cameraId: camera.value,
    microphoneId: microphone.value,
    width: width ?? 1280,
    height: height ?? 720,
    framesPerSecond: Number(rate.value),
  };
}

function bitsPerSecond(): number {
  return Number(bitrate.value) * 1000;
}

function showRate(): void {
  setText(byId("bitrate-shown"), bitRate(bitsPerSecond()));
}

function notice(text: string): void {
  setText(byId("notice"), text);
  byId("notice").hidden = text === "";
}

async function listDevices(): Promise<{ camera: boolean; microphone: boolean }> {
  const devices = await navigator.mediaDevices.enumerateDevices();
  const still = {
    camera: fill(camera, devices, "videoinput"),
    microphone: fill(microphone, devices, "audioinput"),
  };
  const chosen = (media: MediaStream | undefined): string =>
    media?.getTracks()[0]?.getSettings().deviceId ?? "";
  const cameraId = chosen(picture);
  if ([...camera.options].some((option) => option.value === cameraId)) camera.value = cameraId;
  const microphoneId = sound ? chosen(sound) : SILENT;
  if ([...microphone.options].some((option) => option.value === microphoneId)) {
    microphone.value = microphoneId;
  }
  return still;
}

async function devicesChanged(): Promise<void> {
  const still = await listDevices();
  const gone = (media: MediaStream | undefined): boolean =>
    media?.getTracks().every((track) => track.readyState === "ended") ?? false;
  if (!still.camera || gone(picture)) await choose("picture");
  if (!still.microphone || gone(sound)) await choose("sound");
}

/** Opens what the form says, shows it, and sends it if we are on air. */
async function choose(what: "picture" | "sound"): Promise<void> {
  const wanted = wishes();
  const mine = ++newest[what];
  byId("camera-field").hidden = wanted.source !== "camera";
  try {
    const media = what === "picture" ? await openPicture(wanted) : await openMicrophone(wanted);
    if (mine !== newest[what]) return stopAll(media);
    notice("");
    if (what === "picture") showPicture(media, wanted);
    else await showSound(media);
  } catch (error) {
    const device =
      what === "sound" ? "Microphone" : wanted.source === "screen" ? "Screen" : "Camera";
    notice(`${device}: ${words(error)}`);
    if (what === "picture") showPicture(undefined, wanted);
    else await showSound(undefined);
  }
  ready();
}

function stopAll(media: MediaStream | undefined): void {
  for (const track of media?.getTracks() ?? []) track.stop();
}

function showPicture(media: MediaStream | undefined, wanted: Wishes): void {
  const track = media?.getVideoTracks()[0];
  if (track) {
    track.contentHint = wanted.source === "screen" ? "detail" : "motion";
    track.addEventListener("ended", () => {
      if (picture === media) showPicture(undefined, wanted);
    });
    void publisher?.replace(track);
  }
  stopAll(picture);
  picture = media;
  preview.srcObject = media ?? null;
  preview.classList.toggle("mirrored", wanted.source === "camera");
  blank.hidden = media !== undefined;
  setText(blank, wanted.source === "none" ? "Sound only." : "No picture.");
  ready();
}

async function showSound(media: MediaStream | undefined): Promise<void> {
  const track = media?.getAudioTracks()[0];
  if (track) await publisher?.replace(track);
  stopAll(sound);
  sound = media;
  await meter.show(media);
}

function ready(): void {
  go.disabled = !publisher && !picture && !sound;
}

// -- on air ------------------------------------------------------------------------------------

function enter(): void {
  if (!form.reportValidity()) return;
  setKey(key.value);
  const media = new MediaStream([
    ...(picture?.getVideoTracks() ?? []),
    ...(sound?.getAudioTracks() ?? []),
  ]);
  publisher = new Publisher(urls.absolute(urls.whip(name.value)), media, {
    key: key.value.trim(),
    videoBitsPerSecondMax: bitsPerSecond(),
    degradation: wishes().source === "screen" ? "maintain-resolution" : "balanced",
  });
  publisher.addEventListener("change", showState);
  publisher.addEventListener("sample", showFigures);
  const exposed: Exposed = { players: {}, stats: () => ({}), publisher };
  window.nexus = exposed;
  notice("");
  lock(true);
  showAfter();
  publisher.start();
}

function leave(): void {
  publisher?.stop();
  publisher = undefined;
  lock(false);
  showState();
}

function lock(on: boolean): void {
  for (const field of [name, key]) field.disabled = on;
  setText(go, on ? "Stop" : "Go live");
  go.classList.toggle("button-stop", on);
}

function showState(): void {
  const state = publisher?.state ?? "idle";
  const said = {
    idle: "",
    connecting: "Connecting…",
    live: "You are on air.",
    retrying: `Connection lost, trying again. ${publisher?.reason ?? ""}`,
    failed: "",
  };
  setText(byId("said"), said[state]);
  tally.hidden = state !== "live";
  byId("preview").classList.toggle("on-air", state === "live");
  byId("figures").hidden = state === "idle" || state === "failed";
  byId("after").hidden = state === "idle" || state === "failed";
  if (state === "failed" && publisher) {
    notice(refusal(publisher));
    publisher = undefined;
    lock(false);
  }
}

function refusal(of: Publisher): string {
  if (of.status === 401) return "This server asks for a key, or yours is wrong.";
  if (of.status === 403) return `This key may not publish here. ${of.reason}`;
  if (of.status === 409) return `Somebody else is on air as “${name.value}”. ${of.reason}`;
  return of.reason;
}

const FIGURES: [string, (of: Publisher) => string][] = [
  ["On air", (of) => (of.state === "live" ? age(of.liveSinceMs / 1000, Date.now()) : "–")],
  ["Sending", (of) => bitRate(of.stats.bitsPerSecond)],
  ["Picture", (of) => (of.stats.width ? `${of.stats.width} × ${of.stats.height}` : "–")],
  ["Frames", (of) => unit(of.stats.framesPerSecond, "fps")],
  ["Codec", (of) => codec(of.stats.codec)],
  ["Round trip", (of) => unit(of.stats.roundTripMs, "ms")],
  ["Lost", (of) => unit(of.stats.lostPercent, "%", 1)],
  [
    "Held back by",
    (of) => ({ bandwidth: "the line", cpu: "this machine" })[of.stats.limitedBy ?? ""] ?? "nothing",
  ],
];

function showFigures(): void {
  const parent = byId("figures");
  if (parent.childElementCount === 0) {
    for (const [label] of FIGURES) {
      parent.append(h("div", {}, h("span", { class: "quiet" }, label), h("strong", {}, "–")));
    }
  }
  FIGURES.forEach(([, value], place) => {
    const cell = parent.children[place]?.lastElementChild;
    if (cell && publisher) setText(cell, value(publisher));
  });
}

function showAfter(): void {
  const path = urls.watch(name.value);
  byId("after").replaceChildren(
    h("a", { href: path, target: "_blank", rel: "noopener" }, urls.absolute(path)),
    copyButton("Copy link", () => urls.absolute(path)),
  );
  byId("figures").replaceChildren();
  showFigures();
}

void begin();
