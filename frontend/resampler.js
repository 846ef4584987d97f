// Changes the sample rate of a stream, block by block, without a seam between blocks.
//
// A windowed sinc, tabled for 256 places between two input samples. The two processors find it as a global.

const ZERO_CROSSINGS = 16; // half as many would let 13 kHz alias back at -25 dB
const PHASES = 256;
const ROLL_OFF = 0.92; // of the narrower side's bandwidth; the rest is the filter's slope
const SPARE_SAMPLES = 4096; // room for several render quanta before old input is moved out

/** @param {number} t distance from the output sample, in input samples
 *  @param {number} cutoff share of the input's bandwidth that passes
 *  @param {number} half reach of the kernel, in input samples */
function kernel(t, cutoff, half) {
  if (Math.abs(t) >= half) return 0;
  const x = Math.PI * cutoff * t;
  const u = Math.PI * (t / half + 1);
  const blackman = 0.42 - 0.5 * Math.cos(u) + 0.08 * Math.cos(2 * u);
  return (x === 0 ? 1 : Math.sin(x) / x) * blackman;
}

/** One row of weights per phase, each summing to one so that no phase is louder than another. */
function weights(cutoff, half) {
  const taps = 2 * half;
  const table = new Float32Array((PHASES + 1) * taps);
  for (let phase = 0; phase <= PHASES; phase++) {
    const row = table.subarray(phase * taps, (phase + 1) * taps);
    let sum = 0;
    for (let k = 0; k < taps; k++) sum += row[k] = kernel(k - half + 1 - phase / PHASES, cutoff, half);
    for (let k = 0; k < taps; k++) row[k] /= sum;
  }
  return table;
}

/** A streaming sample-rate converter. Push input, read output; its delay is half the kernel (about 0.7 ms). */
class Resampler {
  /** @param {number} from input rate in Hz
   *  @param {number} to output rate in Hz */
  constructor(from, to) {
    const cutoff = Math.min(1, to / from) * ROLL_OFF;
    this.half = Math.ceil(ZERO_CROSSINGS / cutoff);
    this.table = weights(cutoff, this.half);
    this.step = from / to; // input samples per output sample
    this.input = new Float32Array(2 * this.half + SPARE_SAMPLES);
    this.filled = this.half - 1; // silence before the first sample, so that it gets its full weight
    this.place = this.half - 1; // of the next output sample, in this.input; not a whole number
  }

  /** @param {number} count output samples
   *  @returns {number} input samples to push before that many can be read */
  wanted(count) {
    const last = Math.floor(this.place + (count - 1) * this.step);
    return Math.max(0, last + this.half + 1 - this.filled);
  }

  /** @param {Float32Array} samples
   *  @param {number} [count] how many of them to take */
  push(samples, count = samples.length) {
    if (this.filled + count > this.input.length) this.#makeRoom(count);
    for (let i = 0; i < count; i++) this.input[this.filled + i] = samples[i];
    this.filled += count;
  }

  /** @param {Float32Array} out
   *  @returns {number} samples written, fewer than out.length when the input does not reach */
  read(out) {
    let n = 0;
    while (n < out.length && Math.floor(this.place) + this.half < this.filled) {
      out[n++] = this.#sample();
      this.place += this.step;
    }
    return n;
  }

  #sample() {
    const taps = 2 * this.half;
    const at = Math.floor(this.place);
    const exact = (this.place - at) * PHASES;
    const phase = Math.floor(exact);
    const share = exact - phase;
    const first = at - this.half + 1;
    const near = this.#weigh(first, phase * taps, taps);
    if (share === 0) return near; // always so between 24 and 48 kHz: half the work
    return near + share * (this.#weigh(first, (phase + 1) * taps, taps) - near);
  }

  #weigh(first, row, taps) {
    let sum = 0;
    for (let k = 0; k < taps; k++) sum += this.input[first + k] * this.table[row + k];
    return sum;
  }

  #makeRoom(count) {
    const old = Math.floor(this.place) - this.half + 1;
    const keep = this.filled - old;
    const from = this.input;
    if (keep + count > from.length) this.input = new Float32Array(2 * (keep + count));
    this.input.set(from.subarray(old, this.filled));
    this.filled = keep;
    this.place -= old;
  }
}

globalThis.Resampler = Resampler;
