// The keys of the player, in a dialog that any key-holder can open with "?".
import { h } from "./dom";

const KEYS: [string, string][] = [
  ["Space or K", "Play or pause"],
  ["M", "Sound on or off"],
  ["F", "Full screen"],
  ["P", "Picture in picture"],
  ["S", "Statistics"],
  ["W", "Play by WebRTC"],
  ["H", "Play by LL-HLS"],
  ["B", "Both, side by side"],
  ["?", "This list"],
];

export function helpDialog(): HTMLDialogElement {
  const list = h("dl", { class: "keys" });
  for (const [key, what] of KEYS) list.append(h("dt", {}, h("kbd", {}, key)), h("dd", {}, what));
  const close = h("button", { class: "button", type: "button" }, "Close");
  const dialog = h(
    "dialog",
    { class: "help", aria: { labelledby: "help-title" } },
    h("h2", { id: "help-title" }, "Keys"),
    list,
    close,
  );
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close();
  });
  return dialog;
}
