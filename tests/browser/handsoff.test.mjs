// Without hands: a headset's button mutes and hangs up, tones tell of a call's begin and end, and Apple's phones are told
// how to keep the page.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { engines } from './engines.mjs';
import { until } from './sound.mjs';

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
}
