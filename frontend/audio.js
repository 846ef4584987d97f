// The sound of one call: the microphone, the loudspeaker and the two worklets in an audio context. It knows
// nothing of sockets.

import { SoundContext } from './context.js';
import { find, listDevices } from './devices.js';
import { Microphone } from './microphone.js';
import { Outlet, outputSeconds } from './outlet.js';

const SOUND_START_MS = 5000;
const QUANTUM_FRAMES = 128; // that worklets get at once
const DEAF_MS = 4000; // a microphone without any frame for so long, not even silence, is gone
const MAX_EARLY_BYTES = 60 * 48000; // a minute of the reply before its worklet is loaded; what comes then is lost

/** @typedef {object} AudioEvents
 *  @property {(frame: ArrayBuffer) => void} frame about 20 ms of microphone, PCM16, 24 kHz
 *  @property {(report: {playing?: boolean, flushed?: boolean, full?: boolean, ms: number, level: number}) => void} playback
 *    `ms` of the current reply heard so far, `level` 0 to 1
 *  @property {(why: import('./microphone.js').Loss|null) => void} lost the microphone is gone; null: one is there again
 *  @property {(name: string|null) => void} silent the microphone of this name gives no sound at all; null: it does
 *  @property {(paused: boolean) => void} paused the system took the sound away, or gave it back
 *  @property {(on: boolean) => void} misaimed the chosen loudspeaker cannot be used, so the system's choice plays */

