// Everything but speech that a user can do in a call: type, mute, stop the answer, stop the call.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { engines } from './engines.mjs';
import { loudness, until } from './sound.mjs';
import { test } from './test.mjs';

const MUTE_TAIL_MS = 1500; // a second of silence still goes out, to end the sentence

for (const { name, open } of engines) {
  test(`${name}: a typed turn runs its tools and is answered`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.start();
    await talk.begun();
    const field = talk.page.getByRole('textbox', { name: 'Type instead of speaking' });
    await field.pressSequentially('weather and stock, maybe'); // key by key, as `fill` presses none
    assert.equal(await talk.page.locator('#mute').getAttribute('aria-pressed'), 'false', 'M in a text is a letter');
    await field.press('Enter');
    await talk.state('thinking');
    await talk.said('user', /weather and stock/);
    await talk.page.locator('#log .tool.done', { hasText: /get weather/ }).waitFor();
    await talk.page.locator('#log .tool.done', { hasText: /get stock price/ }).waitFor();
    await talk.state('speaking');
    await talk.page.locator('#log .tool ~ .turn.assistant:not([aria-hidden])', { hasText: /\[simulator\]/ }).waitFor();
    await talk.state('listening');
    await talk.noComplaints();
  });

  test(`${name}: a muted microphone sends nothing, and speaks again when asked to`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.start();
    await talk.begun();
    const at = await talk.now();
    await talk.page.keyboard.press('m');
    const mute = talk.page.getByRole('button', { name: 'Mute', pressed: true });
    await mute.waitFor();
    assert.deepEqual(await talk.page.evaluate(() => window.tap.tracks.map((track) => track.enabled)), [false]);
    await sleep(MUTE_TAIL_MS);
    const muted = await frames(talk);
    const silence = (await talk.frames(at)).filter(({ peak }) => peak === 0).length;
    assert.ok(silence >= 40, `${silence} frames of silence end the sentence`);
    await sleep(1000);
    assert.equal(await frames(talk), muted);
    await mute.click();
    await until(async () => (await frames(talk)) > muted + 10, 'microphone frames');
    await talk.noComplaints();
  });

  test(`${name}: an answer can be stopped without a word`, async (t) => {
    const { talk } = await open(t);
    await talk.start();
    await talk.state('speaking');
    await until(async () => loudness(await talk.heard()).some((step) => step > 100), 'the welcome');
    await talk.page.getByRole('button', { name: 'Stop the answer' }).click();
    await talk.state('listening');
    const interrupts = await talk.sent('interrupt');
    assert.equal(interrupts.length, 1);
    await talk.page.locator('.turn.assistant .cut').waitFor();
    await sleep(1500);
    const steps = loudness(await talk.heard());
    const after = steps.subarray((await talk.page.evaluate((when) => window.tap.step(when), interrupts[0].clock)) + 50);
    assert.ok(after.length > 50, 'the recording goes on');
    assert.ok(Math.max(...after) < 10, 'the welcome went on');
    await playedIsPlausible(talk);
    await talk.noComplaints();
  });

  test(`${name}: stopping the call releases the microphone and the line`, async (t) => {
    const { talk, daemon } = await open(t, { env: { VOICELIVED_MAX_SESSIONS: '1' } }); // one line, so it shows
    await talk.page.locator('#picture').click(); // it looks like a button
    await talk.state('speaking');
    await talk.page.locator('#picture').click(); // and ends nothing
    await talk.page.getByRole('button', { name: 'End call' }).click();
    await talk.state('idle');
    await hungUp(talk);
    assert.equal(await talk.page.evaluate(() => document.activeElement.textContent), 'Start Talking');
    await talk.start(); // and once more, with the same button
    await talk.state('speaking');
    await talk.page.keyboard.press('Escape');
    await talk.state('idle');
    await hungUp(talk);
    assert.equal(daemon.child.exitCode, null);
    await talk.noComplaints();
  });
}

async function frames(talk) {
  return (await talk.frames()).length;
}

async function hungUp(talk) {
  const { tracks, last } = await talk.page.evaluate(() => ({
    tracks: window.tap.tracks.map((track) => track.readyState),
    last: window.tap.sent.at(-1).type,
  }));
  assert.deepEqual([...new Set(tracks)], ['ended']);
  assert.equal(last, 'hang_up');
}

/** The daemon was told how much was heard, rising and never more than the time that has passed. */
async function playedIsPlausible(talk) {
  const reports = (await talk.sent('played')).map(({ ms, at }) => ({ ms, at }));
  const since = (await talk.received('response_started'))[0].at;
  assert.ok(reports.length > 0);
  for (const [i, { ms, at }] of reports.entries()) {
    assert.ok(ms >= (reports[i - 1]?.ms ?? 0), JSON.stringify(reports));
    assert.ok(ms <= at - since + 100, JSON.stringify({ reports, since }));
  }
}
