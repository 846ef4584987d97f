// Devices: chosen in the settings, remembered, lost and found again; and what a phone does to a page.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const select = (talk, name) => talk.page.getByRole('combobox', { name });
const problem = (talk) => talk.page.locator('#problem').textContent();

/** Speech goes on leaving the page. */
async function framesFlow(talk) {
  const since = await talk.now();
  await until(async () => (await talk.frames(since)).length > 10, 'microphone frames');
}

/** Loses the microphone as browsers tell it: by an event of the track. */
function lose(talk) {
  return talk.page.evaluate(() => {
    const track = window.tap.tracks.at(-1);
    track.stop();
    track.dispatchEvent(new Event('ended'));
  });
}

function openTracks(talk) {
  return talk.page.evaluate(() => window.tap.tracks.filter((t) => t.readyState === 'live').map((t) => t.label));
}

for (const { name, open } of engines) {
  test(`${name}: the microphone is chosen before and in a call, by key and mouse, and remembered`, async (t) => {
    const { talk } = await open(t);
    const { page } = talk;
    await page.locator('#set').focus();
    await page.keyboard.press('Enter');
    const dialog = page.getByRole('dialog', { name: 'Settings' });
    await dialog.waitFor();
    const names = page.getByRole('button', { name: 'Show all devices' });
    await page.waitForTimeout(300);
    if (await names.isVisible()) await names.press('Enter'); // Firefox names none before that
    await select(talk, 'Microphone').locator('option').nth(2).waitFor({ state: 'attached' });
    assert.deepEqual(await openTracks(talk), [], 'nothing stays open');
    await select(talk, 'Microphone').focus();
    await page.keyboard.press('ArrowDown');
    const first = await chosen(talk);
    assert.notEqual(first, 'The system’s choice');
    await page.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.equal(await page.evaluate(() => document.activeElement.id), 'set');

    await talk.start();
    await talk.state('speaking');
    assert.deepEqual(await openTracks(talk), [first]);
    await page.locator('#set').click();
    const others = await select(talk, 'Microphone').locator('option').allTextContents();
    const second = others.find((other) => ![first, 'The system’s choice'].includes(other));
    await select(talk, 'Microphone').selectOption(second);
    await until(async () => (await openTracks(talk)).join() === second, `${second} alone`);
    await page.keyboard.press('Escape'); // closes the settings, not the call
    await dialog.waitFor({ state: 'hidden' });
    await framesFlow(talk);
    assert.equal(await talk.button.textContent(), 'End call');
    await page.keyboard.press('Escape');
    await talk.state('idle');

    await talk.reload();
    await talk.start();
    await until(async () => (await openTracks(talk)).join() === second, `${second} after a reload`);
    await talk.noComplaints();
  });

  test(`${name}: a call outlives a lost microphone, a sleeping tab and a lost service`, async (t) => {
    const { talk } = await open(t);
    const { page } = talk;
    await talk.start();
    await talk.state('speaking');
    await framesFlow(talk);
    await lose(talk); // another one takes its place at once
    await framesFlow(talk);
    await until(async () => (await problem(talk)) === '', 'no more problem');

    await page.evaluate(() => (window.tap.unplugged = true));
    await lose(talk);
    await talk.problem(/microphone was disconnected/i);
    await page.evaluate(() => {
      window.tap.unplugged = false;
      navigator.mediaDevices.dispatchEvent(new Event('devicechange'));
    });
    await framesFlow(talk);
    await until(async () => (await problem(talk)) === '', 'no more problem');

    await gone(talk); // the list is all that tells
    await framesFlow(talk);

    const locks = () => page.evaluate(() => window.tap.locks.map((lock) => (lock.released ? 'released' : 'held')));
    assert.deepEqual(await locks(), ['held']);
    await page.evaluate(() => window.tap.hide(true));
    await talk.problem(/sound is paused/i);
    await page.evaluate(() => window.tap.hide(false));
    await framesFlow(talk);
    await until(async () => (await problem(talk)) === '', 'no more problem');
    await until(async () => (await locks()).join() === 'released,held', 'the screen to be kept on again');
    assert.equal(await page.evaluate(() => window.tap.context.state), 'running');

    await service(talk, { state: 'reconnecting', reason: 'service_lost', message: 'The service went away; one moment.' });
    await page.getByRole('status').filter({ hasText: 'Connecting again' }).waitFor();
    await page.getByText('The service went away').waitFor();
    await service(talk, { state: 'active' });
    await talk.state('listening');

    await page.keyboard.press('Escape');
    await talk.state('idle');
    await until(async () => (await locks()).join() === 'released,released', 'the screen to be let go');
    assert.deepEqual(await openTracks(talk), []);
    await talk.noComplaints();
  });
}

