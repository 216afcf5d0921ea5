// What a server said when it said no: RFC 9457 problems, Retry-After, and the network being away,
// as one error type. Deliberately decides nothing: whether to try again is the caller's business.

/** A request that did not succeed. `status` is 0 when there was no answer at all. */
export class RequestError extends Error {
  override readonly name = "RequestError";
  constructor(
    readonly status: number,
    message: string,
    /** Seconds the server asked us to wait, or undefined. */
    readonly retryAfterSeconds?: number,
  ) {
    super(message);
  }
}

/** Longest reason shown to a person, in characters. */
const REASON_CHARACTERS_MAX = 300;

/** Seconds from a Retry-After value (a number or an HTTP date), or undefined when it is neither. */
export function retryAfterSeconds(value: string | null, nowMs = Date.now()): number | undefined {
  if (value === null || value.trim() === "") return undefined;
  const seconds = Number(value);
  if (Number.isFinite(seconds)) return Math.max(0, seconds);
  const at = Date.parse(value);
  return Number.isNaN(at) ? undefined : Math.max(0, (at - nowMs) / 1000);
}

/** Reads the body of a refused request: the problem's detail, its title, or plain text. */
export async function toRequestError(response: Response): Promise<RequestError> {
  let reason = "";
  const text = await response.text().catch(() => "");
  if ((response.headers.get("content-type") ?? "").includes("json")) {
    try {
      const body = JSON.parse(text) as { detail?: unknown; title?: unknown };
      reason = [body.detail, body.title].find((part) => typeof part === "string") ?? "";
    } catch {
      reason = "";
    }
  } else if (!text.trimStart().startsWith("<")) {
    reason = text.trim();
  }
  return new RequestError(
    response.status,
    reason.slice(0, REASON_CHARACTERS_MAX) || `The server answered ${response.status}.`,
    retryAfterSeconds(response.headers.get("retry-after")),
  );
}

/** `fetch` that throws a RequestError instead of a TypeError when the server cannot be reached. */
export async function request(url: string | URL, init: RequestInit = {}): Promise<Response> {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new RequestError(0, "The server cannot be reached.");
  }
}
