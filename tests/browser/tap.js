// Runs in the page before its own scripts: records what goes to the speaker and what the page shows.

{
  const BLOCK = 4096;
  const tap = { rate: 0, blocks: [], sent: [], got: [], states: [], tracks: [], violations: [] };
  tap.step = (at) => Math.round((at - tap.since) / 10); // a time as a place in the recording, in steps of 10 ms
  window.tap = tap;

  const connect = AudioNode.prototype.connect;
  const recorders = new WeakMap();

  /** One recorder per context, fed by all that is connected to its destination. */
  function recorder(context) {
    if (!recorders.has(context)) {
      const node = context.createScriptProcessor(BLOCK, 1, 1); // a worklet would need a file the page may load
      node.onaudioprocess = ({ inputBuffer }) => {
        if (tap.blocks.length === 0) tap.since = Date.now() - (BLOCK * 1000) / context.sampleRate;
        tap.blocks.push(inputBuffer.getChannelData(0).slice());
      };
      connect.call(node, context.destination);
      recorders.set(context, node);
      tap.rate = context.sampleRate;
    }
    return recorders.get(context);
  }

  AudioNode.prototype.connect = function (target, ...rest) {
    if (target instanceof AudioDestinationNode) connect.call(this, recorder(this.context));
    return connect.call(this, target, ...rest);
  };

  const getUserMedia = navigator.mediaDevices?.getUserMedia;
  if (getUserMedia) {
    navigator.mediaDevices.getUserMedia = async function (wish) {
      const stream = await getUserMedia.call(this, wish);
      tap.tracks.push(...stream.getTracks());
      return stream;
    };
  }

  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      this.addEventListener('message', ({ data }) => tap.got.push(entry(data)));
    }

    send(data) {
      tap.sent.push(entry(data));
      super.send(data);
    }
  };

  function entry(data) {
    return { at: Date.now(), ...(typeof data === 'string' ? JSON.parse(data) : { bytes: data.byteLength }) };
  }

  document.addEventListener('securitypolicyviolation', (e) => tap.violations.push(`${e.violatedDirective} ${e.blockedURI}`));
  document.addEventListener('DOMContentLoaded', () => {
    const note = () => {
      const { state } = document.body.dataset;
      if (tap.states.at(-1) !== state) tap.states.push(state);
    };
    new MutationObserver(note).observe(document.body, { attributeFilter: ['data-state'] });
    note();
  });
}
