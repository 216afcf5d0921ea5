// The key a person entered: kept for this tab alone (sessionStorage), never in a cookie or an
// address. `#key=…` in the address is taken over once and removed: the fragment never leaves the page.

const NAME = "nexus.key";

function storage(): Storage | undefined {
  try {
    return window.sessionStorage; // an embedding page may have no right to it
  } catch {
    return undefined;
  }
}

let held = storage()?.getItem(NAME) ?? "";

const fragment = new URLSearchParams(location.hash.slice(1)).get("key");
if (fragment) {
  setKey(fragment);
  history.replaceState(history.state, "", location.pathname + location.search);
}

/** The key, or empty. */
export function getKey(): string {
  return held;
}

export function setKey(key: string): void {
  held = key.trim();
  if (held) storage()?.setItem(NAME, held);
  else storage()?.removeItem(NAME);
}

/** The headers that show the key, if there is one. */
export function keyHeaders(): Record<string, string> {
  return held ? { Authorization: `Bearer ${held}` } : {};
}
