// A voice over a network with jitter, in each browser: a tone is said in real time, a relay makes it late by up to 100 ms,
// and what goes to the loudspeaker is listened to for gaps.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { MOVING } from './browsers.mjs';
import { engines } from './engines.mjs';
import { mirrorSettings, startMirror } from './mirror.mjs';
import { startRelay } from './relay.mjs';
import { loudness } from './sound.mjs';
import { test } from './test.mjs';

const PIECE = 480; // 20 ms
const SECONDS = { Chromium: 60, Firefox: 20 }; // the minute once: the arithmetic is the same
const JITTER_MS = 100;
const SLACK_MS = 30; // on the way through relay, daemon and browser
const TRIES = 3;

/** Says a tone in real time, piece by piece. @returns {Promise<number>} when it began, in ms of the clock */
async function say(mirror, seconds) {
  const [from, began] = [performance.now(), Date.now()];
  for (let k = 0; k < seconds * 50; k++) {
    const piece = Int16Array.from({ length: PIECE }, (_, i) => 10000 * Math.sin((2 * Math.PI * 200 * (k * PIECE + i)) / 24000));
    mirror.send(Buffer.from(piece.buffer).toString('base64'));
    await sleep(Math.max(0, from + (k + 1) * 20 - performance.now()));
  }
  mirror.done();
  return began;
}

/** How much of the jitter the page has seen: a machine that is busy with other things adds to it. @param {{at: number, bytes?: number}[]} got */
function jitterOf(got, began) {
  let sound = 0; // ms of it so far
  const late = [];
  for (const { at, bytes } of got) {
    if (!bytes) continue;
    sound += bytes / 48;
    late.push(at - began - sound);
  }
  return Math.max(...late) - Math.min(...late);
}

/** @returns {number[]} 10 ms steps that are much quieter than the tone, between its first and last sound */
function gaps(steps) {
  const usual = 7071; // a tone of 10000, as root mean square
  const loud = (step) => step > usual / 4;
  const [first, last] = [steps.findIndex(loud) + 1, steps.findLastIndex(loud)];
  return [...steps].flatMap((step, i) => (i > first && i < last && step < usual / 2 ? [i - first] : []));
}

for (const { name, open } of engines) {
  test(`${name}: with ${JITTER_MS} ms of jitter no gap is heard`, async (t) => {
    for (let tries = 1; ; tries++) {
      const { talk, found, jitter } = await listen(t, name, open);
      if (found.length === 0 || tries === TRIES || jitter <= JITTER_MS + SLACK_MS) {
        assert.deepEqual(found, []);
        return talk.noComplaints();
      }
      console.log(`  this machine made it ${Math.round(jitter)} ms of jitter: once more`);
      await talk.page.close();
    }
  });
}

async function listen(t, name, open) {
  const mirror = await startMirror(t, () => {});
  const relay = await startRelay(t);
  const { talk } = await open(t, { command: 'run', env: mirrorSettings(mirror), relay, prefs: MOVING });
  await talk.page.emulateMedia({ reducedMotion: 'no-preference' }); // the moving picture costs the page time
  await talk.start();
  await talk.state('listening');
  relay.late(() => Math.random() * JITTER_MS);
  const began = await say(mirror, SECONDS[name]);
  await talk.state('speaking');
  await talk.state('listening');
  const steps = loudness(await talk.heard());
  const loud = steps.filter((step) => step > 3500).length / 100;
  const found = gaps(steps);
  const jitter = jitterOf(await talk.page.evaluate(() => window.tap.got.map(({ at, bytes }) => ({ at, bytes }))), began);
  console.log(`  ${loud} s of ${SECONDS[name]} s heard, ${found.length} steps of 10 ms quiet: ${found}; ${Math.round(jitter)} ms of jitter`);
  assert.ok(loud > SECONDS[name] - 1, `only ${loud} s were heard`);
  return { talk, found, jitter };
}
