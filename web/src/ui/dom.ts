// Building elements in a typed, short way, and the icons. No inline styles or handlers in markup:
// the pages run under a strict content security policy.

type Child = Node | string | undefined | false;
type Properties<E> = Partial<Omit<E, "style" | "dataset" | "children">> & {
  class?: string;
  data?: Record<string, string>;
  aria?: Record<string, string>;
  role?: string;
  on?: Record<string, (event: Event) => void>;
};

/** An element with properties, classes, data, aria attributes, listeners and children. */
export function h<K extends keyof HTMLElementTagNameMap>(
  tag: K,
  properties: Properties<HTMLElementTagNameMap[K]> = {},
  ...children: Child[]
): HTMLElementTagNameMap[K] {
  const element = document.createElement(tag);
  const { class: classes, data, aria, role, on, ...rest } = properties;
  if (classes) element.className = classes;
  if (role) element.setAttribute("role", role);
  for (const [name, value] of Object.entries(data ?? {})) element.dataset[name] = value;
  for (const [name, value] of Object.entries(aria ?? {}))
    element.setAttribute(`aria-${name}`, value);
  for (const [name, listener] of Object.entries(on ?? {})) element.addEventListener(name, listener);
  Object.assign(element, rest);
  element.append(...children.filter((child): child is Node | string => Boolean(child)));
  return element;
}

/** Sets the text only when it is another, so that screen readers and layout are left alone. */
export function setText(element: Element, text: string): void {
  if (element.textContent !== text) element.textContent = text;
}

/** The element with that id; the page is broken without it. */
export function byId<E extends HTMLElement = HTMLElement>(id: string): E {
  const element = document.getElementById(id);
  if (!element) throw new Error(`The page has no #${id}.`);
  return element as E;
}

const PATHS = {
  play: "M8 5.5v13l10.5-6.5z",
  pause: "M7 5h3.5v14H7zM13.5 5H17v14h-3.5z",
  sound: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM14.5 8.6a4.5 4.5 0 0 1 0 6.8M17 6a8 8 0 0 1 0 12",
  muted: "M4 9.5v5h3.5L12 18.5v-13L7.5 9.5zM15 9.5l5 5M20 9.5l-5 5",
  full: "M4.5 9V4.5H9M15 4.5h4.5V9M19.5 15v4.5H15M9 19.5H4.5V15",
  pip: "M3.5 5.5h17v13h-17zM12 12h6.5v4.5H12z",
  stats: "M5 19v-6M10 19V9M15 19v-8M20 19V5",
  copy: "M9 9h10.5v10.5H9zM5 15H4.5V4.5H15V5",
  check: "M5 12.5l4.5 4.5L19 7.5",
  help: "M9.2 9.2a2.8 2.8 0 1 1 4 2.6c-.8.4-1.2 1-1.2 1.9M12 17.2v.1",
  camera: "M3.5 7h11v10h-11zM14.5 11l6-3.5v9l-6-3.5",
  screen: "M3.5 5h17v11h-17zM9 19.5h6M12 16v3.5",
} as const;

export type IconName = keyof typeof PATHS;
const FILLED: ReadonlySet<IconName> = new Set(["play", "pause"]);

/** A decorative icon; its button carries the label. */
export function icon(name: IconName): SVGSVGElement {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const path = document.createElementNS(space, "path");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  svg.setAttribute("class", FILLED.has(name) ? "icon icon-filled" : "icon");
  path.setAttribute("d", PATHS[name]);
  svg.append(path);
  return svg;
}

/** A button with an icon and a name for those who do not see it. */
export function iconButton(name: IconName, label: string, act: () => void): HTMLButtonElement {
  return h(
    "button",
    { type: "button", class: "icon-button", title: label, aria: { label }, on: { click: act } },
    icon(name),
  );
}

/** Gives an icon button another face and name. */
export function reface(button: HTMLButtonElement, name: IconName, label: string): void {
  if (button.getAttribute("aria-label") === label) return;
  button.setAttribute("aria-label", label);
  button.title = label;
  button.replaceChildren(icon(name));
}

/** Copies text; falls back to a selection where the clipboard is not allowed. */
export async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = h("textarea", { value: text, class: "visually-hidden" });
    document.body.append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}

/** A button that copies what `text` gives at that moment and says so. */
export function copyButton(label: string, text: () => string): HTMLButtonElement {
  const words = h("span", {}, label);
  const button = h("button", { type: "button", class: "button button-quiet" }, icon("copy"), words);
  button.addEventListener("click", () => {
    void copyText(text()).then((done) => {
      setText(words, done ? "Copied" : "Press Ctrl+C");
      window.setTimeout(() => setText(words, label), 1800);
    });
  });
  words.setAttribute("aria-live", "polite");
  return button;
}
