// When a reply is played more softly because the page itself hears speech, without a browser.

import assert from 'node:assert/strict';

import { page } from '../modules.mjs';
import { test } from '../test.mjs';

const { Duck } = await page('duck.js');

/** What becomes of so many frames. */
const frames = (duck, count, level, playing = true) => Array.from({ length: count }, () => duck.frame(level, playing));

test('60 ms of speech into a reply make it softer, for as long as it lasts and 500 ms more', () => {
  const duck = new Duck();
  assert.deepEqual(frames(duck, 5, 0.1), [false, false, true, true, true]);
  assert.deepEqual(frames(duck, 24, 0), Array(24).fill(true));
  assert.equal(duck.frame(0, true), false);
});

test('a click, a soft room and speech without a reply change nothing', () => {
  const duck = new Duck();
  assert.ok(!frames(duck, 2, 0.9).includes(true));
  assert.ok(!frames(duck, 100, 0.02).includes(true));
  assert.ok(!frames(duck, 100, 0.9, false).includes(true));
});

test('what the service does not hear has to be twice as loud the next time', () => {
  const duck = new Duck();
  frames(duck, 3, 0.05);
  frames(duck, 25, 0);
  assert.ok(!frames(duck, 10, 0.05).includes(true));
  assert.ok(frames(duck, 3, 0.1).includes(true));
  duck.confirm();
  assert.equal(duck.frame(0, true), false, 'the service has taken over');
  assert.ok(frames(duck, 3, 0.1).includes(true), 'and was right to be asked');
});
