// How loud the microphone is, drawn as a bar: level and the peak of the last second and a half.

const FLOOR_DB = -60;
const PEAK_MS = 1500;
/** Screen readers are told at most this often. */
const TELL_MS = 1000;

/** The loudness of samples in decibels below full scale, not below the floor. */
export function decibels(samples: Float32Array): number {
  let sum = 0;
  for (const sample of samples) sum += sample * sample;
  const rms = Math.sqrt(sum / Math.max(1, samples.length));
  return Math.max(FLOOR_DB, 20 * Math.log10(rms || 1e-9));
}

/** Words for a level: what a person needs to know of it. */
export function levelWords(level: number): string {
  if (level <= -55) return "silent";
  if (level < -38) return "quiet";
  if (level < -9) return "good";
  return "too loud";
}

export class Meter {
  private context: AudioContext | undefined;
  private analyser: AnalyserNode | undefined;
  private source: MediaStreamAudioSourceNode | undefined;
  private samples = new Float32Array(1024);
  private peak = { level: FLOOR_DB, atMs: 0 };
  private toldMs = 0;
  private frame = 0;

  constructor(
    private readonly element: HTMLElement,
    private readonly level: HTMLElement,
    private readonly mark: HTMLElement,
  ) {}

  /** Shows the sound of this stream; undefined: none. */
  async show(media: MediaStream | undefined): Promise<void> {
    this.source?.disconnect();
    this.source = undefined;
    cancelAnimationFrame(this.frame);
    this.draw(FLOOR_DB, 0);
    if (!media || media.getAudioTracks().length === 0) return;
    this.context ??= new AudioContext({ latencyHint: "interactive" });
    this.analyser ??= new AnalyserNode(this.context, { fftSize: 1024 });
    this.source = this.context.createMediaStreamSource(media);
    this.source.connect(this.analyser);
    if (this.context.state === "suspended") {
      // Needs a touch or a key in some browsers: it starts with the first.
      const resume = (): void => void this.context?.resume();
      window.addEventListener("pointerdown", resume, { once: true });
      window.addEventListener("keydown", resume, { once: true });
      void this.context.resume();
    }
    const step = (nowMs: number): void => {
      this.frame = requestAnimationFrame(step);
      this.analyser?.getFloatTimeDomainData(this.samples);
      this.draw(decibels(this.samples), nowMs);
    };
    this.frame = requestAnimationFrame(step);
  }

  private draw(level: number, nowMs: number): void {
    if (level >= this.peak.level || nowMs - this.peak.atMs > PEAK_MS) {
      this.peak = { level, atMs: nowMs };
    }
    const share = (value: number): number => 1 - value / FLOOR_DB;
    this.level.style.transform = `scaleX(${share(level).toFixed(3)})`;
    this.mark.style.left = `${(share(this.peak.level) * 100).toFixed(1)}%`;
    this.element.classList.toggle("loud", this.peak.level > -6);
    if (nowMs - this.toldMs < TELL_MS && nowMs > 0) return;
    this.toldMs = nowMs;
    this.element.setAttribute("aria-valuenow", this.peak.level.toFixed(0));
    this.element.setAttribute("aria-valuetext", levelWords(this.peak.level));
  }
}
