// How to go on air: from this browser, with ffmpeg, with OBS; with this server's real addresses.
import * as urls from "../urls";
import { copyButton, h } from "./dom";

const FFMPEG_OPTIONS =
  "-c:v libx264 -profile:v baseline -bf 0 -g 60 -preset veryfast -tune zerolatency -b:v 2500k " +
  "-pix_fmt yuv420p -c:a libopus -ar 48000 -ac 2 -b:a 128k";

/** The command that sends a test picture and a tone with ffmpeg 8 or newer. */
export function ffmpegCommand(endpoint: string): string {
  return (
    "ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine=frequency=440 " +
    `${FFMPEG_OPTIONS} -f whip ${endpoint}`
  );
}

function copyable(label: string, text: string): HTMLElement {
  const code = h("code", {}, text);
  return h(
    "div",
    { class: "copyable" },
    h("pre", { tabIndex: 0, aria: { label } }, code),
    copyButton("Copy", () => text),
  );
}

export function publishGuide(stream = "studio"): HTMLElement {
  const endpoint = urls.absolute(urls.whip(stream));
  return h(
    "div",
    { class: "ways" },
    h(
      "article",
      { class: "way" },
      h("h3", {}, "This browser"),
      h("p", {}, "Camera, microphone or screen; nothing to install."),
      h("a", { class: "button button-main", href: "/live" }, "Go live"),
    ),
    h(
      "article",
      { class: "way" },
      h("h3", {}, "ffmpeg"),
      h("p", {}, "Version 8 or newer. A test picture and a tone:"),
      copyable("ffmpeg command", ffmpegCommand(endpoint)),
    ),
    h(
      "article",
      { class: "way" },
      h("h3", {}, "OBS Studio"),
      h("p", {}, "Settings → Stream. Service: WHIP. Server:"),
      copyable("WHIP address", endpoint),
      h(
        "p",
        { class: "quiet" },
        "Bearer token: your key, or empty on your own machine. Output: x264, profile baseline, 0 B-frames, a key frame every 2 s.",
      ),
    ),
  );
}
