// A cough into an answer, and then a real turn, in each browser. The simulator takes a short turn for a cough. The
// microphone is a tone: Firefox's suppression of noise lets nothing through of a quarter of a second of noise.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { mirrorSettings } from './mirror.mjs';
import { overhear } from './overhear.mjs';
import { loudness, until } from './sound.mjs';
import { test } from './test.mjs';

const REPLY_SECONDS = 60; // longer than any browser takes for all of this
const COUGH_MS = 1900; // with the silence around it: a busy browser may make 250 ms of tone longer
const AGAIN_MS = 200;

/** The user makes a sound for so long. */
function sound(talk, ms) {
  return talk.page.evaluate(async (time) => {
    window.tap.voice(0.3);
    await new Promise((done) => setTimeout(done, time));
    window.tap.voice(0);
  }, ms);
}

/** Until so much of the reply has been heard, as the page says to the daemon. */
const heardMs = (talk, ms) => until(async () => (await talk.sent('played')).at(-1)?.ms > ms, `${ms} ms of the reply`);

for (const { name, open } of engines) {
  test(`${name}: a cough holds the answer and lets it go on, and a turn cuts it where it was heard`, async (t) => {
    const service = await overhear(t, ['no-welcome', `reply-seconds=${REPLY_SECONDS}`, `cough=${COUGH_MS}`]);
    const env = { ...mirrorSettings(service), VOICELIVED_REVERSIBLE_BARGE_IN: 'on' };
    const { talk } = await open(t, { command: 'run', env });
    await talk.page.evaluate(() => window.tap.useVoice());
    await talk.start();
    await talk.state('listening');
    await sound(talk, 2000);
    await talk.state('speaking');
    await heardMs(talk, 500);

    const before = service.commands.length;
    await sound(talk, 250);
    await talk.state('listening');
    await talk.state('speaking');
    await heardMs(talk, 1000); // so it is also in the recording
    await onlyHeld(talk);
    const asked = service.commands.slice(before).map(({ type }) => type);
    assert.deepEqual(asked, ['conversation.item.delete'], 'the cough alone is forgotten');

    await sound(talk, 2000);
    await talk.state('thinking');
    await cut(talk, service);
    await talk.noComplaints();
  });
}

/** Silent from `hold` to `resume_playback`, and then the last 200 ms once more. */
async function onlyHeld(talk) {
  const [[hold], [on]] = [await talk.received('hold'), await talk.received('resume_playback')];
  const played = await talk.sent('played');
  const stopped = played.filter(({ at }) => at < on.at).at(-1).ms;
  const again = played.find(({ at }) => at >= on.at).ms;
  const silent = silenceWithin(loudness(await talk.heard()));
  console.log(`  held for ${on.at - hold.at} ms, after ${stopped} ms of the answer; it goes on at ${again} ms; ${silent} ms silent`);
  assert.ok(silent > 300, `only ${silent} ms of the hold are silent`);
  assert.ok(Math.abs(stopped - AGAIN_MS - again) < 50, `it goes on at ${again} ms`);
  assert.equal((await talk.received('speech_started')).length, 1, 'of the question alone');
  assert.equal(await talk.page.locator('.turn.assistant .cut').count(), 0);
}

/** @returns {number} the longest silence between two sounds, in ms. A busy browser leaves out a part of what it records. */
function silenceWithin(steps) {
  const most = Math.max(...steps);
  const loud = (step) => step > most / 100;
  const within = steps.subarray(steps.findIndex(loud), steps.findLastIndex(loud));
  let longest = 0;
  let length = 0;
  for (const step of within) {
    length = loud(step) ? 0 : length + 1;
    longest = Math.max(longest, length);
  }
  return longest * 10;
}

/** Dropped, and truncated at what the page says it has played, or a little before. */
async function cut(talk, { commands }) {
  const turn = (await talk.received('speech_started'))[1];
  const heard = (await talk.sent('played')).filter(({ at }) => at < turn.at).at(-1).ms;
  const cuts = commands.filter(({ type }) => type === 'conversation.item.truncate');
  assert.equal(cuts.length, 1);
  console.log(`  a turn after ${heard} ms of the answer; cut at ${cuts[0].audio_end_ms} ms`);
  assert.ok(cuts[0].audio_end_ms <= heard && cuts[0].audio_end_ms > heard - 500);
  assert.equal((await talk.received('resume_playback')).length, 1);
  await talk.page.locator('.turn.assistant .cut').first().waitFor();
}
