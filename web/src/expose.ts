// `window.nexus`: what a page lets tests and curious people read. Read only; nothing is controlled here.
import type { PlayerStats } from "./lib/player";
import type { Kind } from "./ui/player_view";
import type { PlayerFigures, Stage } from "./ui/stage";

export interface Exposed {
  readonly players: Partial<Record<Kind, PlayerFigures>>;
  stats(): Partial<Record<Kind, PlayerStats>>;
  publisher?: unknown;
}

declare global {
  interface Window {
    nexus?: Exposed;
  }
}

/** Shows the players of whatever stage is up. */
export function expose(stage: () => Stage | undefined): void {
  window.nexus = {
    get players() {
      return stage()?.players ?? {};
    },
    stats() {
      const views = stage()?.views ?? [];
      return Object.fromEntries(views.map((view) => [view.options.kind, view.player.stats]));
    },
  };
}
