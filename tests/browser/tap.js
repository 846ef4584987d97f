// Runs in the page before its own scripts: records what goes to the speaker, over the socket and into the
// page's states, and gives tests a hold of what a user has in the hand: the microphone, the tab.

{
  const BLOCK = 4096;
  const tap = { rate: 0, blocks: [], times: [], sent: [], got: [], pcm: [], mouth: [], sockets: [], states: [], tracks: [], tones: [], locks: [], violations: [] };
  /** A time of the context as a place in the recording, in steps of 10 ms. A busy browser leaves blocks out, and tells of others
   *  late: the one that it told of soonest says how their times lie. */
  tap.step = (clock) => {
    const [at, length] = [clock - tap.soonest, BLOCK / tap.rate];
    const block = tap.times.findLastIndex((time) => time <= at);
    return block < 0 ? 0 : Math.round(100 * (block * length + Math.min(length, at - tap.times[block])));
  };
  window.tap = tap;

  const connect = AudioNode.prototype.connect;
  const recorders = new WeakMap();

  /** One recorder per context, fed by all that is connected to its destination. */
  function recorder(context) {
    if (!recorders.has(context)) {
      const node = context.createScriptProcessor(BLOCK, 1, 1); // a worklet would need a file the page may load
      node.onaudioprocess = ({ inputBuffer, playbackTime }) => {
        tap.soonest = Math.min(tap.soonest ?? Infinity, context.currentTime - BLOCK / context.sampleRate - playbackTime);
        tap.times.push(playbackTime);
        tap.blocks.push(inputBuffer.getChannelData(0).slice());
      };
      connect.call(node, context.destination);
      recorders.set(context, node);
      tap.rate = context.sampleRate;
      tap.context = context;
    }
    return recorders.get(context);
  }

  const chimes = new WeakSet(); // contexts of tones: they are noted, and not recorded among the replies
  AudioNode.prototype.connect = function (target, ...rest) {
    if (this instanceof OscillatorNode && !(target instanceof AudioDestinationNode)) {
      chimes.add(this.context);
      tap.tones.push(this.frequency.value);
    }
    if (this instanceof MediaStreamAudioSourceNode) tap.source = this;
    if (target instanceof AudioDestinationNode && !chimes.has(this.context)) connect.call(this, recorder(this.context));
    return connect.call(this, target, ...rest);
  };

  const getUserMedia = navigator.mediaDevices?.getUserMedia;
  if (getUserMedia) {
    navigator.mediaDevices.getUserMedia = async function (wish) {
      if (tap.unplugged) throw new DOMException('unplugged by the test', 'NotFoundError');
      const stream = tap.voice ? tone() : await getUserMedia.call(this, wish);
      tap.tracks.push(...stream.getTracks());
      return stream;
    };
  }

  /** A microphone that hears a tone as loud as `tap.voice(level)` says, when it says so. */
  tap.useVoice = () => (tap.voice = (level) => (tap.level = level));
  function tone() {
    const context = new AudioContext();
    const voice = new OscillatorNode(context, { frequency: 300 });
    const gain = new GainNode(context, { gain: tap.level ?? 0 });
    const end = new MediaStreamAudioDestinationNode(context, { channelCount: 1 });
    voice.connect(gain).connect(end);
    voice.start();
    tap.voice = (level) => (gain.gain.value = level);
    return end.stream;
  }

  const Node = window.AudioWorkletNode; // not on an insecure page
  if (Node) {
    window.AudioWorkletNode = class extends Node {
      constructor(context, name, ...rest) {
        super(context, name, ...rest);
        if (name !== 'capture') return;
        this.port.addEventListener('message', ({ data }) => {
          if (typeof data !== 'string') tap.mouth.push(new Int16Array(data instanceof ArrayBuffer ? data.slice(0) : data / 2));
        });
      }
    };
  }

  const requestLock = navigator.wakeLock?.request;
  if (requestLock) {
    navigator.wakeLock.request = async function (kind) {
      const lock = await requestLock.call(this, kind);
      tap.locks.push(lock);
      return lock;
    };
  }

  /** What a browser does to a page that goes to the back: headless ones never do. */
  tap.hide = async (on) => {
    Object.defineProperty(document, 'hidden', { get: () => on, configurable: true });
    Object.defineProperty(document, 'visibilityState', { get: () => (on ? 'hidden' : 'visible'), configurable: true });
    document.dispatchEvent(new Event('visibilitychange'));
    if (!on) return;
    for (const lock of tap.locks) await lock.release();
    await tap.context.suspend();
  };

  const Socket = window.WebSocket;
  window.WebSocket = class extends Socket {
    constructor(...args) {
      super(...args);
      tap.socket = this;
      tap.sockets.push(String(args[0]));
      this.addEventListener('message', ({ data }) => {
        tap.got.push(entry(data));
        if (typeof data !== 'string') tap.pcm.push(new Int16Array(data.slice(0)));
      });
    }

    /** The page hears of the open socket as late as the test says. */
    set onopen(heard) {
      super.onopen = () => setTimeout(heard, tap.openLate ?? 0);
    }

    send(data) {
      tap.sent.push(entry(data));
      super.send(data);
    }
  };

  function entry(data) {
    return { at: Date.now(), clock: tap.context?.currentTime, ...(typeof data === 'string' ? JSON.parse(data) : { bytes: data.byteLength, peak: peak(data) }) };
  }

  function peak(data) {
    return new Int16Array(data).reduce((most, sample) => Math.max(most, Math.abs(sample)), 0);
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
