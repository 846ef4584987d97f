// A tool that asks first: the card that shows what would be done, by mouse, keyboard and screen reader. What it
// shows may come from anybody, and is only text.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import axe from 'axe-core';

import { engines } from './engines.mjs';
import { startRelay } from './relay.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const HASTE_MS = 600; // a press that comes sooner counts for nothing
const HOSTILE = '<img src=x onerror="window.hit=1"><script>window.hit=1</script>\u202Eevil';
// Firefox takes its look when it starts.
const THEMES = { Chromium: ['light', 'dark'], Firefox: ['dark'] };

/** A folder with a tool that notes what it was run with, and asks first. */
function door(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const tool = {
    name: 'open_door',
    description: `Opens a door of the house. ${HOSTILE}`,
    command: ['sh', '-c', 'cat >>opened; echo done'],
    confirm: 'always',
    parameters: { type: 'object', properties: { which: { type: 'string' } } },
  };
  fs.writeFileSync(path.join(folder, 'door.json'), JSON.stringify(tool));
  const opened = () => {
    const file = path.join(folder, 'opened');
    return fs.existsSync(file) ? fs.readFileSync(file, 'utf8').trim() : '';
  };
  return { env: { VOICELIVED_TOOLS_DIR: folder }, opened };
}

const card = (talk) => talk.page.getByRole('alertdialog', { name: /May the assistant do this: open door/ });
const focused = (talk) => talk.page.evaluate(() => document.activeElement.id);

async function ask(talk, given) {
  await talk.page.locator('#text').fill(`open_door ${JSON.stringify(given)}`);
  await talk.page.locator('#text').press('Enter');
}

/** The same, from a user who has left the field. */
async function askAndLook(talk, given) {
  await ask(talk, given);
  await talk.page.evaluate(() => document.activeElement.blur());
  await card(talk).waitFor();
}

async function answers(talk) {
  return (await talk.sent('confirm')).map(({ allow }) => allow);
}