test('Chromium: the loudspeaker is chosen in a call, remembered, and replaced while it is away', async (t) => {
  const { talk } = await engines[0].open(t);
  const aim = () => talk.page.evaluate(() => window.tap.context.sinkId);
  await talk.start();
  await talk.state('speaking');
  await talk.set(async () => {
    await select(talk, 'Loudspeaker').selectOption('Fake Audio Output 2');
    await until(aim, 'another loudspeaker');
  });
  const id = await aim();
  await talk.page.keyboard.press('Escape');
  await talk.reload();
  await talk.start();
  await talk.state('speaking');
  await until(async () => (await aim()) === id, 'the remembered loudspeaker');
  await devices(talk, 'audiooutput', id);
  await talk.problem(/chosen loudspeaker is not connected/i);
  assert.equal(await aim(), '');
  await devices(talk, 'audiooutput', null);
  await until(async () => (await aim()) === id && (await problem(talk)) === '', 'the loudspeaker again');
  await talk.noComplaints();
});

test('Firefox: the loudspeaker is chosen in a call, and remembered', async (t) => {
  const { talk, pulse } = await engines[1].open(t);
  const plays = (name) => until(() => pulse.inUse().includes(name), `sound on ${name}`);
  const choose = (label) => talk.set(() => select(talk, 'Loudspeaker').selectOption(label));
  await talk.start();
  await talk.state('speaking');
  await plays('speaker');
  await talk.page.getByRole('button', { name: 'Settings' }).click();
  await talk.page.getByRole('button', { name: 'Choose a loudspeaker…' }).waitFor();
  await talk.page.getByText('cancels no echo').waitFor();
  await talk.page.keyboard.press('Escape');
  await choose('Headphones');
  await plays('headphones');
  await choose('The system’s choice');
  await until(() => !pulse.inUse().includes('headphones'), 'silence on the headphones');
  await choose('Headphones');
  await talk.page.keyboard.press('Escape'); // a call that goes on would be taken up again
  await talk.state('idle');
  await talk.reload();
  await talk.start();
  await talk.state('speaking');
  await plays('headphones');
  assert.equal(await problem(talk), '');
  await talk.noComplaints();
});

test('Chromium: a microphone that falls silent for ever, without a word, is looked for again', async (t) => {
  const { talk } = await engines[0].open(t);
  await talk.start();
  await talk.state('speaking');
  await framesFlow(talk);
  await talk.page.evaluate(() => window.tap.source.disconnect());
  await until(async () => (await talk.page.evaluate(() => window.tap.tracks.length)) === 2, 'another try');
  await framesFlow(talk);
  await talk.noComplaints();
});

async function chosen(talk) {
  return select(talk, 'Microphone').evaluate((list) => list.selectedOptions[0].textContent);
}

/** The open microphone is not in the list any more; a new attempt gets one that is. */
async function gone(talk) {
  const tracks = await talk.page.evaluate(() => window.tap.tracks.length);
  await devices(talk, 'audioinput', await talk.page.evaluate(() => window.tap.tracks.at(-1).getSettings().deviceId));
  await until(() => talk.page.evaluate((n) => window.tap.tracks.length > n, tracks), 'another microphone');
  await devices(talk, 'audioinput', null);
}

/** Devices change: one is away, or all are there. @param {string|null} away */
function devices(talk, kind, away) {
  return talk.page.evaluate(
    ([ofKind, id]) => {
      const { mediaDevices } = navigator;
      delete mediaDevices.enumerateDevices;
      const all = mediaDevices.enumerateDevices.bind(mediaDevices);
      const without = async () => (await all()).filter((device) => device.kind !== ofKind || device.deviceId !== id);
      if (id) mediaDevices.enumerateDevices = without;
      mediaDevices.dispatchEvent(new Event('devicechange'));
    },
    [kind, away],
  );
}

/** A word of the daemon about the call. */
function service(talk, words) {
  const data = JSON.stringify({ type: 'call_state', ...words });
  return talk.page.evaluate((text) => void window.tap.socket.dispatchEvent(new MessageEvent('message', { data: text })), data);
}
