// The way of the usual sample page, written anew and plainly, to compare with: a context at 24 kHz, the microphone
// opened once the socket stands, frames of 4,096 samples, and a queue that plays what it has and matches no rates.

const FRAME = 4096;
const WORKLETS = `
  registerProcessor('frames', class extends AudioWorkletProcessor {
    all = [];
    process([[samples]]) {
      if (samples) this.all.push(...samples);
      while (this.all.length >= ${FRAME}) this.port.postMessage(Int16Array.from(this.all.splice(0, ${FRAME}), (s) => Math.max(-1, Math.min(1, s)) * 32767));
      return true;
    }
  });
  registerProcessor('queue', class extends AudioWorkletProcessor {
    all = new Float32Array(0);
    constructor() {
      super();
      this.port.onmessage = ({ data }) => {
        const longer = new Float32Array(this.all.length + data.length);
        longer.set(this.all);
        longer.set(Float32Array.from(data, (s) => s / 32768), this.all.length);
        this.all = longer;
      };
    }
    process(_, [[out]]) {
      if (this.all.length < out.length) return true;
      out.set(this.all.subarray(0, out.length));
      this.all = this.all.slice(out.length);
      return true;
    }
  });`;

document.getElementById('talk').addEventListener('click', async () => {
  const context = new AudioContext({ sampleRate: 24000 });
  await context.audioWorklet.addModule(URL.createObjectURL(new Blob([WORKLETS], { type: 'text/javascript' })));
  const player = new AudioWorkletNode(context, 'queue', { numberOfInputs: 0, outputChannelCount: [1] });
  player.connect(context.destination);
  const socket = new WebSocket(new URLSearchParams(location.search).get('ws'));
  socket.binaryType = 'arraybuffer';
  socket.onmessage = ({ data }) => {
    if (data instanceof ArrayBuffer) player.port.postMessage(new Int16Array(data));
  };
  await new Promise((open) => (socket.onopen = open));
  const audio = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
  const stream = await navigator.mediaDevices.getUserMedia({ audio });
  const frames = new AudioWorkletNode(context, 'frames', { numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit' });
  frames.port.onmessage = ({ data }) => socket.send(data.buffer);
  context.createMediaStreamSource(stream).connect(frames);
});
