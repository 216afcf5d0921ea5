// Where everything is, by stream name: the one place that spells paths.

/** What a stream may be called. */
export const STREAM_NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

export const whip = (stream: string): string => `/whip/${stream}`;
export const whep = (stream: string): string => `/whep/${stream}`;
export const playlist = (stream: string): string => `/hls/${stream}/index.m3u8`;
export const keyedPlaylist = (stream: string, key: string): string =>
  `/hls/~${key}/${stream}/index.m3u8`;
export const watch = (stream: string): string => `/watch/${stream}`;
export const embed = (stream: string): string => `/embed/${stream}`;

/** A path of this server as a whole address. */
export const absolute = (path: string): string => new URL(path, location.origin).href;

/** The stream's name in the address of a watch or embed page; undefined when it has none. */
export function streamOfPage(pathname: string): string | undefined {
  const last = pathname.split("/").filter(Boolean)[1] ?? "";
  return STREAM_NAME.test(last) ? last : undefined;
}
