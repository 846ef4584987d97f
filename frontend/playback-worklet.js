// Plays the reply, 24 kHz PCM16 from the socket, at the device's rate. When each sample is due, jitter.js decides.

/* global AudioWorkletProcessor, registerProcessor, sampleRate, JitterBuffer, Resampler */

const WIRE_RATE_HZ = 24000;
const REPORT_SAMPLES = 0.05 * WIRE_RATE_HZ;
const SOFT = 0.25; // -12 dB
const TURN_SECONDS = 0.02; // from soft to loud, without a click
const MAX_QUEUED_SAMPLES = 30 * 60 * WIRE_RATE_HZ; // 86 MB: no reply is half an hour long

/** In: an ArrayBuffer of samples, 'reply' (what follows belongs to a new reply), 'end' (all of it has come), 'hold', 'resume',
 *  'flush', 'soft' or 'loud'.
 *  Out: { playing, ms, level } while it plays and once at the end; { flushed, ms }; { full }. */
class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.buffer = new JitterBuffer();
    this.resampler = new Resampler(WIRE_RATE_HZ, sampleRate);
    this.input = new Float32Array(1024);
    this.now = 0; // in samples, as this device counts them
    this.playing = false;
    this.silent = Infinity; // samples of silence pushed into the resampler since the last sound
    this.replyStart = 0; // where the current reply begins, in samples of all replies
    this.sinceReport = 0;
    this.square = 0;
    this.gain = this.wish = 1;
    this.port.onmessage = ({ data }) => this.#receive(data);
  }

  #receive(data) {
    if (data === 'flush') this.#flush();
    else if (data === 'reply') this.#reply();
    else if (data === 'end') this.buffer.end();
    else if (data === 'soft') this.wish = SOFT;
    else if (data === 'loud') this.wish = 1;
    else if (data === 'hold') this.buffer.hold();
    else if (data === 'resume') this.buffer.goOn(this.now);
    else if (this.buffer.waiting > MAX_QUEUED_SAMPLES) this.port.postMessage({ full: true });
    else this.buffer.push(new Int16Array(data, 0, data.byteLength >> 1), this.now);
  }

  process(_inputs, [[out]]) {
    const resting = ['idle', 'dry'].includes(this.buffer.state) && this.silent > 2 * this.resampler.half;
    const want = resting ? (out.length * WIRE_RATE_HZ) / sampleRate : this.resampler.wanted(out.length);
    if (!resting) this.#render(out, want);
    this.now += want;
    return true; // the output is silence already
  }

  #render(out, want) {
    if (want > this.input.length) this.input = new Float32Array(2 * want);
    this.buffer.take(this.input, want, this.now);
    this.resampler.push(this.input, want);
    this.resampler.read(out);
    if (this.gain !== 1 || this.wish !== 1) this.#soften(out);
    this.#count(want);
  }

  #soften(out) {
    const step = 1 / (TURN_SECONDS * sampleRate);
    for (let i = 0; i < out.length; i++) {
      this.gain += Math.max(-step, Math.min(step, this.wish - this.gain));
      out[i] *= this.gain;
    }
  }

  #count(want) {
    const { sounding, state } = this.buffer;
    this.silent = sounding || state === 'ending' ? 0 : this.silent + want;
    for (let i = 0; i < want; i++) this.square += this.input[i] ** 2;
    this.sinceReport += want;
    const changed = sounding !== this.playing;
    this.playing = sounding;
    if (changed || (sounding && this.sinceReport >= REPORT_SAMPLES)) this.#report();
  }

  #report() {
    const level = this.playing ? Math.sqrt(this.square / this.sinceReport) : 0;
    this.port.postMessage({ playing: this.playing, ms: this.#heardMs(), level });
    this.sinceReport = this.square = 0;
  }

  #heardMs() {
    return Math.max(0, Math.round(((this.buffer.played - this.replyStart) * 1000) / WIRE_RATE_HZ));
  }

  #reply() {
    this.buffer.begin();
    this.replyStart = this.buffer.arrived;
  }

  #flush() {
    const ms = this.#heardMs();
    this.buffer.flush();
    this.replyStart = Math.min(this.replyStart, this.buffer.played);
    this.port.postMessage({ flushed: true, ms });
  }
}

registerProcessor('playback', Playback);
