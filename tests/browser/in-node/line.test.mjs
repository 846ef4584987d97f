// The page's line to the daemon, without a browser: sockets that the test holds in its hands, and its own clock.

import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

const { Line } = await page('line.js');
const FRAME_BYTES = 960;
const SECRET = '0123456789abcdef0123456789abcdef';

/** The daemon's side of one socket. */
class Socket {
  static OPEN = 1;
  static all = [];
  readyState = 0;
  bufferedAmount = 0;
  sent = [];
  closed = null; // the code that the page gave

  constructor(url) {
    this.url = url;
    this.at = Date.now();
    Socket.all.push(this);
  }

  open() {
    this.readyState = Socket.OPEN;
    this.onopen({});
  }

  /** @param {object|ArrayBuffer} message */
  say(message) {
    this.onmessage({ data: message instanceof ArrayBuffer ? message : JSON.stringify(message) });
  }

  /** It breaks, or ends with this code. */
  end(code = 1006) {
    this.readyState = 3;
    this.onclose({ code });
  }

  send(data) {
    this.sent.push(data);
  }

  close(code) {
    this.closed = code ?? 'plain';
    this.readyState = 2;
  }

  /** Frames by their number, texts by their type. */
  get heard() {
    return this.sent.map((data) => (typeof data === 'string' ? JSON.parse(data).type : new Int16Array(data)[0]));
  }

  get query() {
    return new URL(this.url).search.slice(1);
  }
}
globalThis.WebSocket = Socket;

const hello = (more) => ({ type: 'hello', session: 's', resume: SECRET, resumed: false, limits: { resume_seconds: 30 }, ...more });
const frame = (number) => new Int16Array(FRAME_BYTES / 2).fill(number).buffer;
const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
const last = () => Socket.all.at(-1);

/** A line, its socket, and all that it tells the page. */
function begin(t, first = hello()) {
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'Date'], now: 1e12 });
  mock.method(performance, 'now', () => Date.now());
  Socket.all = [];
  const told = [];
  const line = new Line('ws://daemon/ws', {
    message: (message) => told.push(message.type === 'call_state' ? message.state : message.type),
    audio: (samples) => told.push(samples.byteLength),
    away: () => told.push('away'),
    back: () => told.push('back'),
    anew: (reason) => told.push(`anew: ${reason}`),
    lost: (code, end) => told.push(`lost: ${code} ${end}`),
  });
  t.after(() => {
    line.close();
    mock.timers.reset();
    mock.restoreAll();
  });
  if (!first) return { line, told };
  last().open();
  last().say(first);
  last().say({ type: 'call_state', state: 'active' });
  told.length = 0;
  return { line, told };
}

/** Joins the call again on the newest socket. */
function rejoin(more) {
  last().open();
  last().say(hello({ resumed: true, resume: 'f'.repeat(32), ...more }));
}

/** Time in steps in which timers set others. */
function pass(ms) {
  for (let gone = 0; gone < ms; gone += 10) mock.timers.tick(10);
}

test('the first joining says that the line can take its call up again', (t) => {
  begin(t);
  assert.equal(last().query, 'resume&barge_in=hold');
});

test('a broken socket is followed by another, with the secret and what has been had', (t) => {
  const { line, told } = begin(t);
  last().say(new ArrayBuffer(1000));
  last().say(new ArrayBuffer(500));
  last().end();
  pass(10);
  assert.equal(Socket.all.length, 2);
  assert.equal(last().query, `resume=${SECRET}&received=1500&messages=2`);
  assert.equal(line.joined, false);
  last().open();
  assert.equal(line.joined, false, 'not before hello');
  last().say(hello({ resumed: true, resume: 'f'.repeat(32) }));
  assert.equal(line.joined, true);
  last().say({ type: 'call_state', state: 'active' });
  last().say(new ArrayBuffer(100));
  assert.deepEqual(told, [1000, 500, 'away', 'back', 'hello', 'active', 100]);
  last().end();
  pass(10);
  assert.equal(last().query, `resume=${'f'.repeat(32)}&received=1600&messages=4`, 'each joining has a secret of its own');
});

test('tries come at once, then less and less often up to every four seconds, for the time the daemon holds the call', (t) => {
  const { told } = begin(t);
  const from = Date.now();
  last().end();
  const seen = new Set();
  for (let gone = 0; gone < 40000; gone += 10) {
    mock.timers.tick(10);
    if (seen.has(last())) continue;
    seen.add(last());
    last().end();
  }
  const at = [...seen].map((socket) => socket.at - from);
  const expected = [0, 250, 500, 1000, 2000, 4000, 8000, 12000, 16000];
  for (const [index, ms] of expected.entries()) assert.ok(Math.abs(at[index] - ms) <= 20 + ms / 20, `${at}`);
  assert.ok(at.at(-1) >= 30000 && at.at(-1) < 30100, `${at}`);
  assert.equal(last().query, 'resume&barge_in=hold', 'the last one is for a new call');
  assert.deepEqual(told, ['away', 'lost: 1006 away']);
});