export class CallAudio {
  #events;
  /** @type {SoundContext} */
  #context;
  #microphone;
  #outlet;
  #loudspeaker = null; // the one that the user chose
  #stream; // of the open microphone
  #source;
  #capture;
  #playback; // kept here, because a node without a reference may be collected while it works
  #early = []; // for the loudspeaker, before its worklet is loaded
  #earlyBytes = 0;
  #heardMs = 0; // of the current reply, as the last report says
  #soft = false;
  #closed = false;
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
      lost: (why) => events.lost(why),
      silenced: (on) => (on ? this.#onSilence() : this.#listenAnew()),
    });
  }

  /** Call it in the click itself: a context made after any `await` stays silent on phones.
   *  @param {import('./choices.js').Choices} choices
   *  @param {boolean} [untouched] nobody has clicked yet, so the browser may hold the sound back
   *  @returns {Promise<void>} rejects with an error whose name words.js knows */
  async open({ microphone, loudspeaker }, untouched = false) {
    if (navigator.audioSession) navigator.audioSession.type = 'play-and-record';
    this.#context = new SoundContext({
      paused: (paused) => this.#events.paused(paused),
      renewed: () => this.#onRenewed(),
    });
    this.#outlet = new Outlet(this.#context.audio);
    const running = this.#context.start();
    this.#watch = setInterval(() => this.#notice(), DEAF_MS / 2);
    await Promise.all([this.#load(), this.#microphone.open(microphone)]);
    // Only now, because browsers name loudspeakers only to pages that may use the microphone.
    if (!this.#closed && loudspeaker) this.useLoudspeaker(loudspeaker);
    if (!this.#closed) navigator.mediaDevices.addEventListener('devicechange', this.#onDevices);
    if (untouched) return this.#context.announce();
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

  /** From a sample's turn to the loudspeaker, as the browser says. */
  get outputMs() {
    return outputSeconds(this.#context.audio) * 1000;
  }

  /** Plays samples after all that is queued. @param {ArrayBuffer} samples PCM16, 24 kHz */
  play(samples) {
    this.#tell(samples, [samples]);
  }

  /** What is played from here on belongs to a new reply. */
  startReply() {
    this.#tell('reply');
  }

  /** All of the reply has come. When it has been played, nothing is missing. */
  endReply() {
    this.#tell('end');
  }

  /** Stops playing at once, and keeps what waits until `goOn` or `flush`. */
  hold() {
    this.#tell('hold');
  }

  /** Plays more softly, or as usual. @param {boolean} on */
  soften(on) {
    if (on !== this.#soft) this.#tell(on ? 'soft' : 'loud');
    this.#soft = on;
  }

  /** Plays on, with the last 200 ms once more. */
  goOn() {
    this.#tell('resume');
  }

  /** Stops playing at once. A playback report with `flushed` follows. */
  flush() {
    this.#early = [];
    this.#earlyBytes = 0;
    this.#tell('flush');
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    this.#frameAt = performance.now();
    this.#microphone.mute(on);
    this.#listenAnew();
  }

  /** After a hidden tab, a phone call, a locked screen. @param {boolean} touched the user has touched the page */
  resume(touched) {
    this.#context?.resume(touched);
    if (!touched) this.#microphone.retry(); // each key would be too often
  }

  close() {
    this.#closed = true;
    clearInterval(this.#watch);
    navigator.mediaDevices.removeEventListener('devicechange', this.#onDevices);
    this.#microphone.close();
    this.#outlet?.close();
    this.#context?.close();
    if (navigator.audioSession) navigator.audioSession.type = 'auto';
  }

  /** @returns {Promise<void>} for the context of now: another may have taken its place at the end */
  async #load() {
    const context = this.#context.audio;
    try {
      for (const file of ['resampler.js', 'jitter.js', 'capture-worklet.js', 'playback-worklet.js']) {
        await context.audioWorklet.addModule(file);
      }
    } catch (cause) {
      throw Object.assign(new Error('worklet', { cause }), { name: 'WorkletError' });
    }
    if (this.#closed || context !== this.#context.audio) return;
    this.#connectLoudspeaker(context);
    this.#connectCapture(context);
  }

  #connectLoudspeaker(context) {
    const node = new AudioWorkletNode(context, 'playback', { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.#closed || node !== this.#playback || this.#onPlayback(data);
    this.#outlet.connect(node);
    this.#playback = node;
    for (const [message, transfer] of this.#early) node.port.postMessage(message, transfer);
    this.#early = [];
    this.#earlyBytes = 0;
  }

  #onPlayback(report) {
    this.#heardMs = report.ms ?? this.#heardMs;
    this.#events.playback(report);
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

  #connectCapture(context) {
    // Explicitly mono: Chromium gives two channels, whatever was asked, when its processing is off.
    const node = new AudioWorkletNode(context, 'capture', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => this.#closed || node !== this.#capture || this.#onCapture(data);
    node.connect(context.destination); // writes nothing there; Safari leaves nodes that lead nowhere asleep
    if (context.baseLatency * context.sampleRate > QUANTUM_FRAMES) endWithBursts(node.port);
    this.#capture = node;
    this.#source?.connect(node);
  }

  /** Takes the place of the one before only when all of it works. May throw, as Firefox does with some headsets. */
  #onMicrophone(stream) {
    const source = this.#context.audio.createMediaStreamSource(stream);
    if (this.#capture) source.connect(this.#capture);
    this.#source?.disconnect();
    this.#source = source;
    this.#stream = stream;
    this.#frameAt = performance.now();
    this.#listenAnew();
    this.#events.lost(null);
  }

  /** @param {ArrayBuffer|number|'silent'|'heard'} data a frame, its bytes when there was no input, or what the worklet found */
  #onCapture(data) {
    if (data === 'silent') return this.#onSilence();
    if (data === 'heard') return this.#events.silent(null);
    if (typeof data === 'number') return this.#events.frame(new ArrayBuffer(data));
    this.#frameAt = performance.now();
    this.#patience = DEAF_MS;
    this.#events.frame(data);
  }

  /** The microphone gives nothing but zeros or another constant, which no room does. */
  #onSilence() {
    if (!this.#muted) this.#events.silent(this.#stream?.getTracks()[0]?.label ?? '');
  }

  /** Another microphone, or one that the user has unmuted: the search for sound begins anew. */
  #listenAnew() {
    this.#events.silent(null);
    this.#capture?.port.postMessage('listen');
    if (this.#stream?.getTracks()[0]?.muted) this.#onSilence(); // the system has muted it already
  }

  /** Some browsers do not report an unplugged microphone. Its frames just stop. */
  #notice() {
    const running = this.#context.running && document.visibilityState === 'visible';
    if (!running || this.#muted || !this.#capture) this.#frameAt = performance.now(); // nothing need come now
    if (performance.now() - this.#frameAt < this.#patience) return;
    this.#frameAt = performance.now();
    this.#patience *= 2; // opening another does not help every time
    this.#microphone.lost();
  }

  #tell(message, transfer = []) {
    if (this.#playback) return this.#playback.port.postMessage(message, transfer);
    this.#earlyBytes += message.byteLength ?? 1;
    if (this.#earlyBytes > MAX_EARLY_BYTES) return this.#events.playback({ full: true, ms: 0, level: 0 });
    this.#early.push([message, transfer]);
  }

  /** Another context. What waited in the old one is lost with it, and counts as played to its end. */
  #onRenewed() {
    if (this.#playback) this.#events.playback({ playing: false, ms: this.#heardMs, level: 0 });
    this.#playback = this.#capture = this.#source = undefined;
    this.#soft = false;
    this.#frameAt = performance.now();
    this.#outlet.close();
    this.#outlet = new Outlet(this.#context.audio);
    this.#listenAnew(); // the new worklet knows nothing of what the old one has told
    try {
      if (this.#stream) this.#source = this.#context.audio.createMediaStreamSource(this.#stream);
    } catch {
      this.#microphone.lost(); // it is opened anew
    }
    this.#load().catch(() => this.#events.paused(true)); // the daemon has just gone, or the context has again
    if (this.#loudspeaker) this.#aim();
  }
}

/** The browser runs worklets in bursts, so frames end with these: see capture-worklet.js. Firefox does not say so, and
 *  its worklets hear themselves too late: the way took longer there (docs/performance.md). */
function endWithBursts(port) {
  const { port1, port2 } = new MessageChannel();
  port.postMessage([port1, port2], [port1, port2]);
}

/** Firefox without a sound server never settles `resume()`, not even with an error. */
function within(ms, promise) {
  const late = new Promise((_, reject) => {
    setTimeout(() => reject(Object.assign(new Error('no sound'), { name: 'SoundError' })), ms);
  });
  return Promise.race([promise, late]);
}
