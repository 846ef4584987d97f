// The conversation to keep: as text or Markdown with times, only when the user asks.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { engines } from './engines.mjs';
import { page } from './modules.mjs';
import { test } from './test.mjs';

const { written } = await page('keep.js');
const at = (second) => new Date(2026, 10, 28, 14, 3, second);
const LINES = [
  { at: at(1), name: 'You', text: 'What is *new* in\n[Ulm]?', mark: '' },
  { at: at(2), name: '', text: 'get weather: done in 8 ms', mark: '' },
  { at: at(3), name: 'Assistant', text: 'It rains.', mark: 'interrupted' },
  { at: at(9), name: '', text: '', mark: '' },
];

test('as text', () => {
  const lines = [
    'voicelived, 28. November 2026',
    '14:03:01 You: What is *new* in [Ulm]?',
    '14:03:02 get weather: done in 8 ms',
    '14:03:03 Assistant: It rains. (interrupted)',
    '---\n',
  ];
  assert.equal(written(LINES, false, 'de'), lines.join('\n'));
});

test('as Markdown, in which no word becomes anything else', () => {
  const lines = [
    '# voicelived, 28. November 2026',
    '14:03:01 **You:** What is \\*new\\* in \\[Ulm\\]?',
    '14:03:02 get weather: done in 8 ms',
    '14:03:03 **Assistant:** It rains. (interrupted)',
    '---\n',
  ];
  assert.equal(written(LINES, true, 'de'), lines.join('\n\n'));
});

for (const { name, open } of engines) {
  test(`${name}: a conversation is copied and saved, and nothing is stored by itself`, async (t) => {
    const { talk } = await open(t);
    const { page: shown } = talk;
    if (name === 'Chromium') await shown.context().grantPermissions(['clipboard-read', 'clipboard-write']);
    const save = shown.getByRole('button', { name: 'Save', exact: true });
    assert.equal(await save.isVisible(), false, 'there is nothing to keep yet');
    await talk.start();
    await talk.welcomed();
    await shown.locator('#text').fill('weather, *please*');
    await shown.locator('#text').press('Enter');
    await talk.said('user', /weather/);
    await talk.said('assistant', /Seattle|weather|°/i);
    await save.click();
    const dialog = shown.getByRole('dialog', { name: 'Conversation' });
    await dialog.getByRole('button', { name: 'Copy' }).click();
    await dialog.getByText('Copied.').waitFor();
    const copied = await shown.evaluate(() => navigator.clipboard.readText());
    assert.match(copied, /^voicelived, .*\n\d\d:\d\d:\d\d.* Assistant: \[simulator\].*\n[^]*You: weather, \*please\*\n/);
    const saved = name === 'Chromium' ? download : handed;
    assert.equal(await saved(shown, dialog, 'Save as text', /^voicelived-\d{4}-\d\d-\d\dT\d{4}\.txt$/), copied);
    const markdown = await saved(shown, dialog, 'Save as Markdown', /\.md$/);
    assert.match(markdown, /^# voicelived, [^]*\*\*You:\*\* weather, \\\*please\\\*\n/);
    await shown.keyboard.press('Escape');
    await dialog.waitFor({ state: 'hidden' });
    assert.notEqual(await shown.locator('body').getAttribute('data-state'), 'idle', 'Escape closed the dialog, not the call');
    const stored = await shown.evaluate(async () => [JSON.stringify(localStorage), sessionStorage.length, (await caches.keys()).length]);
    assert.deepEqual(stored.slice(1), [0, 0]);
    assert.doesNotMatch(stored[0], /weather/);
    await talk.noComplaints();
  });
}

async function download(shown, dialog, button, file) {
  const [download] = await Promise.all([shown.waitForEvent('download'), dialog.getByRole('button', { name: button }).click()]);
  assert.match(download.suggestedFilename(), file);
  return fs.readFileSync(await download.path(), 'utf8');
}

/** The driver does not hear of Firefox's downloads: so what the page hands to the browser is looked at. */
async function handed(shown, dialog, button, file) {
  await shown.evaluate(() => {
    const make = URL.createObjectURL;
    URL.createObjectURL = (blob) => make.call(URL, (window.handed = blob));
    HTMLAnchorElement.prototype.click = function () {
      window.handedAs = this.href.startsWith('blob:') && this.download;
    };
  });
  await dialog.getByRole('button', { name: button }).click();
  const [name, text] = await shown.evaluate(async () => [window.handedAs, await window.handed.text()]);
  assert.match(name, file);
  return text;
}
