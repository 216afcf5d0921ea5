// Cameras, microphones and screens: which there are, how to open one, and, in words a person can act
// on, why one cannot be opened.

export interface Wishes {
  source: "camera" | "screen" | "none";
  cameraId: string;
  microphoneId: string;
  width: number;
  height: number;
  framesPerSecond: number;
}

/** No microphone at all. */
export const SILENT = "none";

/** Why this page can have no devices, or empty. */
export function obstacle(): string {
  if (!window.isSecureContext) {
    return "Browsers give cameras and microphones to HTTPS pages only (and to localhost). Open this page by https://, or on the machine itself.";
  }
  if (!navigator.mediaDevices) return "This browser gives pages no cameras.";
  return "";
}

/** A refusal of the browser, in words. */
export function words(error: unknown): string {
  const name = error instanceof DOMException ? error.name : "";
  if (name === "NotAllowedError") {
    return "The browser was not allowed to use it. Allow the camera and microphone for this page, then choose again.";
  }
  if (name === "NotFoundError") return "No such device is connected.";
  if (name === "NotReadableError") return "The device is in use by another program.";
  if (name === "OverconstrainedError") return "The device cannot do that size or rate.";
  return error instanceof Error ? error.message : String(error);
}

function videoConstraints(wishes: Wishes): MediaTrackConstraints {
  return {
    width: { ideal: wishes.width },
    height: { ideal: wishes.height },
    frameRate: { ideal: wishes.framesPerSecond },
  };
}

/** The picture that was asked for; undefined for none. */
export async function openPicture(wishes: Wishes): Promise<MediaStream | undefined> {
  if (wishes.source === "none") return undefined;
  if (wishes.source === "screen") {
    return navigator.mediaDevices.getDisplayMedia({
      video: { frameRate: { ideal: wishes.framesPerSecond } },
      audio: false,
    });
  }
  const device = wishes.cameraId ? { deviceId: { exact: wishes.cameraId } } : {};
  return navigator.mediaDevices.getUserMedia({ video: { ...videoConstraints(wishes), ...device } });
}

export async function openMicrophone(wishes: Wishes): Promise<MediaStream | undefined> {
  if (wishes.microphoneId === SILENT) return undefined;
  const device = wishes.microphoneId ? { deviceId: { exact: wishes.microphoneId } } : {};
  return navigator.mediaDevices.getUserMedia({
    audio: { ...device, echoCancellation: true, noiseSuppression: true, autoGainControl: true },
  });
}

/** Fills a list with the devices of a kind; keeps the choice. True when the choice is still there. */
export function fill(
  select: HTMLSelectElement,
  devices: MediaDeviceInfo[],
  kind: "videoinput" | "audioinput",
): boolean {
  const chosen = select.value;
  const options = devices
    .filter((device) => device.kind === kind)
    .map((device, place) => {
      const option = document.createElement("option");
      option.value = device.deviceId;
      option.textContent =
        device.label || `${kind === "videoinput" ? "Camera" : "Microphone"} ${place + 1}`;
      return option;
    });
  if (kind === "audioinput") {
    const none = document.createElement("option");
    none.value = SILENT;
    none.textContent = "None";
    options.push(none);
  }
  if (options.length === 0) {
    const none = document.createElement("option");
    none.value = "";
    none.textContent = "No camera found";
    options.push(none);
  }
  select.replaceChildren(...options);
  const still = options.some((option) => option.value === chosen);
  if (still) select.value = chosen;
  return still || chosen === "";
}
