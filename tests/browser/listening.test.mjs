// When the microphone listens: half-duplex and push-to-talk, judged by the samples that leave the page.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { engines } from './engines.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const LOUD = 2000; // of 32768; the tone has 9800
const loud = (frames) => frames.filter(({ peak }) => peak > LOUD).length;
const holdButton = (talk) => talk.page.getByRole('button', { name: 'Hold to talk' });

/** The page with the settings made and a microphone that hears a tone when told. */
async function begin(t, open, mode) {
  const scene = await open(t);
  await scene.talk.page.evaluate(() => window.tap.useVoice());
  await scene.talk.set((dialog) => dialog.getByRole('radio', { name: mode }).check());
  return scene.talk;
}

function voice(talk, level) {
  return talk.page.evaluate((to) => void window.tap.voice(to), level);
}

/** Speech reached the service, and its end too. */
async function turnTaken(talk) {
  await until(async () => (await talk.received('speech_stopped')).length > 0, 'the end of the turn');
}

for (const { name, open } of engines) {
  test(`${name}: half-duplex sends nothing of what it hears while an answer plays`, async (t) => {
    const talk = await begin(t, open, 'not while an answer plays');
    await talk.start();
    await talk.state('speaking');
    await voice(talk, 0.3);
    await talk.state('listening');
    await turnBegun(talk);
    await until(async () => loud(await talk.frames()) > 10, 'an open microphone');
    await voice(talk, 0);
    await turnTaken(talk);

    const [from, to] = await whilePlaying(talk);
    const frames = await talk.frames();
    const meanwhile = frames.filter(({ at }) => at > from && at <= to + 300);
    assert.equal(loud(meanwhile), 0, 'sound left while the answer was heard');
    assert.equal(meanwhile.some(({ peak }) => peak > 0), false, 'not even faintly');
    assert.ok(meanwhile.length <= 51, `${meanwhile.length} frames of silence are no more than a second's`);
    const [speech] = await talk.received('speech_started');
    assert.ok(speech.at > to, 'the answer was not interrupted');
    assert.equal(await talk.page.locator('.cut').count(), 0);
    await talk.noComplaints();
  });

  test(`${name}: push-to-talk by space bar, mouse and Enter sends only what is held`, async (t) => {
    const talk = await begin(t, open, 'only while I hold');
    const { keyboard, mouse } = talk.page;
    await talk.start();
    await talk.state('speaking');
    await voice(talk, 0.3);
    await sleep(500);
    assert.deepEqual(await talk.frames(), [], 'nothing was held');

    await keyboard.down('Space'); // the focus is on End call, which it must not press
    await talk.page.locator('.turn.assistant .cut').waitFor(); // nor talk over the welcome
    await talk.page.getByText('Listening', { exact: true }).waitFor();
    await turnBegun(talk);
    await keyboard.up('Space');
    const released = await talk.now();
    await turnTaken(talk);
    await talk.said('user', /seconds of speech/);
    const after = await talk.frames(released + 100);
    assert.equal(loud(after), 0, 'released is released');
    assert.ok(after.filter(({ peak }) => peak === 0).length > 10, 'silence ends the turn');
    assert.equal(await talk.button.textContent(), 'End call');

    await holds(talk, async () => (await grasp(talk), mouse.down()), () => mouse.up());
    await holds(talk, () => keyboard.press('Enter'), () => keyboard.press('Enter')); // the focus is there now
    await holds(talk, () => keyboard.down('Space'), () => talk.page.evaluate(() => dispatchEvent(new Event('blur'))));
    await keyboard.up('Space');

    await quiet(talk);
    await talk.page.locator('#text').focus();
    const typing = await talk.now();
    await keyboard.type('a b ');
    await keyboard.down('Space');
    await sleep(300);
    await keyboard.up('Space');
    assert.match(await talk.page.locator('#text').inputValue(), /^a b {2,}$/);
    assert.equal(loud(await talk.frames(typing)), 0, 'spaces in a text are no speech');

    await talk.set((dialog) => dialog.getByRole('radio', { name: 'at any time' }).check());
    await until(async () => loud(await talk.frames(typing)) > 10, 'an open microphone');
    assert.equal(await holdButton(talk).isVisible(), false);
    await talk.noComplaints();
  });
}

test('Chromium: what is said before the socket is open is kept, the last two seconds of it', async (t) => {
  const talk = await begin(t, engines[0].open, 'at any time');
  await talk.page.evaluate(() => {
    window.tap.openLate = 4000;
    window.tap.level = 0.3;
  });
  await talk.start();
  const seconds = (frames) => frames.reduce((sum, { bytes }) => sum + bytes, 0) / 48000;
  await until(async () => seconds(await talk.frames()) > 2.5, 'frames');
  const frames = await talk.frames();
  const held = frames.filter(({ at }) => at <= frames[0].at + 200); // a busy machine sends them with pauses
  assert.ok(seconds(held) >= 1.97 && seconds(held) <= 2.3, `${seconds(held)} s`);
  assert.equal(loud(held), held.length);
  const rates = await talk.page.evaluate(() => [window.tap.context.sampleRate, new AudioContext().sampleRate]);
  assert.equal(rates[0], rates[1], 'at the rate of the device');
});

test('Chromium: push-to-talk by a finger', async (t) => {
  const talk = await begin(t, engines[0].open, 'only while I hold');
  await talk.start();
  await talk.state('connecting');
  await holdButton(talk).waitFor();
  await voice(talk, 0.3);
  const { x, y } = await grasp(talk);
  const session = await talk.page.context().newCDPSession(talk.page);
  const touch = (type, touchPoints) => session.send('Input.dispatchTouchEvent', { type, touchPoints });
  await holds(talk, () => touch('touchStart', [{ x, y }]), () => touch('touchEnd', []));
  await talk.noComplaints();
});

/** Puts the mouse on the button. */
async function grasp(talk) {
  const box = await holdButton(talk).boundingBox();
  const at = { x: box.x + box.width / 2, y: box.y + box.height / 2 };
  await talk.page.mouse.move(at.x, at.y);
  return at;
}

/** Speech leaves from `press` on, and ends with `release`. */
async function holds(talk, press, release) {
  await quiet(talk);
  const pressed = await talk.now();
  await press();
  await until(async () => loud(await talk.frames(pressed)) > 10, 'held speech');
  assert.equal(await holdButton(talk).getAttribute('aria-pressed'), 'true');
  await release();
  await quiet(talk);
  assert.equal(await holdButton(talk).getAttribute('aria-pressed'), 'false');
}

/** No more speech leaves the page. */
async function quiet(talk) {
  await until(async () => loud(await talk.frames((await talk.now()) - 200)) === 0, 'silence');
}

async function turnBegun(talk) {
  await until(async () => (await talk.received('speech_started')).length > 0, 'the service to hear speech');
}

/** From when to when the first answer was heard, as the page told the daemon: it says so when playing starts and
 *  ends. An answer may pause; what matters here is its whole. */
async function whilePlaying(talk) {
  const [speech] = await talk.received('speech_started');
  const reports = (await talk.sent('played')).filter(({ at }) => at < speech.at);
  assert.ok(reports.length > 3, 'the welcome was heard');
  return [reports[0].at, reports.at(-1).at];
}
