// The sound of one call: the context, the microphone and the two worklets. Knows nothing of sockets.

const SOUND_START_MS = 5000;
const MICROPHONE = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** @typedef {object} AudioEvents
 *  @property {(frame: ArrayBuffer) => void} frame 20 ms of microphone: 480 samples, PCM16, 24 kHz
 *  @property {(report: {playing?: boolean, flushed?: boolean, full?: boolean, ms: number, level: number}) => void} playback
 *    `ms` of the current reply heard so far, `level` 0 to 1
 *  @property {() => void} lost the microphone is gone
 *  @property {(paused: boolean) => void} paused the system took the sound away, or gave it back */

export class CallAudio {
  #events;
  #context;
  #stream;
  #nodes = []; // kept, as a node nobody refers to may be collected while it works
  #speaker;
  #early = []; // for the speaker, before its worklet is loaded
  #closed = false;
  #paused = false;

  /** @param {AudioEvents} events */
  constructor(events) {
    this.#events = events;
  }

  /** Call it in the click itself: a context made after any `await` stays silent on phones.
   *  @returns {Promise<void>} rejects with an error whose name words.js knows */
  async open() {
    if (navigator.audioSession) navigator.audioSession.type = 'play-and-record';
    // At the device's rate. A 24 kHz context loses Firefox's echo cancellation and may freeze its tab.
    this.#context = new AudioContext({ latencyHint: 'interactive' });
    this.#context.addEventListener('statechange', () => this.#onState());
    const running = this.#context.resume();
    running.catch(() => {}); // closed before it ran
    await Promise.all([this.#load(), this.#openMicrophone()]);
    if (!this.#closed) this.#connectMicrophone();
    // Counted from here, as a phone may hold the sound back while it asks for the microphone.
    if (!this.#closed) await within(SOUND_START_MS, running);
  }

  /** Plays samples after all that is queued. @param {ArrayBuffer} samples PCM16, 24 kHz */
  play(samples) {
    this.#tell(samples, [samples]);
  }

  /** What is played from here on belongs to a new reply. */
  startReply() {
    this.#tell('reply');
  }

  /** Silence at once; answered by a playback report with `flushed`. */
  flush() {
    this.#early = [];
    this.#tell('flush');
  }

  /** @param {boolean} on */
  mute(on) {
    for (const track of this.#stream?.getTracks() ?? []) track.enabled = !on;
  }

  /** After a hidden tab, a phone call, a locked screen. */
  resume() {
    if (this.#context && this.#context.state !== 'closed') this.#context.resume().catch(() => {});
  }

  close() {
    this.#closed = true;
    for (const track of this.#stream?.getTracks() ?? []) track.stop();
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
    if (!this.#closed) this.#connectSpeaker();
  }

  #connectSpeaker() {
    const node = new AudioWorkletNode(this.#context, 'playback', { numberOfInputs: 0, outputChannelCount: [1] });
    node.port.onmessage = ({ data }) => this.#closed || this.#events.playback(data);
    node.connect(this.#context.destination);
    this.#speaker = node.port;
    this.#nodes.push(node);
    for (const [message, transfer] of this.#early) node.port.postMessage(message, transfer);
    this.#early = [];
  }

  async #openMicrophone() {
    const stream = await navigator.mediaDevices.getUserMedia({ audio: MICROPHONE });
    this.#stream = stream;
    for (const track of stream.getTracks()) {
      track.addEventListener('ended', () => this.#closed || this.#events.lost());
      if (this.#closed) track.stop(); // the call ended while the browser was asking
    }
  }

  #connectMicrophone() {
    const source = this.#context.createMediaStreamSource(this.#stream);
    // Explicitly mono: Chromium gives two channels, whatever was asked, when its processing is off.
    const node = new AudioWorkletNode(this.#context, 'capture', { channelCount: 1, channelCountMode: 'explicit' });
    node.port.onmessage = ({ data }) => this.#closed || this.#events.frame(data);
    source.connect(node);
    node.connect(this.#context.destination); // writes nothing there; Safari leaves nodes that lead nowhere asleep
    this.#nodes.push(source, node);
  }

  #tell(message, transfer = []) {
    if (this.#speaker) this.#speaker.postMessage(message, transfer);
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
