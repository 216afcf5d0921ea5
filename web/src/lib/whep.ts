// A WHEP player session (draft-ietf-wish-whep-03): one offer, one answer, one peer connection.
// It does not try again and does not touch a video element: `webrtc_player.ts` does both.
//
// The offer leaves at once, without waiting for candidates: a lite server never needs them, it learns
// our address from our checks. Candidates are still sent by PATCH when a server's answer shows that it
// is not lite.
import {
  askSession,
  candidateFragment,
  closeSession,
  openSession,
  type Session,
  type SignalOptions,
  sendCandidates,
} from "./session_http";

export interface WhepOptions extends SignalOptions {
  /** Servers to use from the start; those of the answer's Link header are added afterwards. */
  iceServers?: RTCIceServer[];
}

/** An open session: its peer connection, and how to end it. */
export class WhepSession {
  private closed = false;

  private constructor(
    readonly connection: RTCPeerConnection,
    private readonly session: Session,
    private readonly offer: string,
    private readonly options: WhepOptions,
  ) {}

  /**
   * Opens a session. Tracks arrive at `onTrack`, which is set before anything can arrive.
   * Raises RequestError: 401 or 403 key, 406 no common codec, 409 nobody publishes, 503 no room.
   */
  static async open(
    endpoint: string | URL,
    onTrack: (event: RTCTrackEvent) => void,
    options: WhepOptions = {},
  ): Promise<WhepSession> {
    const connection = new RTCPeerConnection({
      bundlePolicy: "max-bundle",
      iceServers: options.iceServers ?? [],
    });
    let session: Session | undefined;
    try {
      connection.addEventListener("track", onTrack);
      connection.addTransceiver("video", { direction: "recvonly" });
      connection.addTransceiver("audio", { direction: "recvonly" });
      const candidates: (RTCIceCandidate | null)[] = [];
      let trickle = (candidate: RTCIceCandidate | null): void => {
        candidates.push(candidate);
      };
      connection.addEventListener("icecandidate", (event) => trickle(event.candidate));
      const offer = stereo((await connection.createOffer()).sdp ?? "");
      // Both at once: gathering starts with setLocalDescription, and the offer is on its way.
      const local = connection.setLocalDescription({ type: "offer", sdp: offer });
      [session] = await Promise.all([openSession(endpoint, offer, options), local]);
      if (session.iceServers.length > 0) {
        connection.setConfiguration({ bundlePolicy: "max-bundle", iceServers: session.iceServers });
      }
      await connection.setRemoteDescription({ type: "answer", sdp: session.answer });
      const opened = session;
      if (!/^a=ice-lite\s*$/m.test(session.answer)) {
        trickle = (candidate) => {
          void sendCandidates(opened, candidateFragment(offer, candidate), options);
        };
        for (const candidate of candidates) trickle(candidate);
      }
      return new WhepSession(connection, session, offer, options);
    } catch (error) {
      connection.close();
      if (session) void closeSession(session, options);
      throw error;
    }
  }

  /** Whether the server still knows this session; to be asked when media has stopped. */
  ask(): Promise<"alive" | "gone" | "unknown"> {
    return askSession(this.session, this.offer, this.options);
  }

  /** Ends the session, here and at the server. Safe to call twice, and while the page goes away. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.connection.close();
    void closeSession(this.session, this.options);
  }
}

/** Asks for stereo Opus; browsers offer mono playback unless told. */
export function stereo(offer: string): string {
  const payload = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(offer)?.[1];
  if (payload === undefined) return offer;
  const line = new RegExp(`^(a=fmtp:${payload} )(?!.*\\bstereo=1)(.*?)(\\r?)$`, "m");
  return offer.replace(line, "$1$2;stereo=1$3");
}
