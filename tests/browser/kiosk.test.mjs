// A kiosk: a call begins by one tap anywhere or by a voice, and ends by silence. No settings are shown.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { engines } from './engines.mjs';
import { page } from './modules.mjs';

globalThis.document ??= {};
const { wishOf } = await page('kiosk.js');

test('what the address says', () => {
  assert.equal(wishOf('?assistant=cook'), null);
  assert.deepEqual(wishOf('?kiosk'), { wake: 0, silence: 20 });
  assert.deepEqual(wishOf('?kiosk&wake=8&silence=30'), { wake: 0.08, silence: 30 });
  for (const odd of ['wake=-1&silence=0', 'wake=x&silence=x', 'wake=101&silence=601']) {
    assert.deepEqual(wishOf(`?kiosk&${odd}`), { wake: 0, silence: 20 }, odd);
  }
});

for (const { name, open } of engines) {
  test(`${name}: a call begins by one tap, or by a voice, and ends by silence`, async (t) => {
    const { talk, daemon } = await open(t, { faults: ['no-welcome'] });
    const shown = talk.page;
    if (name === 'Chromium') await shown.context().grantPermissions(['microphone']);
    await shown.addInitScript(() => window.tap.useVoice());
    await shown.goto(`${daemon.url}?kiosk&wake=10&silence=2`);
    talk.reached = 0;
    await shown.getByText('Speak, or press the button').waitFor();
    for (const id of ['set', 'save', 'typed', 'choice']) assert.equal(await shown.locator(`#${id}`).isVisible(), false, id);
    await shown.locator('#scene').click();
    await talk.state('listening');
    await shown.evaluate(() => window.tap.voice(0));
    await talk.state('idle');
    assert.equal((await talk.sent('hang_up')).length, 1, 'silence has ended it');
    await shown.getByText('Speak, or press the button').waitFor();
    // The page waits for a voice with a microphone of its own.
    await shown.waitForFunction(() => window.tap.tracks.filter((track) => track.readyState === 'live').length === 1);
    const before = await shown.evaluate(() => window.tap.sent.length);
    await shown.evaluate(() => window.tap.voice(0.02));
    await shown.waitForTimeout(400);
    assert.equal((await talk.states()).at(-1), 'idle', 'it is not loud enough');
    assert.equal(await shown.evaluate(() => window.tap.sent.length), before, 'nothing is sent before a call');
    await shown.evaluate(() => window.tap.voice(0.8));
    await talk.state('listening');
    await shown.evaluate(() => window.tap.voice(0.5)); // the call has a microphone of its own
    await shown.waitForTimeout(2500);
    assert.equal((await talk.states()).at(-1), 'listening', 'a voice keeps it');
    await shown.evaluate(() => window.tap.voice(0));
    await talk.state('idle');
    await talk.noComplaints();
  });
}
