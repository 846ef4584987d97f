// A kiosk (`?kiosk`): a call begins by one tap anywhere, or by a voice, and ends by silence. No settings are shown.
// `?kiosk&wake=8` begins a call when the room is louder than 8 % of full scale, `&silence=30` ends it after 30 s. The
// sound of the room is only measured here: nothing of it leaves the page before a call.

const SILENCE_SECONDS = 20;
const MOST_SECONDS = 600;
const LOOK_MS = 100;
const LOUD_LOOKS = 2; // in a row: a door that slams is over before
const TALK = 0.02; // a level of the microphone from which on somebody speaks

/** @typedef {{wake: number, silence: number}} Wish `wake` 0 for a tap alone, else 0 to 1; `silence` in seconds */

/** @param {string} query of the page's address @returns {Wish|null} null if it is no kiosk */
export function wishOf(query) {
  const given = new URLSearchParams(query);
  if (!given.has('kiosk')) return null;
  const number = (name, most, usual) => {
    const value = Number(given.get(name) || NaN);
    return value > 0 && value <= most ? value : usual;
  };
  return { wake: number('wake', 100, 0) / 100, silence: number('silence', MOST_SECONDS, SILENCE_SECONDS) };
}

export class Kiosk {
  #wish;
  #start;
  #stop;
  #since = 0; // when somebody spoke last
  #calling = false;
  #called = false; // in this page: its microphone was allowed
  #stream = null; // of the microphone that waits for a voice
  #timer = 0;
  #asks = 0; // for the microphone: only the last one counts

  /** @param {Wish} wish @param {() => void} start a call @param {() => void} stop it */
  constructor(wish, start, stop) {
    this.#wish = wish;
    this.#start = start;
    this.#stop = stop;
    document.body.classList.add('kiosk');
    document.addEventListener('click', ({ target }) => this.#calling || target.closest('button, a, input') || start());
    this.rest();
  }

  /** Whether a voice can begin a call. */
  get wakes() {
    return this.#wish.wake > 0;
  }

  /** A call has begun. */
  begin() {
    this.#deafen();
    this.#calling = this.#called = true;
    this.#spoken();
    this.#timer = setInterval(() => this.#look(), 1000);
  }

  /** @param {string} state of the call: whatever is not listening is no silence */
  state(state) {
    if (state !== 'listening') this.#spoken();
  }

  /** @param {number} level of the microphone in the call */
  heard(level) {
    if (level > TALK) this.#spoken();
  }

  /** There is no call. */
  rest() {
    this.#deafen();
    this.#calling = false;
    if (this.wakes) this.#listen();
  }

  #spoken() {
    this.#since = performance.now();
  }

  #look() {
    if (performance.now() - this.#since > this.#wish.silence * 1000) this.#stop();
  }

  /** Only where the microphone is allowed already: a question out of nowhere would be refused. */
  async #listen() {
    const ask = ++this.#asks;
    const allowed = await navigator.permissions?.query({ name: 'microphone' }).catch(() => null);
    if (!this.#called && allowed?.state !== 'granted') return;
    const stream = await navigator.mediaDevices?.getUserMedia({ audio: true }).catch(() => null);
    if (!stream) return;
    if (ask !== this.#asks) return stop(stream);
    const context = new AudioContext();
    context.resume().catch(() => {});
    const meter = new AnalyserNode(context, { fftSize: 2048 });
    const source = context.createMediaStreamSource(stream);
    source.connect(meter);
    this.#stream = { tracks: stream, context, source };
    const samples = new Float32Array(meter.fftSize);
    let loud = 0;
    this.#timer = setInterval(() => {
      meter.getFloatTimeDomainData(samples);
      loud = Math.hypot(...samples) / Math.sqrt(samples.length) > this.#wish.wake ? loud + 1 : 0;
      if (loud >= LOUD_LOOKS) this.#start();
    }, LOOK_MS);
  }

  #deafen() {
    this.#asks++;
    clearInterval(this.#timer);
    if (!this.#stream) return;
    stop(this.#stream.tracks);
    this.#stream.context.close().catch(() => {});
    this.#stream = null;
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) track.stop();
}
