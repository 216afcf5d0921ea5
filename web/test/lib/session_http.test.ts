import { afterEach, expect, test, vi } from "vitest";
import { RequestError, retryAfterSeconds, toRequestError } from "../../src/lib/problem";
import {
  candidateFragment,
  closeSession,
  iceServersFromLink,
  openSession,
} from "../../src/lib/session_http";

afterEach(() => vi.unstubAllGlobals());

const OFFER = [
  "v=0",
  "m=video 9 UDP/TLS/RTP/SAVPF 96",
  "a=ice-ufrag:abcd",
  "a=ice-pwd:0123456789012345678901",
  "a=mid:0",
  "",
].join("\r\n");

test("ICE servers are read from a Link header, with commas and quotes inside", () => {
  const header =
    '<stun:stun.example.org>; rel="ice-server", ' +
    '<turn:turn.example.org?transport=udp>; rel="ice-server"; username="a,b"; ' +
    'credential="c\\"d"; credential-type="password", <https://example.org>; rel="help"';
  expect(iceServersFromLink(header)).toEqual([
    { urls: "stun:stun.example.org" },
    { urls: "turn:turn.example.org?transport=udp", username: "a,b", credential: 'c"d' },
  ]);
  expect(iceServersFromLink(null)).toEqual([]);
});

test("an offer is posted with the key and the session's address is absolute", async () => {
  const fetched = vi.fn(async (_url: string | URL, _init: RequestInit) => {
    return new Response("v=0\r\n", {
      status: 201,
      headers: { Location: "/whep/demo/s1", ETag: '"7"' },
    });
  });
  vi.stubGlobal("fetch", fetched);
  const session = await openSession("http://media.test/whep/demo", OFFER, { key: "k3y" });
  expect(session.url.href).toBe("http://media.test/whep/demo/s1");
  expect(session.etag).toBe('"7"');
  expect(session.answer).toBe("v=0\r\n");
  const init = fetched.mock.calls[0]?.[1];
  expect(init?.method).toBe("POST");
  expect(init?.headers).toEqual({
    "Content-Type": "application/sdp",
    Authorization: "Bearer k3y",
  });
});

test("a refusal carries its status, its reason and when to come back", async () => {
  const body = JSON.stringify({ title: "Conflict", detail: "nobody publishes demo" });
  const headers = { "Content-Type": "application/problem+json", "Retry-After": "2" };
  vi.stubGlobal("fetch", async () => new Response(body, { status: 409, headers }));
  const refusal = await openSession("http://media.test/whep/demo", OFFER, {}).catch((e) => e);
  expect(refusal).toBeInstanceOf(RequestError);
  expect(refusal).toMatchObject({
    status: 409,
    message: "nobody publishes demo",
    retryAfterSeconds: 2,
  });
});

test("a server that cannot be reached is status 0", async () => {
  vi.stubGlobal("fetch", async () => {
    throw new TypeError("network");
  });
  const refusal = await openSession("http://media.test/whep/demo", OFFER, {}).catch((e) => e);
  expect(refusal).toMatchObject({ status: 0, message: "The server cannot be reached." });
});

test("goodbye outlives the page and never raises", async () => {
  const fetched = vi.fn(async () => {
    throw new TypeError("gone");
  });
  vi.stubGlobal("fetch", fetched);
  const url = new URL("http://media.test/whep/demo/s1");
  await closeSession({ url, etag: "", answer: "", iceServers: [] }, { key: "k" });
  expect(fetched).toHaveBeenCalledWith(
    url,
    expect.objectContaining({ method: "DELETE", keepalive: true }),
  );
});

test("a trickle fragment names the offer's credentials and the candidate", () => {
  const candidate = {
    candidate: "candidate:1 1 udp 1 192.0.2.1 5000 typ host",
    sdpMid: "0",
  } as RTCIceCandidate;
  const fragment = candidateFragment(OFFER, candidate);
  expect(fragment).toContain("a=ice-ufrag:abcd\r\na=ice-pwd:0123456789012345678901\r\n");
  expect(fragment).toContain("m=video 9 UDP/TLS/RTP/SAVPF 96\r\na=mid:0\r\n");
  expect(fragment).toContain("a=candidate:1 1 udp 1 192.0.2.1 5000 typ host\r\n");
  expect(candidateFragment(OFFER, null)).toContain("a=end-of-candidates");
});

test("Retry-After is seconds or a date", () => {
  const now = Date.parse("2026-01-01T00:00:00Z");
  expect(retryAfterSeconds("3", now)).toBe(3);
  expect(retryAfterSeconds("Thu, 01 Jan 2026 00:00:05 GMT", now)).toBe(5);
  expect(retryAfterSeconds("soon", now)).toBeUndefined();
  expect(retryAfterSeconds(null, now)).toBeUndefined();
});

test("a page of HTML is not shown as a reason", async () => {
  const error = await toRequestError(new Response("<html>…", { status: 502 }));
  expect(error.message).toBe("The server answered 502.");
});
