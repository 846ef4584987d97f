// Which microphone is open and when another one is asked for, without a browser: microphone.js with tracks that live as
// long as the test says.

import assert from 'node:assert/strict';
import { mock } from 'node:test';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

let now = 0;
/** What `getUserMedia` gives: a track's life in ms, or an error. Asked for too often, the last one again. */
let fates = [];
let asked = [];

class Track extends EventTarget {
  label = 'Desk';
  readyState = 'live';
  getSettings = () => ({ deviceId: 'a' });
  stop() {
    this.readyState = 'ended';
  }
}

async function getUserMedia() {
  asked.push(now);
  const fate = fates.length > 1 ? fates.shift() : fates[0];
  if (fate instanceof DOMException) throw fate;
  const track = new Track();
  const end = () => (track.stop(), track.dispatchEvent(new Event('ended')));
  if (fate === 0) end();
  else if (fate < Infinity) setTimeout(end, fate);
  return { getTracks: () => [track] };
}

Object.defineProperty(globalThis, 'performance', { value: { now: () => now }, configurable: true });
const mediaDevices = Object.assign(new EventTarget(), { getUserMedia, enumerateDevices: async () => [] });
Object.defineProperty(globalThis, 'navigator', { value: { mediaDevices }, configurable: true });
mock.timers.enable({ apis: ['setTimeout'] });
const { Microphone } = await page('microphone.js');

/** @param {number} ms */
async function pass(ms) {
  for (const end = now + ms; now < end; now += 50) {
    for (let turn = 0; turn < 8; turn++) await null;
    mock.timers.tick(50);
  }
}

async function begin(...all) {
  [fates, asked] = [all, []];
  const told = [];
  const microphone = new Microphone({
    open: (stream) => {
      if (stream.getTracks()[0].readyState === 'ended') throw new DOMException('no live track', 'InvalidStateError'); // as Firefox
      told.push('open');
    },
    lost: (why) => told.push(why.name ?? why),
    silenced() {},
  });
  await microphone.open(null);
  return { microphone, told };
}

for (const life of [5500, 6000, 19000]) {
  test(`tracks that end every ${life} ms are replaced with growing pauses, and then there are words`, async () => {
    const { microphone, told } = await begin(life);
    await pass(10 * 60_000);
    assert.equal(told.at(-1), 'brief');
    assert.ok(asked.length >= 5 && asked.length <= 10, `${asked.length} microphones`);
    const pauses = asked.slice(1).map((at, index) => at - asked[index] - life);
    assert.ok(pauses[0] < 500, 'the first one is replaced at once');
    assert.ok(pauses.every((pause, index) => index === 0 || pause > pauses[index - 1]), `${pauses}`);
    const before = asked.length;
    await pass(10 * 60_000);
    assert.equal(asked.length, before, 'it rests');
    // The user's choice begins anew.
    fates = [Infinity];
    await microphone.change(null);
    assert.equal(told.at(-1), 'open');
    microphone.close();
  });
}

test('a microphone that is unplugged now and then is replaced at once each time', async () => {
  const { microphone, told } = await begin(300_000, 21_000, 21_000, Infinity);
  await pass(600_000);
  assert.deepEqual(told, ['open', 'open', 'open', 'open']);
  const gaps = [300_000, 21_000, 21_000].map((life, index) => asked[index + 1] - asked[index] - life);
  assert.ok(gaps.every((gap) => gap <= 100), `${gaps}`);
  microphone.close();
});

const error = (name) => new DOMException('not now', name);

for (const [name, word] of [['NotReadableError', 'taken'], ['AbortError', 'taken'], ['InvalidStateError', 'taken'], ['NotFoundError', 'none'], ['OverconstrainedError', 'none']]) {
  test(`a call begins without a microphone (${name}), and goes on with one when there is one`, async () => {
    const { microphone, told } = await begin(error(name), Infinity);
    assert.deepEqual(told, [word]);
    if (word === 'none') mediaDevices.dispatchEvent(new Event('devicechange'));
    await pass(1000);
    assert.deepEqual(told, [word, 'open']);
    await pass(60_000);
    assert.equal(asked.length, 2);
    microphone.close();
  });
}

test('a microphone that is gone before it is connected is looked for again', async () => {
  const { microphone, told } = await begin(0, Infinity);
  await pass(2000);
  assert.deepEqual(told, ['taken', 'open']);
  microphone.close();
});

test('a user who says no is believed', async () => {
  await assert.rejects(begin(error('NotAllowedError')), { name: 'NotAllowedError' });
  await pass(60_000);
  assert.equal(asked.length, 1);
});
