// Turns the microphone's audio, at the device's rate, into frames for the socket: 20 ms of PCM16 at 24 kHz.

/* global AudioWorkletProcessor, registerProcessor, sampleRate, Resampler */

const WIRE_RATE_HZ = 24000;
const FRAME_SAMPLES = 480; // 20 ms: shorter frames arrive no sooner, as browsers run worklets in bursts
const SILENT_SECONDS = 4; // of one and the same sample, which no room gives

/** Posts one ArrayBuffer of 960 bytes for each frame. The buffer is transferred and does not come back.
 *
 *  Posts `null` for 20 ms without input. Firefox gives none while the microphone is muted, but the service must
 *  hear silence then.
 *
 *  Posts 'silent' once when there was nothing but zeros, or another constant, for a while, and 'heard' with the first
 *  sound after that. It looks at the samples before they are rounded: a quiet room may be zero in 16 bits. 'listen'
 *  begins anew. The first sound after it is told too, because a 'silent' may have been on its way. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, WIRE_RATE_HZ);
    this.scratch = new Float32Array(FRAME_SAMPLES);
    this.frame = new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
    this.heard = false; // something of this frame
    this.silence = null; // what stands for missing input, once there was any
    this.level = 0; // the last sample
    this.same = 0; // samples in a row that were like it
    this.told = true; // the page knows that there is sound
    this.port.onmessage = () => {
      this.same = 0;
      this.told = false;
    };
  }

  process([channels], [[out]]) {
    const samples = channels[0] ?? this.silence;
    if (!samples) return true; // not connected yet
    this.heard ||= channels.length > 0;
    this.#listen(samples);
    if (this.silence?.length !== out.length) this.silence = new Float32Array(out.length);
    this.resampler.push(samples);
    for (let n; (n = this.resampler.read(this.scratch)) > 0; ) this.#frame(n);
    return true;
  }

  #listen(samples) {
    const limit = SILENT_SECONDS * sampleRate;
    const sounds = samples.some((sample) => sample !== this.level);
    const before = this.same;
    this.same = sounds ? 0 : before + samples.length;
    this.level = samples[samples.length - 1];
    if (sounds && !this.told) this.#tell(true);
    if (before < limit && this.same >= limit) this.#tell(false);
  }

  #tell(heard) {
    this.told = heard;
    this.port.postMessage(heard ? 'heard' : 'silent');
  }

  #frame(count) {
    for (let i = 0; i < count; i++) {
      const s = Math.max(-1, Math.min(1, this.scratch[i]));
      this.frame[this.filled++] = Math.round(s * 32767); // every machine with a browser is little-endian
      if (this.filled === FRAME_SAMPLES) this.#post();
    }
  }

  #post() {
    this.filled = 0;
    if (!this.heard) return this.port.postMessage(null);
    this.heard = false;
    this.port.postMessage(this.frame.buffer, [this.frame.buffer]);
    this.frame = new Int16Array(FRAME_SAMPLES);
  }
}

registerProcessor('capture', Capture);