for (const { name, open } of engines) {
  test(`${name}: what would be done is shown as text, and runs on a yes`, async (t) => {
    const { env, opened } = door(t);
    const { talk } = await open(t, { faults: ['no-welcome'], env });
    await talk.start();
    await talk.begun();
    const given = { which: HOSTILE, loud: true, '<b>how</b>': { often: [1, 2] } };
    await askAndLook(talk, given);
    assert.deepEqual(await talk.page.locator('#asked dt').allTextContents(), Object.keys(given).sort());
    const shown = HOSTILE.replace('\u202e', '\ufffd'); // nothing turns the direction of writing
    assert.deepEqual((await talk.page.locator('#asked dd').allTextContents()).sort(), [shown, '{"often":[1,2]}', 'yes'].sort());
    assert.match(await talk.page.locator('#asked-about').textContent(), /Opens a door of the house\. <img/);
    assert.equal(await talk.page.locator('#asked img, #asked script, #asked b').count(), 0);
    assert.match(await talk.page.locator('#asked-left').textContent(), /^(30|2\d) s left/);
    await looksRight(talk, THEMES[name]);
    await sleep(HASTE_MS);
    await talk.page.getByRole('button', { name: 'Yes, do it' }).click();
    await card(talk).waitFor({ state: 'hidden' });
    await talk.page.locator('#log .tool.done', { hasText: 'open door' }).waitFor();
    assert.deepEqual(JSON.parse(opened()), given);
    assert.deepEqual(await answers(talk), [true]);
    assert.equal(await talk.page.evaluate(() => window.hit), undefined);
    await talk.noComplaints();
  });

  test(`${name}: the keyboard answers, and nothing is answered by accident`, async (t) => {
    const { env, opened } = door(t);
    const { talk } = await open(t, { faults: ['no-welcome'], env });
    await talk.start();
    await talk.begun();
    await talk.page.locator('#talk').focus();
    const type = (text) => talk.page.evaluate((it) => window.tap.socket.send(JSON.stringify({ type: 'text', text: it })), text);
    await type('open_door {"which":"one"}');
    await card(talk).waitFor();
    await type('open_door {"which":"two"}');
    await talk.page.getByText('One more question follows').waitFor();
    // Neither button has the focus, but the card itself, whose words a screen reader reads.
    assert.equal(await focused(talk), 'asked');
    await talk.page.keyboard.press('Enter');
    await talk.page.keyboard.press('Space');
    assert.deepEqual(await answers(talk), []);
    await talk.page.keyboard.press('Tab');
    assert.equal(await focused(talk), 'refuse');
    await talk.page.keyboard.press('Tab');
    assert.equal(await focused(talk), 'allow');
    await sleep(HASTE_MS);
    // The second press is meant for the first question, and meets the next one.
    await talk.page.keyboard.press('Enter');
    await talk.page.evaluate(() => document.getElementById('allow').click());
    await talk.page.locator('#asked dd', { hasText: 'two' }).waitFor();
    assert.deepEqual(await answers(talk), [true]);
    await sleep(HASTE_MS);
    await talk.page.keyboard.press('Escape');
    await card(talk).waitFor({ state: 'hidden' });
    assert.deepEqual(await answers(talk), [true, false]);
    assert.equal(await focused(talk), 'talk', 'the focus is not lost');
    await talk.said('assistant', /The user said no/);
    assert.equal(opened(), '{"which":"one"}');
    assert.notEqual(await talk.page.evaluate(() => document.body.dataset.state), 'idle', 'Escape ended no call');
    await talk.noComplaints();
  });

  test(`${name}: who types is not disturbed, and hears of it; a call's end takes the card away`, async (t) => {
    const { env, opened } = door(t);
    const { talk } = await open(t, { faults: ['no-welcome'], env });
    await talk.start();
    await talk.begun();
    await ask(talk, { which: 'front' });
    await card(talk).waitFor();
    assert.equal(await focused(talk), 'text');
    await talk.page.getByRole('alert').filter({ hasText: 'The answer is given with two buttons' }).waitFor({ state: 'attached' });
    await talk.page.keyboard.type('yes');
    assert.equal(await talk.page.locator('#text').inputValue(), 'yes');
    await sleep(HASTE_MS);
    await talk.page.locator('#talk').click();
    await card(talk).waitFor({ state: 'hidden' });
    assert.deepEqual(await answers(talk), []);
    assert.equal(opened(), '');
    await talk.noComplaints();
  });

  test(`${name}: a line that breaks loses neither question nor answer`, async (t) => {
    const { env, opened } = door(t);
    const relay = await startRelay(t);
    const { talk } = await open(t, { faults: ['no-welcome'], env, relay });
    await talk.start();
    await talk.begun();
    await askAndLook(talk, { which: 'front' });
    relay.cut();
    await until(async () => (await talk.received('confirm')).length > 1, 'it is asked again');
    await card(talk).waitFor();
    const [first, second] = await talk.received('confirm');
    assert.equal(first.id, second.id);
    await sleep(HASTE_MS);
    await talk.page.getByRole('button', { name: 'Yes, do it' }).click();
    await talk.page.locator('#log .tool.done', { hasText: 'open door' }).waitFor();
    assert.equal(opened(), '{"which":"front"}');
  });
}

/** In each theme and at each size: nothing that axe finds, and nothing too wide. */
async function looksRight(talk, themes) {
  for (const colorScheme of themes) {
    await talk.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
    for (const size of [{ width: 320, height: 568 }, { width: 1200, height: 800 }]) {
      await talk.page.setViewportSize(size);
      await talk.page.evaluate(axe.source);
      const { violations } = await talk.page.evaluate(() => window.axe.run());
      assert.deepEqual(violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => html + failureSummary)}`), []);
      assert.equal(await talk.page.evaluate(() => document.documentElement.scrollWidth > innerWidth), false, `${size.width} wide`);
      for (const button of ['#refuse', '#allow']) {
        const box = await talk.page.locator(button).boundingBox();
        assert.ok(box.y >= 0 && box.y + box.height <= size.height, `${button} at ${size.width}: ${JSON.stringify(box)}`);
      }
    }
  }
}
