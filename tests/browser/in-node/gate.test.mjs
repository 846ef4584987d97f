// When the microphone is sent, frame by frame, without a browser.

import assert from 'node:assert/strict';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

const { Gate } = await page('gate.js');

const SECOND = 50; // frames

/** @param {import('../../../frontend/gate.js').Mode} mode */
function gateOf(mode) {
  return Object.assign(new Gate(), { mode });
}

/** What becomes of the next frames, as pairs of fate and count. */
function fates(gate, frames) {
  const found = [];
  for (let i = 0; i < frames; i++) {
    const fate = gate.next();
    if (found.at(-1)?.[0] === fate) found.at(-1)[1]++;
    else found.push([fate, 1]);
  }
  return found;
}

test('an open microphone is always sent', () => {
  const gate = gateOf('open');
  gate.playing(true);
  assert.deepEqual(fates(gate, 100), [['sound', 100]]);
});

test('a muted one is silent for a second and then sends nothing', () => {
  const gate = gateOf('open');
  gate.next();
  gate.muted = true;
  assert.deepEqual(fates(gate, 100), [['silence', SECOND], ['nothing', 50]]);
  gate.muted = false;
  assert.deepEqual(fates(gate, 2), [['sound', 2]]);
});

test('half-duplex sends nothing of an answer nor of its echo', () => {
  const gate = gateOf('half');
  assert.deepEqual(fates(gate, 10), [['sound', 10]]);
  gate.playing(true);
  assert.deepEqual(fates(gate, 200), [['silence', SECOND], ['nothing', 150]]);
  gate.playing(false);
  assert.deepEqual(fates(gate, 25), [['nothing', 20], ['sound', 5]]);
});

test('half-duplex stays closed when an answer pauses for less than its echo', () => {
  const gate = gateOf('half');
  gate.next();
  for (let i = 0; i < 10; i++) {
    gate.playing(i % 2 === 0);
    assert.ok(fates(gate, 15).every(([fate]) => fate !== 'sound'), `piece ${i}`);
  }
});

test('push-to-talk sends what is held, the way from the microphone, and silence to end the turn', () => {
  const gate = gateOf('push');
  assert.deepEqual(fates(gate, 100), [['nothing', 100]]);
  gate.hold(true);
  assert.deepEqual(fates(gate, 30), [['sound', 30]]);
  gate.hold(false);
  assert.deepEqual(fates(gate, 100), [['sound', 3], ['silence', SECOND], ['nothing', 47]]);
});

test('the silence lasts until the service has ended the turn, but not for ever', () => {
  const gate = gateOf('push');
  gate.hold(true);
  gate.next();
  gate.hold(false);
  gate.turn = true;
  assert.deepEqual(fates(gate, 203), [['sound', 3], ['silence', 200]]);
  gate.turn = false;
  assert.deepEqual(fates(gate, 10), [['nothing', 10]]);
  gate.turn = true; // told late
  assert.deepEqual(fates(gate, 1000), [['silence', 290], ['nothing', 710]]);
});

test('a release without a hold opens nothing', () => {
  const gate = gateOf('push');
  gate.hold(false);
  assert.deepEqual(fates(gate, 5), [['nothing', 5]]);
});