test('the daemon says for how long it holds a call, and whether at all', (t) => {
  const { told } = begin(t, hello({ limits: { resume_seconds: 2 } }));
  last().end();
  for (let gone = 0; gone < 3000; gone += 10) {
    mock.timers.tick(10);
    if (last().readyState === 0) last().end();
  }
  assert.deepEqual(told, ['away', 'lost: 1006 away']);
});

for (const [what, first] of [
  ['holds no calls', hello({ limits: { resume_seconds: 0 } })],
  ['is older', { type: 'hello', session: 's', resume: SECRET, limits: {} }],
  ['says no hello', { type: 'call_state', state: 'connecting' }],
]) {
  test(`a daemon that ${what} is not joined again, and not asked for signs of life`, (t) => {
    const { told } = begin(t, first);
    pass(60000);
    assert.deepEqual(last().heard, []);
    last().end();
    pass(60000);
    assert.equal(Socket.all.length, 1);
    assert.deepEqual(told, ['lost: 1006 closed']);
  });
}

for (const code of [1000, 1001, 1005, 1008, 1011, 1013]) {
  test(`a goodbye with ${code} is the end`, (t) => {
    const { told } = begin(t);
    last().end(code);
    pass(60000);
    assert.equal(Socket.all.length, 1);
    assert.deepEqual(told, [`lost: ${code} closed`]);
  });
}

test('the user’s own goodbye is the end, also while the line is away', (t) => {
  const { line, told } = begin(t);
  line.close();
  assert.deepEqual(last().heard, ['hang_up']);
  assert.equal(last().closed, 1000);
  last().end();
  pass(60000);
  assert.equal(Socket.all.length, 1);
  assert.deepEqual(told, []);
  mock.timers.reset();
  mock.restoreAll();
  const other = begin(t);
  last().end();
  pass(10);
  const trying = last();
  other.line.close();
  trying.open(); // too late
  pass(60000);
  assert.deepEqual(trying.heard, []);
  assert.equal(Socket.all.length, 2);
  assert.deepEqual(other.told, ['away']);
});

test('five seconds of microphone are kept, the latest, and follow in order at four times real time', (t) => {
  const { line } = begin(t);
  line.speak(frame(1));
  last().end();
  for (const number of numbers(2, 400)) line.speak(frame(number));
  line.endTurn();
  pass(10);
  rejoin();
  assert.ok(last().heard.length <= 5, 'not all at once');
  pass(200);
  for (let number = 401; number <= 500; number++) {
    line.speak(frame(number));
    const sent = last().heard.filter((what) => typeof what === 'number').length;
    assert.ok(sent <= 5 + ((number - 400) * 20 + 220) / 5 , `${sent} frames after ${number - 400}`);
    mock.timers.tick(20);
  }
  const expected = [...numbers(152, 400), 'end_turn', ...numbers(401, 500)]; // of 250 places one is the turn's end
  assert.deepEqual(last().heard.filter((what) => what !== 'ping'), expected);
  line.speak(frame(501));
  assert.equal(last().heard.at(-1), 501, 'live again');
});

test('five seconds are kept of longer frames too', (t) => {
  const { line } = begin(t);
  last().end();
  for (let number = 1; number <= 400; number++) line.speak(new Int16Array(576).buffer); // 24 ms
  pass(10);
  rejoin();
  for (let i = 0; i < 100; i++) pass(20);
  assert.equal(last().sent.filter((data) => data.byteLength).length, Math.floor(5000 / 24));
});

test('what the daemon has not heard leaves again from exactly there', (t) => {
  const { line } = begin(t);
  for (const number of numbers(1, 300)) line.speak(frame(number));
  last().end();
  for (const number of numbers(301, 310)) line.speak(frame(number));
  pass(10);
  rejoin({ heard: 290 * FRAME_BYTES });
  pass(3000);
  assert.deepEqual(last().heard.filter(Number.isInteger), numbers(291, 310));
  line.speak(frame(311));
  last().end();
  pass(10);
  rejoin({ heard: 311 * FRAME_BYTES });
  pass(3000);
  assert.deepEqual(last().heard, [], 'all of it was heard, over both sockets');
  line.speak(frame(312));
  last().end();
  pass(10);
  rejoin({ heard: 10 * FRAME_BYTES });
  pass(3000);
  assert.deepEqual(last().heard.filter(Number.isInteger), numbers(63, 312), 'no more than five seconds of it');
});

test('the end of a turn may be said twice, never too seldom', (t) => {
  const { line } = begin(t);
  line.speak(frame(1));
  line.endTurn();
  last().end();
  pass(10);
  rejoin({ heard: FRAME_BYTES });
  pass(100);
  assert.deepEqual(last().heard, ['end_turn']);
});

