// The sound of one call: the audio context, the microphone, the loudspeaker and the two worklets. It knows
// nothing of sockets.

import { find, listDevices } from './devices.js';
import { Microphone } from './microphone.js';
import { Outlet } from './outlet.js';

const SOUND_START_MS = 5000;
const FRAME_BYTES = 960;
const DEAF_MS = 4000; // a microphone without any frame for so long, not even silence, is gone

/** @typedef {object} AudioEvents
 *  @property {(frame: ArrayBuffer) => void} frame 20 ms of microphone: 480 samples, PCM16, 24 kHz
 *  @property {(report: {playing?: boolean, flushed?: boolean, full?: boolean, ms: number, level: number}) => void} playback
 *    `ms` of the current reply heard so far, `level` 0 to 1
 *  @property {(lost: boolean) => void} lost the microphone is gone, or one is there again
 *  @property {(paused: boolean) => void} paused the system took the sound away, or gave it back
 *  @property {(on: boolean) => void} misaimed the chosen loudspeaker cannot be used, so the system's choice plays */

export class CallAudio {
  #events;
  #context;
  #microphone;
  #outlet;
  #loudspeaker = null; // the one that the user chose
  #source; // of the open microphone
  #capture;
  #playback; // kept here, because a node without a reference may be collected while it works
  #early = []; // for the loudspeaker, before its worklet is loaded
  #closed = false;
  #paused = false;
  #muted = false;
  #frameAt = Infinity; // when the last frame came, once a microphone is open
  #patience = DEAF_MS;
  #watch = 0;
  #onDevices = () => this.#aim();

