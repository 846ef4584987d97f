// A spoken turn and a barge-in, in each browser: what the user says comes back from the simulator, and
// every part of the way is looked at: states, captions, and the samples on their way to the speaker.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { engines } from './engines.mjs';
import { loudness, match, words } from './sound.mjs';
import { test } from './test.mjs';

const SAME = 0.75; // by loudness the same words reach 0.85 and more, other words 0.55 at most
const WITHIN_SECONDS = 1.5; // after the first words, the second ones begin in the middle of their answer
const TRIES = 3;
const SILENT_WITHIN_MS = 500; // of speech_started: 300, and two blocks of the recorder, which cannot tell closer

for (const { name, open } of engines) {
  test(`${name}: a spoken turn is heard, answered and shown`, async (t) => {
    const { talk, speak } = await open(t, { pieces: [9, 'weather', 20] });
    await talk.start();
    await talk.welcomed();
    speak(['weather', 2]);
    await talk.state('thinking');
    await talk.state('speaking');
    await talk.state('listening');
    await talk.said('user', /\[simulator\]/);
    await talk.said('assistant', /\[simulator\]/);
    assert.deepEqual(await talk.states(), ['idle', 'connecting', 'listening', 'thinking', 'speaking', 'listening', 'thinking', 'speaking', 'listening']);
    await heardBack(talk, 'weather', 'stock');
    await talk.noComplaints();
  });

  test(`${name}: speaking into an answer silences it`, async (t) => {
    for (let tries = 1; ; tries++) {
      const { talk, speak } = await open(t, { faults: ['no-welcome'], pieces: [5, 'weather', WITHIN_SECONDS, 'stock', 30] });
      await talk.start();
      await talk.begun();
      speak(['weather', WITHIN_SECONDS, 'stock', 2]);
      await talk.page.waitForFunction(() => window.tap.got.filter((m) => m.type === 'speech_started').length > 1);
      await sleep(2 * SILENT_WITHIN_MS);
      if (tries < TRIES && !(await wasSpeaking(talk))) {
        console.log('  this machine was late with the answer: once more');
        await talk.page.close();
        continue;
      }
      await talk.page.locator('.turn.assistant .cut').first().waitFor();
      await silentAfterBargeIn(talk);
      return talk.noComplaints();
    }
  });
}

/** Whether an answer was being heard when the user spoke for the second time: the page told the daemon so just before. */
async function wasSpeaking(talk) {
  const { at } = (await talk.received('speech_started'))[1];
  return (await talk.sent('played')).some((played) => played.ms > 0 && played.at < at && played.at > at - 1000);
}

/** The answer sounds like what was said, and less like other words. */
async function heardBack(talk, said, other) {
  const heard = await talk.heard();
  const own = match(words(said), heard).r;
  const foreign = match(words(other), heard).r;
  console.log(`  loudness of the answer: ${own.toFixed(3)} like ${said}, ${foreign.toFixed(3)} like ${other}`);
  assert.ok(own >= SAME, `the answer sounds like ${said} by ${own}`);
  assert.ok(own > foreign + 0.1, `it sounds as much like ${other} (${foreign})`);
}

async function silentAfterBargeIn(talk) {
  const started = await talk.page.evaluate(() => window.tap.step(window.tap.got.filter((m) => m.type === 'speech_started')[1].clock));
  const steps = loudness(await talk.heard());
  const loudest = Math.max(...steps.subarray(started - 50, started));
  const quiet = (i) => steps.subarray(i, i + 30).every((step) => step < loudest / 50);
  const cut = steps.findIndex((_, i) => i >= started && quiet(i));
  const late = cut < 0 ? Infinity : (cut - started) * 10;
  console.log(`  silent ${late} ms after speech_started`);
  assert.ok(loudest > 100, 'nothing was being said when the user spoke');
  assert.ok(late <= SILENT_WITHIN_MS, `silent only ${late} ms after speech_started`);
}