test('while the line is away, a message of the moment is dropped', (t) => {
  const { line } = begin(t);
  last().end();
  line.tell({ type: 'played', ms: 1 });
  pass(10);
  rejoin();
  line.tell({ type: 'played', ms: 2 });
  assert.equal(last().sent.length, 1);
});

test('silence is doubted, and the silent socket is kept open until another one has joined', (t) => {
  const { told } = begin(t);
  const [silent] = Socket.all;
  pass(2900);
  assert.deepEqual(silent.heard, []);
  pass(2000);
  assert.deepEqual(silent.heard, ['ping']);
  silent.say({ type: 'pong', id: 'line' });
  pass(3000);
  silent.say(new ArrayBuffer(10)); // anything is a sign of life
  pass(10000);
  assert.equal(Socket.all.length, 2);
  assert.deepEqual(told, ['pong', 10, 'away']);
  assert.equal(silent.closed, null, 'a close frame would be a goodbye');
  silent.say(new ArrayBuffer(10)); // what comes too late comes again on the other one
  assert.equal(last().query, `resume=${SECRET}&received=10&messages=3`);
  rejoin();
  assert.notEqual(silent.closed, null);
  assert.deepEqual(told, ['pong', 10, 'away', 'back', 'hello']);
});

test('while the user may speak, a dead line is found before the kept microphone is too old; while a reply comes, later', (t) => {
  const { line } = begin(t);
  const dead = () => {
    const { length } = Socket.all;
    let ms = 0;
    for (; Socket.all.length === length; ms += 10) {
      if (ms % 20 === 0) line.speak(frame(1));
      mock.timers.tick(10);
    }
    return ms;
  };
  const brisk = dead();
  assert.ok(brisk > 3500 && brisk <= 4700, `${brisk} ms`);
  rejoin();
  last().say(new ArrayBuffer(100));
  const calm = dead();
  assert.ok(calm > 6500 && calm <= 7700, `${calm} ms`);
});

test('after a change of the network a sign of life has to come soon, and a pause between tries is over', (t) => {
  const { line } = begin(t);
  line.doubt();
  assert.deepEqual(last().heard, ['ping']);
  last().say({ type: 'pong', id: 'line' });
  pass(2000);
  assert.equal(Socket.all.length, 1, 'it lives');
  line.doubt();
  pass(1600);
  assert.equal(Socket.all.length, 2, 'it does not');
  for (let i = 0; i < 5; i++) {
    last().end();
    pass(4100);
  }
  last().end();
  const before = Socket.all.length;
  line.doubt();
  pass(10);
  assert.equal(Socket.all.length, before + 1);
  rejoin();
  assert.equal(line.joined, true);
});

test('a try that neither opens nor fails is given up for another', (t) => {
  begin(t);
  last().end();
  pass(10);
  const [, hung] = Socket.all;
  pass(9000);
  assert.ok(Socket.all.length > 2);
  assert.notEqual(hung.closed, null);
});

for (const reason of ['resume_refused', 'resume_late']) {
  test(`${reason}: a new call takes the place of the lost one, and what was kept is for it`, (t) => {
    const { line, told } = begin(t);
    last().say(new ArrayBuffer(1000));
    last().end();
    line.speak(frame(1));
    pass(10);
    const refused = last();
    refused.open();
    refused.say({ type: 'call_state', state: 'ended', reason, message: 'It is over.' });
    refused.end(1008);
    assert.equal(last().query, 'resume&barge_in=hold');
    last().open();
    assert.deepEqual(last().heard, [1]);
    assert.deepEqual(told, [1000, 'away', `anew: ${reason}`]);
    last().say(hello({ resume: 'e'.repeat(32) }));
    last().end();
    pass(10);
    assert.equal(last().query, `resume=${'e'.repeat(32)}&received=0&messages=1`);
  });
}

test('a daemon that takes the joining for a first one has begun a new call', (t) => {
  const { line, told } = begin(t);
  last().end();
  pass(10);
  last().open();
  last().say(hello({ resume: 'e'.repeat(32) }));
  assert.deepEqual(told, ['away', 'anew: undefined', 'hello']);
  assert.equal(line.joined, true);
  last().end();
  pass(10);
  assert.equal(last().query, `resume=${'e'.repeat(32)}&received=0&messages=1`);
});

test('a joining that ends for another reason ends the call', (t) => {
  const { told } = begin(t);
  last().end();
  pass(10);
  last().open();
  last().say({ type: 'call_state', state: 'ended', reason: 'full', message: 'Full.' });
  last().end(1013);
  assert.deepEqual(told, ['away', 'ended', 'lost: 1013 closed']);
});

test('a device that has slept for long finds no new call', (t) => {
  const { told } = begin(t);
  mock.timers.setTime(Date.now() + 3600e3);
  last().end();
  pass(10);
  last().open();
  last().say({ type: 'call_state', state: 'ended', reason: 'resume_refused', message: 'It is over.' });
  pass(10000);
  assert.deepEqual(told, ['away', 'lost: 1006 away']);
});