  /** @param {AudioEvents} events */
  constructor(events) {
    this.#events = events;
    this.#microphone = new Microphone({
      open: (stream) => this.#onMicrophone(stream),
      lost: () => events.lost(true),
    });
  }

  /** Call it in the click itself: a context made after any `await` stays silent on phones.
   *  @param {import('./choices.js').Choices} choices
   *  @returns {Promise<void>} rejects with an error whose name words.js knows */
  async open({ microphone, loudspeaker }) {
    if (navigator.audioSession) navigator.audioSession.type = 'play-and-record';
    // At the device's rate. A 24 kHz context loses Firefox's echo cancellation and may freeze its tab.
    this.#context = new AudioContext({ latencyHint: 'interactive' });
    this.#context.addEventListener('statechange', () => this.#onState());
    this.#outlet = new Outlet(this.#context);
    const running = this.#context.resume();
    running.catch(() => {}); // closed before it ran
    this.#watch = setInterval(() => this.#notice(), DEAF_MS / 2);
    await Promise.all([this.#load(), this.#microphone.open(microphone)]);
    // Only now, because browsers name loudspeakers only to pages that may use the microphone.
    if (!this.#closed && loudspeaker) this.useLoudspeaker(loudspeaker);
    if (!this.#closed) navigator.mediaDevices.addEventListener('devicechange', this.#onDevices);
    // The time counts from here, because a phone may hold the sound back while it asks for the microphone.
    if (!this.#closed) await within(SOUND_START_MS, running);
  }

  /** @param {import('./choices.js').Device|null} wish
   *  @returns {Promise<void>} rejects when it cannot be opened; the one before stays */
  useMicrophone(wish) {
    return this.#microphone.change(wish);
  }

  /** @param {import('./choices.js').Device|null} wish */
  useLoudspeaker(wish) {
    this.#loudspeaker = wish;
    return this.#aim();
  }

  /** Plays samples after all that is queued. @param {ArrayBuffer} samples PCM16, 24 kHz */
  play(samples) {
    this.#tell(samples, [samples]);
  }

  /** What is played from here on belongs to a new reply. */
  startReply() {
    this.#tell('reply');
  }

  /** Stops playing at once. A playback report with `flushed` follows. */
  flush() {
    this.#early = [];
    this.#tell('flush');
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    this.#frameAt = performance.now();
    this.#microphone.mute(on);
  }

  /** After a hidden tab, a phone call, a locked screen. */
  resume() {
    if (this.#context && this.#context.state !== 'closed') this.#context.resume().catch(() => {});
  }

  close() {
    this.#closed = true;
    clearInterval(this.#watch);
    navigator.mediaDevices.removeEventListener('devicechange', this.#onDevices);
    this.#microphone.close();
    this.#outlet?.close();
    if (this.#context && this.#context.state !== 'closed') this.#context.close().catch(() => {});
    if (navigator.audioSession) navigator.audioSession.type = 'auto';
  }

  async #load() {
    try {
      for (const file of ['resampler.js', 'capture-worklet.js', 'playback-worklet.js']) {
        await this.#context.audioWorklet.addModule(file);
      }
    } catch (cause) {
      throw Object.assign(new Error('worklet', { cause }), { name: 'WorkletError' });
    }
    if (this.#closed) return;
    this.#connectLoudspeaker();
    this.#connectCapture();
  }

  #connectLoudspeaker() {
    const node = new AudioWorkletNode(this.#context, 'playback', { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.#closed || this.#events.playback(data);
    this.#outlet.connect(node);
    this.#playback = node;
    for (const [message, transfer] of this.#early) node.port.postMessage(message, transfer);
    this.#early = [];
  }

  /** Called again when devices come and go, because the chosen one may be among them. */
  async #aim() {
    const wish = this.#loudspeaker;
    const meant = wish ? find(await listDevices('audiooutput'), wish)?.deviceId : '';
    const use = (id) => this.#outlet.use(id).then(() => true, () => false);
    if (this.#closed || wish !== this.#loudspeaker) return;
    const aimed = meant !== undefined && (await use(meant));
    if (!aimed) await use('');
    if (!this.#closed) this.#events.misaimed(!aimed);
  }

  #connectCapture() {
    // Explicitly mono: Chromium gives two channels, whatever was asked, when its processing is off.
    const node = new AudioWorkletNode(this.#context, 'capture', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => this.#closed || this.#onFrame(data);
    node.connect(this.#context.destination); // writes nothing there; Safari leaves nodes that lead nowhere asleep
    this.#capture = node;
    this.#source?.connect(node);
  }

  #onMicrophone(stream) {
    this.#source?.disconnect();
    this.#source = this.#context.createMediaStreamSource(stream);
    if (this.#capture) this.#source.connect(this.#capture);
    this.#frameAt = performance.now();
    this.#events.lost(false);
  }

  /** @param {ArrayBuffer|null} frame null when there was no input */
  #onFrame(frame) {
    if (frame) this.#frameAt = performance.now();
    if (frame) this.#patience = DEAF_MS;
    this.#events.frame(frame ?? new ArrayBuffer(FRAME_BYTES));
  }

  /** Some browsers do not report an unplugged microphone. Its frames just stop. */
  #notice() {
    const running = this.#context.state === 'running' && document.visibilityState === 'visible';
    if (!running || this.#muted || !this.#capture) this.#frameAt = performance.now(); // nothing need come now
    if (performance.now() - this.#frameAt < this.#patience) return;
    this.#frameAt = performance.now();
    this.#patience *= 2; // opening another does not help every time
    this.#microphone.lost();
  }

  #tell(message, transfer = []) {
    if (this.#playback) this.#playback.port.postMessage(message, transfer);
    else this.#early.push([message, transfer]);
  }

  #onState() {
    if (this.#closed) return;
    const paused = this.#context.state !== 'running';
    if (paused && document.visibilityState === 'visible') this.resume();
    if (paused !== this.#paused) this.#events.paused(paused);
    this.#paused = paused;
  }
}

/** Firefox without a sound server never settles `resume()`, not even with an error. */
function within(ms, promise) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(Object.assign(new Error('no sound'), { name: 'SoundError' })), ms);
  });
  return Promise.race([promise, late]);
}
