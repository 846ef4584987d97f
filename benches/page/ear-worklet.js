// Notes when each click is rendered at the microphone (input 0) and at the player (input 1), by the calendar's clock in
// ms: a worklet has no other one that the page's thread has too.

/* global AudioWorkletProcessor, registerProcessor, sampleRate */

const LOUD = 0.05; // of full scale
const QUIET_SECONDS = 0.2; // a click begins after so much silence

class Ear extends AudioWorkletProcessor {
  quiet = [Infinity, Infinity]; // samples

  process(inputs) {
    for (const [at, [samples]] of inputs.entries()) {
      for (const sample of samples ?? []) {
        if (Math.abs(sample) <= LOUD) this.quiet[at]++;
        else {
          if (this.quiet[at] > QUIET_SECONDS * sampleRate) this.port.postMessage({ at, time: Date.now() });
          this.quiet[at] = 0;
        }
      }
    }
    return true;
  }
}

registerProcessor('ear', Ear);
