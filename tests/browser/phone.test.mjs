// What phones do to a page, by stand-ins: a tab that rests in the back for ten minutes, and what only iOS does, as Apple and
// WebKit document it. A stand-in shows what the page makes of it. It is no proof for a real iPhone: docs/phone.md has
// what to try by hand. The stand-in for an interruption (AudioContext state `interrupted`) is in in-node/context.test.mjs and
// microphone.test.mjs.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { asks, calm } from './joining.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const problem = (talk) => talk.page.locator('#problem').textContent();

/** Changes the page before its own scripts run. */
async function prepared(t, change) {
  const { talk } = await engines[0].open(t);
  await talk.page.addInitScript(change);
  await talk.reload();
  return talk;
}

for (const { name, open } of engines) {
  test(`${name}: a tab that rested for ten minutes goes on with its call`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.page.clock.install(); // stands in for timers that rest with the tab
    await talk.reload();
    await talk.start();
    await talk.begun();
    await talk.page.evaluate(() => window.tap.hide(true));
    await talk.problem(/sound is paused/i);
    await talk.page.clock.fastForward('10:00'); // what was due comes once, late
    await talk.page.evaluate(() => window.tap.hide(false));
    await until(async () => (await problem(talk)) === '', 'no more problem');
    assert.equal(await talk.page.evaluate(() => window.tap.context.state), 'running');
    const since = await talk.now();
    await until(async () => (await talk.frames(since)).length > 10, 'microphone frames');
    await asks(talk, 'Are you still there?');
    const [first, last] = [(await talk.received('hello'))[0], (await talk.received('hello')).at(-1)];
    assert.equal(last.session, first.session, 'it is the same call');
    assert.equal(await talk.page.locator('#log .divider').count(), 0);
    await calm(talk);
  });
}

test('Stand-in for Apple’s audio session: it is for play and record in a call, so that neither earpiece nor silent switch decides', async (t) => {
  const talk = await prepared(t, () => {
    window.session = ['auto'];
    const audioSession = { set type(kind) { window.session.push(kind); }, get type() { return window.session.at(-1); } };
    Object.defineProperty(navigator, 'audioSession', { value: audioSession });
    const ask = navigator.mediaDevices.getUserMedia;
    navigator.mediaDevices.getUserMedia = function (wish) {
      window.session.push('microphone');
      return ask.call(this, wish);
    };
  });
  await talk.start();
  await talk.begun();
  await talk.page.keyboard.press('Escape');
  await talk.state('idle');
  assert.deepEqual(await talk.page.evaluate(() => window.session), ['auto', 'play-and-record', 'microphone', 'auto']);
  await talk.noComplaints();
});

test('Stand-in for a home-screen app: it asks for the microphone anew, and a no is no end', async (t) => {
  const talk = await prepared(t, () => {
    const ask = navigator.mediaDevices.getUserMedia;
    let answers = ['no'];
    navigator.mediaDevices.getUserMedia = function (wish) {
      const words = 'The request is not allowed by the user agent or the platform in the current context, possibly because the user denied permission.';
      return answers.pop() ? Promise.reject(new DOMException(words, 'NotAllowedError')) : ask.call(this, wish);
    };
  });
  await talk.start();
  await talk.problem(/microphone is blocked.*settings/is);
  await talk.page.getByRole('button', { name: 'Start Talking' }).waitFor();
  await talk.start();
  await talk.welcomed();
  assert.equal(await problem(talk), '');
  await calm(talk);
});

test('Stand-in for AirPods that are put in and taken out: the call goes on, and its sound does not stop', async (t) => {
  const { talk } = await engines[0].open(t, { faults: ['no-welcome'] });
  await talk.start();
  await talk.begun();
  for (const change of ['in', 'out']) {
    const tracks = await talk.page.evaluate(() => {
      const track = window.tap.tracks.at(-1); // WebKit ends it, then tells that the devices have changed
      track.stop();
      track.dispatchEvent(new Event('ended'));
      navigator.mediaDevices.dispatchEvent(new Event('devicechange'));
      return window.tap.tracks.length;
    });
    await until(() => talk.page.evaluate((before) => window.tap.tracks.length > before, tracks), `another microphone, ${change}`);
    const since = await talk.now();
    await until(async () => (await talk.frames(since)).length > 10, `microphone frames, ${change}`);
  }
  await asks(talk, 'Do you hear me?');
  assert.equal(await talk.page.evaluate(() => window.tap.tracks.filter(({ readyState }) => readyState === 'live').length), 1);
  await calm(talk);
});
