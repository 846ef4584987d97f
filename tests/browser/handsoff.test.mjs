// Without hands: a headset's button mutes and hangs up, Apple's phones are told how to keep the page, tones tell of a call's
// begin, end and loss, and in a kiosk a tap or a voice begins a call and silence ends it.

import assert from 'node:assert/strict';

import { stop } from './daemon.mjs';
import { engines } from './engines.mjs';
import { page } from './modules.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const { wishOf } = await page('kiosk.js');

test('what the address says of a kiosk', () => {
  assert.equal(wishOf('?assistant=cook'), null);
  assert.deepEqual(wishOf('?kiosk'), { wake: 0, silence: 20 });
  assert.deepEqual(wishOf('?kiosk&wake=8&silence=30'), { wake: 0.08, silence: 30 });
  for (const odd of ['wake=-1&silence=0', 'wake=x&silence=x', 'wake=101&silence=601']) {
    assert.deepEqual(wishOf(`?kiosk&${odd}`), { wake: 0, silence: 20 }, odd);
  }
});

for (const { name, open } of engines) {
  test(`${name}: the system's controls mute and hang up`, async (t) => {
    const { talk } = await open(t);
    await talk.page.addInitScript(() => {
      window.does = {};
      navigator.mediaSession.setActionHandler = (action, react) => (window.does[action] = react);
      navigator.standalone = false;
    });
    await talk.reload();
    await talk.set((dialog) => dialog.getByText('To keep this page on the home screen').waitFor());
    assert.equal(await talk.page.evaluate(() => Object.values(window.does).some(Boolean)), false, 'nothing to do without a call');
    await talk.start();
    await talk.state('speaking');
    const press = (action) => talk.page.evaluate((it) => window.does[it](), action);
    const state = () => talk.page.evaluate(() => navigator.mediaSession.playbackState);
    const muted = async () => (await talk.page.locator('#mute').getAttribute('aria-pressed')) === 'true';
    assert.deepEqual([await state(), await muted()], ['playing', false]);
    for (const [action, on] of [['togglemicrophone', true], ['togglemicrophone', false], ['pause', true], ['play', false]]) {
      await press(action);
      assert.deepEqual([await muted(), await state()], [on, on ? 'paused' : 'playing'], action);
    }
    await press('hangup');
    await talk.state('idle');
    assert.deepEqual([await state(), await talk.page.evaluate(() => Object.values(window.does).some(Boolean))], ['none', false]);
    await talk.noComplaints();
  });

  test(`${name}: tones tell of a call, unless they are switched off`, async (t) => {
    const { talk, daemon } = await open(t, { faults: ['no-welcome'] });
    const shown = talk.page;
    await shown.addInitScript(() => {
      window.tap.useVoice();
      window.tap.level = 0.5; // a microphone that is never silent
      window.shaken = [];
      Navigator.prototype.vibrate = (pattern) => window.shaken.push(pattern.length);
    });
    await talk.reload();
    const tones = () => shown.evaluate(() => window.tap.tones.splice(0).map(Math.round).filter((hertz) => hertz !== 300));
    await talk.start();
    await talk.state('listening');
    assert.deepEqual(await tones(), [523, 784]);
    await until(async () => (await talk.frames()).some((frame) => frame.peak > 1000), 'the voice');
    await talk.button.click();
    await talk.state('idle');
    assert.deepEqual(await tones(), [784, 523]);
    await talk.set((dialog) => dialog.getByRole('checkbox', { name: /Tones/ }).uncheck());
    await talk.start();
    await talk.state('listening');
    assert.deepEqual([await tones(), await shown.evaluate(() => window.shaken)], [[], [1, 3]]);
    await talk.set((dialog) => dialog.getByRole('checkbox', { name: /Tones/ }).check());
    await stop(daemon.child, 'SIGKILL');
    await talk.state('reconnecting');
    assert.deepEqual(await tones(), [330, 330]);
  });

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
    await shown.evaluate(() => {
      window.tap.voice(0.8);
      window.tap.level = 0.5; // of the call's own microphone, which is opened next
    });
    await talk.state('listening');
    await shown.waitForTimeout(3500); // the kiosk looks once a second: silence would have ended it after three
    // Once ended, the voice would begin another one.
    assert.deepEqual((await talk.states()).slice(talk.reached), ['listening'], 'a voice keeps it');
    await shown.evaluate(() => window.tap.voice(0));
    await talk.state('idle');
    await talk.noComplaints();
  });
}
