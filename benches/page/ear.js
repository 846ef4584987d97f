// Runs in a page before its own scripts. It listens at the microphone and at the player, in the page's own audio
// context, and notes when a loud frame leaves and when one comes.
//
// One node records three channels: the microphone, the player and the context's clock, as a ramp that grows by one in
// a second. So each recorded sample knows its time, and a block that a busy browser leaves out does no harm.
//
// The samples' clock is not that of the page's thread. So a worklet (ear-worklet.js) tells besides when each click was
// rendered, by the clock that both have.
{
  const BLOCK = 16384;
  const LOUD = 0.05; // of full scale
  const QUIET_MS = 200; // a click begins after so much silence
  const ear = { blocks: [], sent: [], got: [], rendered: [[], []], rate: 0 };
  window.ear = ear;

  const connect = AudioNode.prototype.connect;
  const heads = new WeakMap();
  const heard = new WeakSet(); // microphones

  function recorder(context) {
    if (heads.has(context)) return heads.get(context);
    const merger = new ChannelMergerNode(context, { numberOfInputs: 3 });
    const tape = context.createScriptProcessor(BLOCK, 3, 1);
    tape.onaudioprocess = ({ inputBuffer }) => ear.blocks.push([0, 1, 2].map((channel) => inputBuffer.getChannelData(channel).slice()));
    const clock = new ConstantSourceNode(context, { offset: 0 });
    clock.offset.setValueAtTime(0, 0);
    clock.offset.linearRampToValueAtTime(3600, 3600);
    clock.start();
    connect.call(clock, merger, 0, 2);
    connect.call(merger, tape);
    connect.call(tape, context.destination);
    ear.context = context;
    ear.rate = context.sampleRate;
    ear.keep = [tape, clock]; // a node without a reference may be collected
    heads.set(context, merger);
    return merger;
  }

  /** Chromium asks no test for a worklet's file, and Firefox takes no worklet that the page's policy forbids. */
  function load({ audioWorklet }) {
    const own = URL.createObjectURL(new Blob([ear.worklet], { type: 'text/javascript' }));
    return audioWorklet.addModule(own).catch(() => audioWorklet.addModule('/ear-worklet.js'));
  }

  /** @param {AudioNode} node @param {number} at 0 for the microphone, 1 for the player */
  async function watch(node, at) {
    const { context } = node;
    context.ear ??= load(context).then(() => {
      const worklet = new AudioWorkletNode(context, 'ear', { numberOfInputs: 2 });
      worklet.port.onmessage = ({ data }) => ear.rendered[data.at].push(data.time);
      connect.call(worklet, context.destination); // silent; one that leads nowhere may sleep
      return worklet;
    });
    connect.call(node, await context.ear, 0, at);
  }

  AudioNode.prototype.connect = function (target, ...rest) {
    const microphone = this instanceof MediaStreamAudioSourceNode && !heard.has(this);
    if (microphone) connect.call(this, recorder(this.context), 0, 0);
    if (microphone) watch(this, 0);
    if (microphone) heard.add(this);
    const player = target instanceof AudioDestinationNode && this instanceof AudioWorkletNode && this.numberOfInputs === 0;
    if (player) connect.call(this, recorder(this.context), 0, 1);
    if (player) watch(this, 1);
    return connect.call(this, target, ...rest);
  };

  /** Notes each loud frame that follows silence. */
  function clicks(list) {
    let quiet = Infinity; // ms of sound
    return (data) => {
      const samples = new Int16Array(data);
      const first = samples.findIndex((sample) => Math.abs(sample) > LOUD * 32768);
      if (first >= 0 && quiet + first / 24 > QUIET_MS) list.push({ wall: performance.now(), context: ear.context.currentTime, time: Date.now() });
      const last = samples.findLastIndex((sample) => Math.abs(sample) > LOUD * 32768);
      quiet = last < 0 ? quiet + samples.length / 24 : (samples.length - last) / 24;
    };
  }

  const Socket = window.WebSocket;
  const left = clicks(ear.sent);
  const came = clicks(ear.got);
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', ({ data }) => data instanceof ArrayBuffer && came(data));
    }

    send(data) {
      super.send(data);
      if (data.byteLength) left(data);
    }
  };

  /** @returns {{entered: number[], played: number[]}} when each click began, at the microphone and at the player, in
   *    seconds of the context's clock */
  ear.onsets = () => ({ entered: onsets(0), played: onsets(1) });
  function onsets(channel) {
    const found = [];
    let loud = -1;
    for (const block of ear.blocks) {
      for (const [i, sample] of block[channel].entries()) {
        if (Math.abs(sample) <= LOUD) continue;
        const at = block[2][i];
        if (at - loud > QUIET_MS / 1000) found.push(at);
        loud = at;
      }
    }
    return found;
  }
}
