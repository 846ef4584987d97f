// A cough into an answer, in each browser: the answer falls silent, and goes on where it stopped. The simulator takes a
// short turn for a cough.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { engines } from './engines.mjs';
import { loudness, RATE_HZ, room } from './sound.mjs';

const wish = {
  env: { VOICELIVED_REVERSIBLE_BARGE_IN: 'on' },
  faults: ['no-welcome', 'reply-seconds=12', 'cough=1200'],
};
const cough = noise(0.25);

/** Loud from its first sample to its last. */
function noise(seconds) {
  return Int16Array.from({ length: seconds * RATE_HZ }, (_, at) => ((at * 7919) % 16000) - 8000);
}

for (const { name, open } of engines) {
  test(`${name}: a cough holds the answer and lets it go on; a turn ends it`, async (t) => {
    const { talk, speak } = await open(t, { ...wish, pieces: [room(3), 'weather', room(5), cough, room(5), 'weather', room(60)] });
    await talk.start();
    await talk.state('listening');
    speak(['weather', room(5), cough, room(5), 'weather', room(1)]);
    await talk.state('thinking');
    await talk.state('speaking');
    await talk.state('listening'); // held
    await talk.state('speaking'); // it goes on
    const [[hold], [on]] = [await talk.received('hold'), await talk.received('resume_playback')];
    const started = (await talk.received('speech_started')).length;
    assert.equal(started, 1, 'the first turn alone');
    await talk.page.waitForFunction(() => window.tap.got.filter((m) => m.type === 'speech_started').length > 1);
    await talk.state('thinking');
    assert.ok(on.at > hold.at);
    const [from, to] = await talk.page.evaluate((times) => times.map((at) => window.tap.step(at)), [hold.at, on.at]);
    const steps = loudness(await talk.heard());
    const loudest = Math.max(...steps.subarray(from - 100, from));
    const quietest = Math.max(...steps.subarray(to - 30, to - 5));
    const again = Math.max(...steps.subarray(to + 30, to + 100));
    console.log(`  held for ${on.at - hold.at} ms; loudness before, held and after: ${loudest}, ${quietest}, ${again}`);
    assert.ok(loudest > 100, 'nothing was being said before the cough');
    assert.ok(quietest < loudest / 50, 'it was not silent');
    assert.ok(again > loudest / 3, 'it did not go on');
    await talk.noComplaints();
  });
}
