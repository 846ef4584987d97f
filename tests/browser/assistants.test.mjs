// Several assistants: the page offers them, asks the daemon for the chosen one, remembers it, and a link carries it.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { engines } from './engines.mjs';
import { test } from './test.mjs';

/** @returns {Record<string, string>} settings of a daemon with two assistants */
function two(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  for (const [name, title] of [['cook', 'Köchin <1>'], ['guide', 'Guide']]) {
    fs.writeFileSync(path.join(folder, `${name}.json`), JSON.stringify({ name, title }));
  }
  return { VOICELIVED_ASSISTANTS_DIR: folder };
}

for (const { name, open } of engines) {
  test(`${name}: an assistant is chosen, remembered, and carried by a link`, async (t) => {
    const { talk, daemon } = await open(t, { env: two(t) });
    const choice = talk.page.getByRole('combobox', { name: 'Assistant' });
    await choice.waitFor();
    assert.deepEqual(await choice.locator('option').allInnerTexts(), ['The usual one', 'Köchin <1>', 'Guide']);
    await choice.selectOption('Köchin <1>');
    await talk.start();
    await talk.state('speaking');
    assert.equal((await talk.received('hello'))[0].assistant, 'cook');
    assert.equal(await choice.isVisible(), false, 'a call keeps its assistant');
    await talk.button.click();
    await choice.waitFor();
    assert.equal(await talk.page.evaluate(() => location.search), '?assistant=cook');
    // Another visit remembers it; a link is stronger.
    await talk.page.goto(daemon.url);
    await choice.waitFor();
    assert.equal(await choice.inputValue(), 'cook');
    await talk.page.goto(`${daemon.url}?assistant=guide`);
    await choice.waitFor();
    assert.equal(await choice.inputValue(), 'guide');
    await choice.selectOption('The usual one');
    assert.equal(await talk.page.evaluate(() => location.search), '');
    await talk.noComplaints();
    // One that there is not is refused in words, and another one can be chosen.
    await talk.page.goto(`${daemon.url}?assistant=nobody`);
    await talk.start();
    await talk.problem(/no assistant nobody here. There is: cook, guide/);
    await choice.selectOption('Guide');
    await talk.start();
    await talk.state('speaking');
    assert.equal((await talk.received('hello')).at(-1).assistant, 'guide');
  });
}
