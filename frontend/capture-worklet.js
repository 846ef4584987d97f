// Turns the microphone's audio, at the device's rate, into frames for the socket: about 20 ms of PCM16 at 24 kHz.

/* global AudioWorkletProcessor, registerProcessor, sampleRate, Resampler */

const WIRE_RATE_HZ = 24000;
const FRAME_SAMPLES = 480; // 20 ms
const LEAST_SAMPLES = 432; // 18 ms: of a frame that ends with a burst
const MOST_SAMPLES = 576; // 24 ms
const SILENT_SECONDS = 4; // of one and the same sample, which no room gives

/** Posts one ArrayBuffer for each frame. The buffer is transferred and does not come back.
 *
 *  Some browsers run worklets in bursts of 10 ms and more. A frame that ends early in a burst leaves no sooner than the
 *  burst's last sample, and what is left over waits for the next frame. So in these the page sends two ports that lead to
 *  each other: a message to ourselves comes when the burst is over, and the frame ends there.
 *
 *  Posts the length in bytes of a frame without input. Firefox gives none while the microphone is muted, but the service
 *  must hear silence then.
 *
 *  Posts 'silent' once when there was nothing but zeros, or another constant, for a while, and 'heard' with the first
 *  sound after that. It looks at the samples before they are rounded: a quiet room may be zero in 16 bits. 'listen'
 *  begins anew. The first sound after it is told too, because a 'silent' may have been on its way. */
class Capture extends AudioWorkletProcessor {
  constructor() {
    super();
    this.resampler = new Resampler(sampleRate, WIRE_RATE_HZ);
    this.scratch = new Float32Array(FRAME_SAMPLES);
    this.frame = new Int16Array(MOST_SAMPLES);
    this.filled = 0;
    this.most = FRAME_SAMPLES;
    this.bell = null; // rings when the burst is over
    this.rings = false; // before long
    this.heard = false; // something of this frame
    this.silence = null; // what stands for missing input, once there was any
    this.level = 0; // the last sample
    this.same = 0; // samples in a row that were like it
    this.told = true; // the page knows that there is sound
    this.port.onmessage = ({ data }) => {
      if (data !== 'listen') return this.#endWithBursts(data);
      this.same = 0;
      this.told = false;
    };
  }

  #endWithBursts(ports) {
    this.most = MOST_SAMPLES;
    [this.bell, this.ear] = ports;
    this.ear.onmessage = () => {
      this.rings = false;
      if (this.filled >= LEAST_SAMPLES) this.#post();
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
      if (this.filled === this.most) this.#post();
    }
    if (!this.bell || this.rings || this.filled < LEAST_SAMPLES) return;
    this.rings = true;
    this.bell.postMessage(null);
  }

  #post() {
    const { buffer } = this.frame.slice(0, this.filled);
    this.filled = 0;
    if (!this.heard) return this.port.postMessage(buffer.byteLength);
    this.heard = false;
    this.port.postMessage(buffer, [buffer]);
  }
}

registerProcessor('capture', Capture);
