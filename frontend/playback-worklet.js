// Plays the reply, 24 kHz PCM16 from the socket, at the device's rate.
//
// Replies arrive faster than they are spoken, so minutes of audio may wait. The queue is a linked list of the
// frames as they came, so it grows without copying. Nothing is dropped from it, but at a barge-in all of it is.

/* global AudioWorkletProcessor, registerProcessor, sampleRate, Resampler */

const WIRE_RATE_HZ = 24000;
const PREBUFFER_SAMPLES = 0.06 * WIRE_RATE_HZ; // rides out frames that come late; paid once per silence
const FADE_SAMPLES = 0.005 * WIRE_RATE_HZ; // a cut in mid-wave would click
const REPORT_SAMPLES = 0.05 * WIRE_RATE_HZ;
const MAX_QUEUED_SAMPLES = 30 * 60 * WIRE_RATE_HZ; // 86 MB: no reply is half an hour long

/** Samples waiting to be played, in order. */
class Queue {
  constructor() {
    this.clear();
  }

  clear() {
    this.head = this.tail = null;
    this.taken = 0; // samples already taken from the head
    this.length = 0;
  }

  /** @param {Int16Array} samples */
  push(samples) {
    if (samples.length === 0) return;
    const link = { samples, next: null };
    if (this.tail) this.tail.next = link;
    else this.head = link;
    this.tail = link;
    this.length += samples.length;
  }

  /** @param {Float32Array} out
   *  @param {number} count
   *  @returns {number} samples taken, fewer than count when the queue runs empty */
  take(out, count) {
    const n = Math.min(count, this.length);
    for (let i = 0; i < n; i++) {
      out[i] = this.head.samples[this.taken++] / 32768;
      if (this.taken === this.head.samples.length) this.#advance();
    }
    this.length -= n;
    return n;
  }

  #advance() {
    this.head = this.head.next;
    this.taken = 0;
    if (!this.head) this.tail = null;
  }
}

/** In: an ArrayBuffer of samples, 'reply' (what follows belongs to a new reply) or 'flush'.
 *  Out: { playing, ms, level } while it plays and once at the end; { flushed, ms }; { full }. */
class Playback extends AudioWorkletProcessor {
  constructor() {
    super();
    this.queue = new Queue();
    this.resampler = new Resampler(WIRE_RATE_HZ, sampleRate);
    this.input = new Float32Array(1024);
    this.playing = false;
    this.waited = 0; // samples of time since something came into the empty queue
    this.silent = Infinity; // samples of silence pushed into the resampler since the last sound
    this.played = 0; // of all replies, in samples
    this.replyStart = 0; // where the current reply begins, counted as in `played`
    this.sinceReport = 0;
    this.square = 0;
    this.port.onmessage = ({ data }) => this.#receive(data);
  }

  #receive(data) {
    if (data === 'flush') this.#flush();
    else if (data === 'reply') this.replyStart = this.played + this.queue.length;
    else if (this.queue.length > MAX_QUEUED_SAMPLES) this.port.postMessage({ full: true });
    else this.queue.push(new Int16Array(data, 0, data.byteLength >> 1));
  }

  process(_inputs, [[out]]) {
    this.#startOrWait(out.length);
    if (!this.playing && this.silent > 2 * this.resampler.half) return true; // the output is silence already
    const want = this.resampler.wanted(out.length);
    if (want > this.input.length) this.input = new Float32Array(2 * want);
    const got = this.playing ? this.queue.take(this.input, want) : 0;
    this.input.fill(0, got, want); // pushes out what the resampler still holds of a reply's end
    this.resampler.push(this.input, want);
    this.resampler.read(out);
    this.#count(got, want);
    return true;
  }

  /** Starts once the prebuffer is full, or once its time has passed: a short tail must be heard too. */
  #startOrWait(frames) {
    if (this.playing || this.queue.length === 0) return;
    this.waited += (frames * WIRE_RATE_HZ) / sampleRate;
    if (this.queue.length < PREBUFFER_SAMPLES && this.waited < PREBUFFER_SAMPLES) return;
    this.playing = true;
    this.sinceReport = REPORT_SAMPLES; // the page hears of the start at once
  }

  #count(got, want) {
    this.silent = got < want ? this.silent + want - got : 0;
    this.played += got;
    for (let i = 0; i < got; i++) this.square += this.input[i] ** 2;
    this.sinceReport += want;
    const ended = this.playing && this.queue.length === 0;
    if (ended) this.#rest();
    if (ended || (this.playing && this.sinceReport >= REPORT_SAMPLES)) this.#report();
  }

  #rest() {
    this.playing = false;
    this.waited = 0;
    this.silent = 0;
  }

  #report() {
    const level = this.playing ? Math.sqrt(this.square / this.sinceReport) : 0;
    this.port.postMessage({ playing: this.playing, ms: this.#heardMs(), level });
    this.sinceReport = this.square = 0;
  }

  #heardMs() {
    return Math.max(0, Math.round(((this.played - this.replyStart) * 1000) / WIRE_RATE_HZ));
  }

  #flush() {
    const ms = this.#heardMs();
    const fade = this.playing ? this.#fade() : null;
    this.queue.clear();
    if (fade) this.queue.push(fade);
    this.waited = 0;
    this.replyStart = Math.min(this.replyStart, this.played);
    this.port.postMessage({ flushed: true, ms });
  }

  #fade() {
    const out = new Float32Array(FADE_SAMPLES);
    const n = this.queue.take(out, FADE_SAMPLES);
    return Int16Array.from(out.subarray(0, n), (s, i) => s * 32768 * (1 - (i + 1) / n));
  }
}

registerProcessor('playback', Playback);
