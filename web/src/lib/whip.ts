// A WHIP publisher session (RFC 9725): a peer connection that only sends.
// It does not choose devices, show anything or try again: the go-live page does.
import { agree, type PeerOptions, PeerSession } from "./peer_session";

export interface WhipOptions extends PeerOptions {
  /** Highest video bit rate, in bits a second. */
  videoBitsPerSecondMax?: number;
  /** What to give up first when the line or the machine is too slow. */
  degradation?: RTCDegradationPreference;
}

/** The order in which video codecs are offered; what is not named stays behind, in its own order. */
const CODEC_ORDER = ["video/h264", "video/vp8", "video/vp9", "video/av1"] as const;

/** A codec list with H.264 first, and of H.264 the constrained baseline profile first: it has HLS. */
export function preferred<T extends { mimeType: string; sdpFmtpLine?: string }>(codecs: T[]): T[] {
  const rank = (codec: T): number => {
    const place = CODEC_ORDER.indexOf(codec.mimeType.toLowerCase() as (typeof CODEC_ORDER)[number]);
    const baseline = /profile-level-id=42e0/i.test(codec.sdpFmtpLine ?? "") ? 0 : 0.2;
    const mode = /packetization-mode=1/.test(codec.sdpFmtpLine ?? "") ? 0 : 0.4;
    if (place === 0) return baseline + mode;
    return place === -1 ? CODEC_ORDER.length : place;
  };
  return codecs
    .map((codec, at) => ({ codec, at, rank: rank(codec) }))
    .sort((first, second) => first.rank - second.rank || first.at - second.at)
    .map((entry) => entry.codec);
}

export class WhipSession extends PeerSession {
  /**
   * Publishes the tracks of `media`. Raises RequestError: 401 or 403 key, 406 no common codec,
   * 409 somebody else is on air there, 503 no room.
   */
  static async open(
    endpoint: string | URL,
    media: MediaStream,
    options: WhipOptions = {},
  ): Promise<WhipSession> {
    const prepare = (connection: RTCPeerConnection): void => {
      for (const track of media.getTracks()) addTrack(connection, track, media, options);
    };
    return new WhipSession(await agree(endpoint, options, prepare), options);
  }

  /** Swaps a camera, a screen or a microphone. False when this session sends nothing of that kind. */
  async replace(track: MediaStreamTrack): Promise<boolean> {
    const kind = track.kind;
    const sender = this.connection
      .getTransceivers()
      .find(
        (item) => item.sender.track?.kind === kind || item.receiver.track.kind === kind,
      )?.sender;
    await sender?.replaceTrack(track);
    return sender !== undefined;
  }

  /** Changes the highest video bit rate while on air. */
  async limit(bitsPerSecond: number): Promise<void> {
    for (const sender of this.connection.getSenders()) {
      if (sender.track?.kind !== "video") continue;
      const parameters = sender.getParameters();
      for (const encoding of parameters.encodings) encoding.maxBitrate = bitsPerSecond;
      await sender.setParameters(parameters);
    }
  }
}

function addTrack(
  connection: RTCPeerConnection,
  track: MediaStreamTrack,
  media: MediaStream,
  options: WhipOptions,
): void {
  const video = track.kind === "video";
  const encoding: RTCRtpEncodingParameters = {};
  if (video && options.videoBitsPerSecondMax) encoding.maxBitrate = options.videoBitsPerSecondMax;
  const transceiver = connection.addTransceiver(track, {
    direction: "sendonly",
    streams: [media],
    sendEncodings: [encoding],
  });
  if (!video) return;
  const codecs = RTCRtpSender.getCapabilities?.("video")?.codecs;
  if (codecs) transceiver.setCodecPreferences?.(preferred(codecs));
  if (options.degradation) {
    const parameters = transceiver.sender.getParameters();
    parameters.degradationPreference = options.degradation;
    void transceiver.sender.setParameters(parameters).catch(() => undefined);
  }
}
