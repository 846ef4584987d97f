// What the page's call keeps, sends and plays, without a browser: call.js and audio.js with a socket, worklets
// and a microphone that the test holds in its hands, and a clock that the test moves.

import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

const FRAME_SAMPLES = 480;

/** The daemon's side of the call. */
class Socket {
  static OPEN = 1;
  static last;
  readyState = 0;
  bufferedAmount = 0;
  sent = [];

  constructor() {
    Socket.last = this;
  }

  open() {
    this.readyState = Socket.OPEN;
    this.onopen();
  }

  /** @param {object|ArrayBuffer} message */
  say(message) {
    this.onmessage({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }

  send(data) {
    this.sent.push(data);
  }

  close() {
    this.readyState = 3;
  }

  /** The first sample of each frame of sound. */
  get frames() {
    return this.sent.filter((data) => data instanceof ArrayBuffer).map((data) => new Int16Array(data)[0]);
  }

  /** The types of all messages. */
  get messages() {
    return this.sent.filter((data) => typeof data === 'string').map((data) => JSON.parse(data).type);
  }
}

class Node {
  static made = {};
  port = { posted: [], postMessage: (message) => this.port.posted.push(message) };

  constructor(_context, name) {
    Node.made[name] = this;
  }

  connect() {}
  disconnect() {}
}

class Context extends EventTarget {
  state = 'running';
  destination = {};
  audioWorklet = { addModule: async () => {} };
  resume = async () => {};
  createMediaStreamSource = () => ({ connect() {}, disconnect() {} });

  async close() {
    this.state = 'closed';
  }
}

const track = Object.assign(new EventTarget(), { label: 'microphone', getSettings: () => ({ deviceId: 'm' }), stop() {} });
const devices = Object.assign(new EventTarget(), {
  enumerateDevices: async () => [],
  getUserMedia: async () => ({ getTracks: () => [track] }),
});
Object.defineProperty(globalThis, 'navigator', { value: { mediaDevices: devices }, configurable: true });
Object.assign(globalThis, {
  WebSocket: Socket,
  AudioContext: Context,
  AudioWorkletNode: Node,
  HTMLMediaElement: class {},
  document: { visibilityState: 'visible' },
});
const { Call } = await page('call.js');

/** A call whose sound has started. @returns {Promise<{call: Call, socket: Socket, states: string[]}>} */
async function started(t) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval'] });
  const states = [];
  const problems = [];
  const anew = [];
  const cuts = [];
  const call = new Call({
    state: (state) => states.at(-1) !== state && states.push(state),
    message() {},
    interrupted: () => cuts.push(true),
    anew: () => anew.push(true),
    problem: (words) => problems.push(words),
    level() {},
    over() {},
  });
  t.after(() => {
    call.stop();
    mock.timers.reset();
  });
  call.start('ws://daemon/ws', { mode: 'open', microphone: null, loudspeaker: null });
  while (!Node.made.capture?.port.onmessage) await new Promise(setImmediate);
  t.after(() => (Node.made = {}));
  return { call, socket: Socket.last, states, problems, anew, cuts };
}

async function active(t) {
  const all = await started(t);
  all.socket.open();
  all.socket.say({ type: 'call_state', state: 'active', service: 'simulator' });
  assert.equal(all.states.at(-1), 'listening');
  return all;
}

/** The microphone brings a frame, whose samples are its number. */
function hear(number) {
  Node.made.capture.port.onmessage({ data: new Int16Array(FRAME_SAMPLES).fill(number).buffer });
}

/** What the loudspeaker was given of sound. */
function played() {
  return Node.made.playback.port.posted.filter((message) => message instanceof ArrayBuffer).map((data) => new Int16Array(data)[0]);
}

const sound = (number) => new Int16Array(FRAME_SAMPLES).fill(number).buffer;

test('two seconds of speech are held for a socket that is not open yet, the latest', async (t) => {
  const { socket } = await started(t);
  for (let number = 1; number <= 1000; number++) hear(number);
  assert.deepEqual(socket.sent, []);
  socket.open();
  assert.deepEqual(socket.frames, Array.from({ length: 100 }, (_, i) => 901 + i));
  hear(1001);
  assert.equal(socket.frames.at(-1), 1001);
});

test('while a tone of the page sounds, silence takes the place of the microphone', async (t) => {
  const { call, socket } = await active(t);
  hear(1);
  call.deafen(280);
  hear(2);
  mock.timers.tick(200);
  call.deafen(280); // another one
  mock.timers.tick(279);
  hear(3);
  mock.timers.tick(1);
  hear(4);
  assert.deepEqual(socket.frames, [1, 0, 0, 4]);
});

test('what a stalled network does not take is dropped', async (t) => {
  const { socket } = await active(t);
  hear(1);
  socket.bufferedAmount = 96000 - 2;
  hear(2);
  socket.bufferedAmount = 96000;
  hear(3);
  socket.bufferedAmount = 1e9;
  hear(4);
  socket.bufferedAmount = 0;
  hear(5);
  assert.deepEqual(socket.frames, [1, 2, 5]);
});

test('an answer that does not come is given up after 20 seconds', async (t) => {
  const { call, socket, states } = await active(t);
  for (const owe of [() => socket.say({ type: 'speech_stopped' }), () => call.say('Hello?')]) {
    owe();
    assert.equal(states.at(-1), 'thinking');
    mock.timers.tick(19999);
    assert.equal(states.at(-1), 'thinking');
    mock.timers.tick(1);
    assert.equal(states.at(-1), 'listening');
  }
});

test('a short answer that has come whole is awaited until it is heard', async (t) => {
  const { socket, states } = await active(t);
  socket.say({ type: 'speech_stopped' });
  socket.say({ type: 'response_started' });
  socket.say(sound(1));
  const before = states.length;
  socket.say({ type: 'response_done', status: 'completed' });
  for (const playing of [true, false]) Node.made.playback.port.onmessage({ data: { playing, ms: 0, level: 0.5 } });
  assert.deepEqual(states.slice(before), ['speaking', 'listening']);
});

test('sound that comes after the answer was stopped is not played, the next answer is', async (t) => {
  const { call, socket } = await active(t);
  socket.say({ type: 'response_started' });
  socket.say(sound(1));
  call.interrupt();
  socket.say(sound(2)); // it was on its way
  assert.deepEqual(played(), [1]);
  assert.equal(Node.made.playback.port.posted.at(-1), 'flush');
  assert.equal(socket.messages.at(-1), 'interrupt');
  socket.say({ type: 'response_started' });
  socket.say(sound(3));
  assert.deepEqual(played(), [1, 3]);
});

test('a stop ends the wait for tools that do their work in silence', async (t) => {
  const { call, socket, states } = await active(t);
  assert.equal(call.working, false);
  socket.say({ type: 'tool', name: 'search', state: 'running' });
  assert.equal(call.working, true);
  assert.equal(states.at(-1), 'thinking');
  call.interrupt();
  assert.equal(socket.messages.at(-1), 'interrupt');
  assert.equal(states.at(-1), 'listening');
  socket.say({ type: 'tool', name: 'search', state: 'failed', ms: 500 });
  assert.equal(states.at(-1), 'listening', 'no reply follows');
  // The next one is waited for as ever.
  socket.say({ type: 'speech_started', item_id: 'u1' });
  socket.say({ type: 'tool', name: 'search', state: 'running' });
  socket.say({ type: 'tool', name: 'search', state: 'done', ms: 500 });
  assert.equal(states.at(-1), 'thinking');
});

test('after the call nothing is played, sent or shown', async (t) => {
  const { call, socket, states } = await active(t);
  socket.say({ type: 'response_started' });
  socket.say(sound(1));
  call.stop();
  const shown = states.length;
  socket.say(sound(2));
  socket.say({ type: 'speech_stopped' });
  call.say('Hello?');
  mock.timers.tick(60000);
  assert.deepEqual(played(), [1]);
  assert.equal(socket.messages.at(-1), 'hang_up');
  assert.equal(states.length, shown);
});

/** The daemon of a call that can be joined again. */
const hello = (more) => ({ type: 'hello', session: 's', resume: '0'.repeat(32), limits: { resume_seconds: 30 }, ...more });

async function resumable(t) {
  const all = await started(t);
  all.socket.open();
  all.socket.say(hello());
  all.socket.say({ type: 'call_state', state: 'active', service: 'simulator' });
  return all;
}

/** The socket breaks, and the next one is there. @returns {Socket} */
function lose(socket) {
  socket.readyState = 3;
  socket.onclose({ code: 1006 });
  mock.timers.tick(0);
  assert.notEqual(Socket.last, socket);
  Socket.last.open();
  return Socket.last;
}

const rejoin = (socket) => socket.say(hello({ resumed: true, resume: '1'.repeat(32) }));

test('a line that is away shows only after a second, and whatever comes of the voice service', async (t) => {
  const { socket, states } = await resumable(t);
  const next = lose(socket);
  mock.timers.tick(999);
  assert.equal(states.at(-1), 'listening');
  mock.timers.tick(1);
  assert.equal(states.at(-1), 'reconnecting');
  rejoin(next);
  assert.equal(states.at(-1), 'listening');
  next.say({ type: 'call_state', state: 'reconnecting', reason: 'service_lost', message: 'Lost.' });
  assert.equal(states.at(-1), 'reconnecting');
  const third = lose(next);
  mock.timers.tick(1000);
  rejoin(third);
  assert.equal(states.at(-1), 'reconnecting', 'the service is still away');
  third.say({ type: 'call_state', state: 'active' });
  assert.equal(states.at(-1), 'listening');
  const fourth = lose(third);
  rejoin(fourth);
  mock.timers.tick(60000);
  assert.equal(states.at(-1), 'listening', 'it was back within the second');
});

test('what is to be played stays, and goes on where it stopped; what a barge-in ended goes', async (t) => {
  const { socket } = await resumable(t);
  socket.say({ type: 'response_started' });
  socket.say(sound(1));
  const next = lose(socket);
  assert.deepEqual(played(), [1]);
  assert.equal(Node.made.playback.port.posted.includes('flush'), false);
  rejoin(next);
  next.say({ type: 'call_state', state: 'active' });
  next.say(sound(2));
  assert.deepEqual(played(), [1, 2]);
  const third = lose(next);
  rejoin(third);
  third.say({ type: 'speech_started', item_id: 'u1' });
  assert.equal(Node.made.playback.port.posted.at(-1), 'flush');
  third.say({ type: 'call_state', state: 'active' });
  third.say(sound(3));
  assert.deepEqual(played(), [1, 2, 3]);
});

test('an answer that was stopped while the line was away is stopped at the daemon too', async (t) => {
  const { call, socket } = await resumable(t);
  socket.say({ type: 'response_started' });
  socket.say(sound(1));
  const next = lose(socket);
  call.interrupt();
  rejoin(next);
  next.say({ type: 'tool', name: 't', state: 'running' });
  assert.deepEqual(next.messages, []);
  next.say({ type: 'call_state', state: 'active' });
  assert.deepEqual(next.messages, ['interrupt']);
  next.say(sound(2));
  assert.deepEqual(played(), [1]);
  next.say({ type: 'response_started' });
  next.say(sound(3));
  assert.deepEqual(played(), [1, 3]);
});

test('a typed turn that the daemon has not had is sent again, one that it has had is not', async (t) => {
  const { call, socket } = await resumable(t);
  const said = call.say('Hello?');
  const next = lose(socket);
  assert.equal(await call.say('More'), false, 'not while the line is away');
  rejoin(next);
  next.say({ type: 'call_state', state: 'active' });
  assert.deepEqual(next.messages, ['text', 'ping']);
  next.say({ type: 'pong', id: 'text 1' });
  assert.equal(await said, true);
  const again = call.say('Again?');
  const third = lose(next);
  rejoin(third);
  third.say({ type: 'pong', id: 'text 2' });
  third.say({ type: 'call_state', state: 'active' });
  assert.equal(await again, true);
  assert.deepEqual(third.messages, []);
});

test('a call that is refused is followed by a new one, with the words why until the user has spoken', async (t) => {
  const { call, socket, states, problems, anew } = await resumable(t);
  const said = call.say('Hello?');
  const next = lose(socket);
  next.say({ type: 'call_state', state: 'ended', reason: 'resume_refused', message: 'The call has ended.' });
  next.readyState = 3;
  const fresh = Socket.last;
  assert.notEqual(fresh, next);
  fresh.open();
  assert.equal(await said, false);
  assert.equal(states.at(-1), 'connecting');
  assert.equal(anew.length, 1);
  assert.match(problems.at(-1), /holds the call no more\. This is a new call/);
  fresh.say(hello());
  fresh.say({ type: 'call_state', state: 'active' });
  fresh.say({ type: 'response_started' });
  assert.match(problems.at(-1), /new call/);
  // A microphone without any sound is why the user cannot speak.
  const found = (data) => Node.made.capture.port.onmessage({ data });
  found('silent');
  assert.match(problems.at(-1), /gives no sound/);
  found('heard');
  assert.match(problems.at(-1), /new call/);
  fresh.say({ type: 'speech_started' });
  assert.equal(problems.at(-1), '');
});

test('what may be no turn holds the reply, and lets it go on or ends it', async (t) => {
  const { call, socket, states, cuts } = await resumable(t);
  const { posted } = Node.made.playback.port;
  const report = (data) => Node.made.playback.port.onmessage({ data });
  socket.say({ type: 'response_started' });
  report({ playing: true, ms: 100, level: 0.5 });
  assert.equal(states.at(-1), 'speaking');
  socket.say({ type: 'hold', item_id: 'u1' });
  assert.equal(posted.at(-1), 'hold');
  assert.equal(states.at(-1), 'listening');
  report({ playing: false, ms: 105, level: 0 });
  socket.say(sound(7));
  assert.deepEqual(played().slice(-1), [7], 'what comes meanwhile is kept, not dropped');
  socket.say({ type: 'resume_playback' });
  assert.equal(posted.at(-1), 'resume');
  assert.equal(states.at(-1), 'speaking');
  report({ playing: true, ms: 0, level: 0.5 });
  assert.deepEqual(cuts, []);
  for (const end of ['speech_started', 'stop']) {
    socket.say({ type: 'hold', item_id: 'u2' });
    report({ playing: false, ms: 105, level: 0 });
    socket.say({ type: 'hold', item_id: 'u2' });
    assert.ok(call.playing, 'the user may stop it');
    if (end === 'stop') call.interrupt();
    else socket.say({ type: end, item_id: 'u2' });
    assert.equal(posted.at(-1), 'flush');
    assert.deepEqual(cuts.splice(0), [true], 'its line says so');
    assert.ok(!call.playing);
    socket.say({ type: 'response_started' });
    report({ playing: true, ms: 0, level: 0.5 });
  }
  socket.say({ type: 'speech_started', item_id: 'u2' });
  socket.say({ type: 'speech_stopped', item_id: 'u2' });
  assert.equal(states.at(-1), 'thinking');
});
