// A WHEP player session (draft-ietf-wish-whep-03): a peer connection that only receives.
// It does not try again and does not touch a video element: `webrtc_player.ts` does both.
import { agree, type PeerOptions, PeerSession } from "./peer_session";

export type WhepOptions = PeerOptions;

export class WhepSession extends PeerSession {
  /**
   * Opens a session. Tracks arrive at `onTrack`, which is set before anything can arrive.
   * Raises RequestError: 401 or 403 key, 406 no common codec, 409 nobody publishes, 503 no room.
   */
  static async open(
    endpoint: string | URL,
    onTrack: (event: RTCTrackEvent) => void,
    options: WhepOptions = {},
  ): Promise<WhepSession> {
    const prepare = (connection: RTCPeerConnection): void => {
      connection.addEventListener("track", onTrack);
      connection.addTransceiver("video", { direction: "recvonly" });
      connection.addTransceiver("audio", { direction: "recvonly" });
    };
    return new WhepSession(await agree(endpoint, options, prepare, stereo), options);
  }
}

/** Asks for stereo Opus; browsers offer mono playback unless told. */
export function stereo(offer: string): string {
  const payload = /^a=rtpmap:(\d+) opus\/48000\/2/im.exec(offer)?.[1];
  if (payload === undefined) return offer;
  const line = new RegExp(`^(a=fmtp:${payload} )(?!.*\\bstereo=1)(.*?)(\\r?)$`, "m");
  return offer.replace(line, "$1$2;stereo=1$3");
}
