// Push-to-talk and the end of the turn: with a service that hears ends of turns, and with one that waits for them.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { engines } from './engines.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

/** The settings of a daemon whose service finds no ends of turns; the model's transcriber works without. */
function manual(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const file = path.join(folder, 'session.json');
  fs.writeFileSync(file, '{"turn_detection": null}');
  return { AZURE_VOICE_LIVE_SESSION_FILE: file, VOICE_LIVE_MODEL: 'gpt-realtime' };
}

async function talkFor(talk, ms) {
  await talk.page.locator('#stage').click(); // no field has the focus
  await talk.page.keyboard.down(' ');
  await sleep(ms);
  await talk.page.keyboard.up(' ');
}

async function answered(talk, turns) {
  const done = async () => (await talk.received('response_done')).length;
  await until(async () => (await done()) >= turns, 'an answer');
  await talk.state('listening');
}

for (const { name, open } of engines) {
  test(`${name}: a service that waits for the end of a turn gets it from the button, whatever was chosen`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'], env: manual(t) });
    await talk.page.evaluate(() => window.tap.useVoice());
    await talk.start();
    await talk.begun();
    await talk.page.getByText('Hold the button or the space bar').waitFor();
    await talk.page.getByRole('button', { name: 'Hold to talk' }).waitFor();
    assert.equal(await talk.page.getByRole('button', { name: 'Mute' }).isVisible(), false);
    await talk.page.evaluate(() => window.tap.voice(0.3));
    for (const turn of [1, 2]) {
      await talkFor(talk, 1200);
      await answered(talk, turn);
      assert.equal((await talk.sent('end_turn')).length, turn);
    }
    await talk.said('user', /\[simulator\]/);
    const [end] = await talk.sent('end_turn');
    await sleep(500);
    const [next] = await talk.frames(end.at + 1);
    const [second] = (await talk.sent('end_turn')).slice(1);
    assert.ok(!next || next.at < second.at, 'frames belong to a turn');
    const silent = (await talk.frames()).filter(({ at, peak }) => at > second.at && peak === 0);
    assert.equal(silent.length, 0, 'no silence is sent to a service that waits');
    await talk.noComplaints();
  });

  test(`${name}: with push-to-talk the page says when the turn is over`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.page.evaluate(() => window.tap.useVoice());
    await talk.set((dialog) => dialog.getByRole('radio', { name: 'only while I hold' }).check());
    await talk.start();
    await talk.begun();
    await talk.page.evaluate(() => window.tap.voice(0.3));
    await talkFor(talk, 1200);
    await answered(talk, 1);
    const ends = await talk.sent('end_turn');
    assert.equal(ends.length, 1);
    const last = (await talk.frames()).findLast(({ peak }) => peak > 2000);
    assert.ok(ends[0].at >= last.at, 'behind the last words');
    await talk.noComplaints();
  });
}
