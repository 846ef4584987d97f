// Soft tones at the beginning, the end and the loss of a call: heard by the user, never by the service, off by a setting.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { stop } from './daemon.mjs';
import { engines } from './engines.mjs';
import { until } from './sound.mjs';

const TONE_MS = 280;

for (const { name, open } of engines) {
  test(`${name}: tones tell of a call, and no microphone is sent meanwhile`, async (t) => {
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
    const from = await shown.evaluate(() => Date.now());
    await talk.start();
    await talk.state('listening');
    assert.deepEqual(await tones(), [523, 784]);
    await until(async () => (await talk.frames()).some((frame) => frame.peak > 1000), 'the voice');
    const early = (await talk.frames()).filter((frame) => frame.at < from + TONE_MS);
    assert.deepEqual(early.filter((frame) => frame.peak > 0), [], 'silence while the tone sounds');
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
}
