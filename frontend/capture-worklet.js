// Turns the microphone's audio, at the device's rate, into frames for the socket: 20 ms of PCM16 at 24 kHz.

/* global AudioWorkletProcessor, registerProcessor, sampleRate, Resampler */

const WIRE_RATE_HZ = 24000;
const FRAME_SAMPLES = 480; // 20 ms: shorter frames arrive no sooner, as browsers run worklets in bursts

/** Posts one ArrayBuffer of 960 bytes for each frame. The buffer is transferred and does not come back.
 *
 *  Posts `null` for 20 ms without input. Firefox gives none while the microphone is muted, but the service must
 *  hear silence then. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, WIRE_RATE_HZ);
    this.scratch = new Float32Array(FRAME_SAMPLES);
    this.frame = new Int16Array(FRAME_SAMPLES);
    this.filled = 0;
    this.heard = false; // something of this frame
    this.silence = null; // what stands for missing input, once there was any
  }

  process([channels], [[out]]) {
    const samples = channels[0] ?? this.silence;
    if (!samples) return true; // not connected yet
    this.heard ||= channels.length > 0;
    if (this.silence?.length !== out.length) this.silence = new Float32Array(out.length);
    this.resampler.push(samples);
    for (let n; (n = this.resampler.read(this.scratch)) > 0; ) this.#frame(n);
    return true;
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
