// The HTTP half that WHIP (RFC 9725) and WHEP (draft-ietf-wish-whep-03) share: offer out, answer in,
// the session's address, its ETag, its ICE servers, and goodbye. Knows nothing of peer connections.
import { request, toRequestError } from "./problem";

/** Longest answer we read, in characters; an SDP is a few thousand. */
const SDP_CHARACTERS_MAX = 262_144;
/** Longest wait for the answer whether a session is known, in milliseconds. */
const ASK_MS_MAX = 1500;

export interface SignalOptions {
  /** Bearer token, or empty. */
  key?: string;
  signal?: AbortSignal;
}

/** One session at the server. */
export interface Session {
  url: URL;
  etag: string;
  answer: string;
  iceServers: RTCIceServer[];
}

function authorization(key: string | undefined): Record<string, string> {
  return key ? { Authorization: `Bearer ${key}` } : {};
}

/** Splits a Link header at the commas between links, not at those inside <> or quotes. */
function splitLinks(value: string): string[] {
  return value.match(/<[^>]*>(?:[^,"]|"(?:[^"\\]|\\.)*")*/g) ?? [];
}

/** The STUN and TURN servers of a Link header's rel="ice-server" entries. */
export function iceServersFromLink(value: string | null): RTCIceServer[] {
  const servers: RTCIceServer[] = [];
  for (const link of splitLinks(value ?? "")) {
    const url = /^<([^>]*)>/.exec(link)?.[1];
    const parameters = new Map<string, string>();
    for (const [, name, quoted, token] of link.matchAll(
      /;\s*([\w-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;,]+))/g,
    )) {
      parameters.set((name ?? "").toLowerCase(), (quoted ?? token ?? "").replace(/\\(.)/g, "$1"));
    }
    if (!url || parameters.get("rel") !== "ice-server") continue;
    const server: RTCIceServer = { urls: url };
    const username = parameters.get("username");
    const credential = parameters.get("credential");
    if (username !== undefined) server.username = username;
    if (credential !== undefined) server.credential = credential;
    servers.push(server);
  }
  return servers;
}

/** POSTs an offer. Raises RequestError for every answer but 201. */
export async function openSession(
  endpoint: string | URL,
  offer: string,
  options: SignalOptions,
): Promise<Session> {
  const response = await request(endpoint, {
    method: "POST",
    headers: { "Content-Type": "application/sdp", ...authorization(options.key) },
    body: offer,
    ...(options.signal ? { signal: options.signal } : {}),
  });
  if (response.status !== 201) throw await toRequestError(response);
  const location = response.headers.get("location");
  const answer = (await response.text()).slice(0, SDP_CHARACTERS_MAX);
  return {
    url: new URL(location ?? "", response.url || new URL(endpoint, document.baseURI)),
    etag: response.headers.get("etag") ?? "",
    answer,
    iceServers: iceServersFromLink(response.headers.get("link")),
  };
}

/** Tells the server of our candidates (RFC 8840). Never raises: a lite server learns from checks. */
export async function sendCandidates(
  session: Session,
  fragment: string,
  options: SignalOptions,
): Promise<boolean> {
  try {
    const response = await request(session.url, {
      method: "PATCH",
      headers: {
        "Content-Type": "application/trickle-ice-sdpfrag",
        ...(session.etag ? { "If-Match": session.etag } : {}),
        ...authorization(options.key),
      },
      body: fragment,
      ...(options.signal ? { signal: options.signal } : {}),
    });
    return response.ok;
  } catch {
    return false;
  }
}

/**
 * Whether the server still knows the session: asked when media has stopped. The question is a trickle
 * fragment that says nothing new. "unknown": no answer, or a server without PATCH.
 */
export async function askSession(
  session: Session,
  offer: string,
  options: SignalOptions,
): Promise<"alive" | "gone" | "unknown"> {
  try {
    const response = await request(session.url, {
      method: "PATCH",
      headers: {
        "Content-Type": "application/trickle-ice-sdpfrag",
        "If-Match": session.etag || "*",
        ...authorization(options.key),
      },
      body: candidateFragment(offer, null),
      signal: AbortSignal.timeout(ASK_MS_MAX),
    });
    if (response.ok) return "alive";
    return response.status === 404 || response.status === 410 ? "gone" : "unknown";
  } catch {
    return "unknown";
  }
}

/** DELETEs the session; outlives the page (keepalive). Never raises: the server forgets by itself. */
export async function closeSession(session: Session, options: SignalOptions): Promise<void> {
  try {
    await fetch(session.url, {
      method: "DELETE",
      headers: authorization(options.key),
      keepalive: true,
    });
  } catch {
    // The page may be gone, or the server: nothing is left to do.
  }
}

/** A trickle fragment with one candidate, or with the end of them, for an offer that was sent. */
export function candidateFragment(offer: string, candidate: RTCIceCandidate | null): string {
  const ufrag = /^a=ice-ufrag:(\S+)/m.exec(offer)?.[1] ?? "";
  const password = /^a=ice-pwd:(\S+)/m.exec(offer)?.[1] ?? "";
  const media = /^m=.*$/m.exec(offer)?.[0].trim() ?? "m=audio 9 RTP/AVP 0";
  const mid = /^a=mid:(\S+)/m.exec(offer)?.[1] ?? "0";
  const line = candidate ? `a=${candidate.candidate}` : "a=end-of-candidates";
  return [
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${password}`,
    media,
    `a=mid:${candidate?.sdpMid ?? mid}`,
    line,
    "",
  ].join("\r\n");
}
