// When the page's audio context is resumed, and when it is replaced, without a browser: context.js with contexts whose
// state and clock the test holds in its hands.

import assert from 'node:assert/strict';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

let now = 0;
let look = () => {};

class Context extends EventTarget {
  static made = [];
  static first = 'running'; // the state of the next one
  static obeys = true; // resume() has an effect
  state = Context.first;
  currentTime = 0;
  resumed = 0;

  constructor() {
    super();
    Context.made.push(this);
  }

  async resume() {
    this.resumed++;
    const { obeys } = Context;
    await null;
    if (obeys) this.become('running');
  }

  async close() {
    this.state = 'closed';
  }

  /** @param {string} state @param {boolean} [silently] without its event, as some systems do */
  become(state, silently = false) {
    if (state === this.state) return;
    this.state = state;
    if (!silently) this.dispatchEvent(new Event('statechange'));
  }
}

Object.defineProperty(globalThis, 'performance', { value: { now: () => now }, configurable: true });
Object.assign(globalThis, {
  AudioContext: Context,
  document: { visibilityState: 'visible' },
  setInterval: (then) => ((look = then), 0),
});
const { SoundContext } = await page('context.js');

/** A context that runs, and what the page was told of it. */
async function begin() {
  Object.assign(Context, { made: [], first: 'suspended', obeys: true });
  document.visibilityState = 'visible';
  const told = [];
  const sound = new SoundContext({ paused: (on) => told.push(on), renewed: () => told.push('renewed') });
  await sound.start();
  const latest = () => Context.made.at(-1);
  /** @param {boolean} [stands] the clock stands still */
  const pass = async (seconds, stands = false) => {
    for (let i = 0; i < seconds; i++) {
      now += 1000;
      if (latest().state === 'running' && !stands) latest().currentTime += 1;
      look();
      await new Promise(setImmediate);
    }
  };
  await pass(3);
  assert.deepEqual(told.splice(0), []);
  return { sound, told, latest, pass };
}

test('an interruption that comes again is told again, and never resumed', async () => {
  const { told, latest, pass, sound } = await begin();
  const before = latest().resumed;
  for (let i = 0; i < 3; i++) {
    latest().become('interrupted');
    await pass(60);
    sound.resume(false);
    assert.equal(latest().resumed, before);
    latest().become('running');
    await pass(1);
  }
  assert.deepEqual(told, [true, false, true, false, true, false]);
  assert.equal(Context.made.length, 1);
});

test('what is suspended behind an interruption is resumed, when the page is in front', async () => {
  const { told, latest, sound } = await begin();
  Context.obeys = false;
  latest().become('interrupted');
  document.visibilityState = 'hidden';
  const before = latest().resumed;
  latest().become('suspended');
  assert.equal(latest().resumed, before);
  document.visibilityState = 'visible';
  Context.obeys = true;
  sound.resume(false);
  assert.equal(latest().resumed, before + 1);
  await null;
  assert.deepEqual(told, [true, false]);
});

test('a context that is suspended for good is replaced once the user is back', async () => {
  const { told, latest, pass, sound } = await begin();
  Context.obeys = false;
  latest().become('suspended');
  await pass(60);
  assert.deepEqual(told, [true]);
  sound.resume(true);
  Context.obeys = true;
  await pass(3);
  assert.deepEqual(told, [true, 'renewed', false]);
  assert.equal(latest().state, 'running');
});

test('an interruption whose end nobody tells is over ten seconds after a touch', async () => {
  const { told, latest, pass, sound } = await begin();
  latest().become('interrupted');
  sound.resume(true);
  await pass(9);
  assert.deepEqual(told, [true]);
  await pass(3);
  assert.deepEqual(told, [true, 'renewed', false]);
});

test('a new context that runs only after a touch is told of', async () => {
  const { told, latest, pass, sound } = await begin();
  Context.obeys = false;
  await pass(4, true);
  assert.deepEqual(told, ['renewed', true]);
  await pass(30);
  assert.equal(Context.made.length, 2, 'none is better before the touch');
  Context.obeys = true;
  sound.resume(true);
  await pass(1);
  assert.deepEqual(told, ['renewed', true, false]);
  assert.equal(latest().state, 'running');
});

test('a state that changes without its event is noticed', async () => {
  const { told, latest, pass } = await begin();
  latest().become('interrupted', true);
  await pass(2);
  latest().become('running', true);
  await pass(2);
  assert.deepEqual(told, [true, false]);
});

test('a clock that stands still again and again is given more time, and less again after it has gone well', async () => {
  const { pass } = await begin();
  const standsFor = async () => {
    const before = Context.made.length;
    for (let seconds = 1; seconds <= 60; seconds++) {
      await pass(1, true);
      if (Context.made.length > before) return seconds;
    }
    return Infinity;
  };
  const waits = [];
  for (let i = 0; i < 6; i++) waits.push(await standsFor());
  assert.ok(waits.every((wait, i) => wait >= (waits[i - 1] ?? 2)), `${waits}`);
  assert.ok(waits[0] <= 4 && waits.at(-1) >= 32 && waits.at(-1) < Infinity, `${waits}`);
  await pass(90);
  assert.ok((await standsFor()) <= 4);
});

test('a hidden page is left alone', async () => {
  const { told, latest, pass } = await begin();
  document.visibilityState = 'hidden';
  await pass(300, true);
  assert.deepEqual(told, []);
  document.visibilityState = 'visible';
  await pass(1, true);
  assert.equal(latest(), Context.made[0]);
});
