// Figures as people read them. English, short, and of steady width where they change often.

/** 84 ms, 1.12 s, or a dash. */
export function latency(ms: number | undefined): string {
  if (ms === undefined) return "–";
  return ms < 995 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(2)} s`;
}

/** 1.5 Mb/s, 480 kb/s, or a dash. */
export function bitRate(bitsPerSecond: number | undefined): string {
  if (bitsPerSecond === undefined || bitsPerSecond <= 0) return "–";
  if (bitsPerSecond < 1_000_000) return `${Math.round(bitsPerSecond / 1000)} kb/s`;
  return `${(bitsPerSecond / 1_000_000).toFixed(1)} Mb/s`;
}

/** How long ago, coarsely: 12 s, 5 min, 3 h 20 min, 2 d. */
export function age(sinceUnix: number, nowMs: number): string {
  const seconds = Math.max(0, Math.floor(nowMs / 1000 - sinceUnix));
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d`;
}

/** "1 viewer", "12 viewers". */
export function plural(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}

/** A number with a unit, or a dash. */
export function unit(value: number | undefined, name: string, digits = 0): string {
  return value === undefined || !Number.isFinite(value) ? "–" : `${value.toFixed(digits)} ${name}`;
}

/** H.264, Opus: names of codecs as people know them; RFC 6381 strings are understood. */
export function codec(name: string | undefined): string {
  if (!name) return "–";
  const known: [RegExp, string][] = [
    [/^(h264|avc1)/i, "H.264"],
    [/^(opus)/i, "Opus"],
    [/^(mp4a|aac)/i, "AAC"],
    [/^(av1|av01)/i, "AV1"],
    [/^(vp8|vp08)/i, "VP8"],
    [/^(vp9|vp09)/i, "VP9"],
  ];
  return known.find(([pattern]) => pattern.test(name))?.[1] ?? name;
}
