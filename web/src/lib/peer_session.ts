// What WHIP and WHEP sessions share: one offer, one answer, one peer connection, and goodbye.
// What is sent or received is the caller's: it prepares the connection and may edit the offer.
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

export interface PeerOptions extends SignalOptions {
  /** Servers to use from the start; those of the answer's Link header are added afterwards. */
  iceServers?: RTCIceServer[];
}

/** What the two sides have agreed on. */
export interface Agreement {
  connection: RTCPeerConnection;
  session: Session;
  offer: string;
}

/**
 * Offers and takes the answer. `prepare` adds tracks or transceivers, `edit` changes the offer.
 * Raises RequestError for every answer but 201; the connection is closed then.
 */
export async function agree(
  endpoint: string | URL,
  options: PeerOptions,
  prepare: (connection: RTCPeerConnection) => void,
  edit: (offer: string) => string = (offer) => offer,
): Promise<Agreement> {
  const connection = new RTCPeerConnection({
    bundlePolicy: "max-bundle",
    iceServers: options.iceServers ?? [],
  });
  let session: Session | undefined;
  try {
    prepare(connection);
    const candidates: (RTCIceCandidate | null)[] = [];
    let trickle = (candidate: RTCIceCandidate | null): void => {
      candidates.push(candidate);
    };
    connection.addEventListener("icecandidate", (event) => trickle(event.candidate));
    const offer = edit((await connection.createOffer()).sdp ?? "");
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
    return { connection, session, offer };
  } catch (error) {
    connection.close();
    if (session) void closeSession(session, options);
    throw error;
  }
}

/** An open session: its peer connection, whether the server knows it, and how to end it. */
export class PeerSession {
  private closed = false;

  constructor(
    private readonly agreement: Agreement,
    private readonly options: PeerOptions,
  ) {}

  get connection(): RTCPeerConnection {
    return this.agreement.connection;
  }

  /** Whether the server still knows this session; to be asked when media has stopped. */
  ask(): Promise<"alive" | "gone" | "unknown"> {
    return askSession(this.agreement.session, this.agreement.offer, this.options);
  }

  /** Ends the session, here and at the server. Safe to call twice, and while the page goes away. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.connection.close();
    void closeSession(this.agreement.session, this.options);
  }
}
