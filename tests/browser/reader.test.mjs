// A whole call without mouse and without eyes: by the keyboard, and by what a screen reader says. Chromium's tree of each
// state is compared with the record in trees.txt, and axe-core looks with all its rules.
//
//   RECORD_TREES=1 node --test reader.test.mjs    # writes the record anew; look at what has changed

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';

import axe from 'axe-core';

import { engines } from './engines.mjs';
import { listen, spoken, tree } from './reader.mjs';
import { test } from './test.mjs';

const RECORD = fileURLToPath(new URL('trees.txt', import.meta.url));
const MOST_STEPS = 15;

/** Goes on by Tab until this has the focus. Never beyond the end of the page, where the browser's own buttons are. */
async function tabTo(talk, id, key = 'Tab') {
  const passed = [];
  for (let step = 0; step < MOST_STEPS; step++) {
    await talk.page.keyboard.press(key);
    passed.push(await talk.page.evaluate(() => document.activeElement.id));
    if (passed.at(-1) === id) return;
  }
  assert.fail(`${key} does not lead to ${id}, but to ${passed}`);
}

/** The state as it is now, by its tree and by axe-core. */
function look(talk, states, name) {
  return async (state) => {
    if (name !== 'Chromium') return;
    states.push(`== ${state}\n${await tree(talk)}\n`);
    await talk.page.evaluate(axe.source);
    const found = await talk.page.evaluate(async () => {
      const all = Object.fromEntries(window.axe.getRules().map(({ ruleId }) => [ruleId, { enabled: true }]));
      const { violations } = await window.axe.run({ rules: all });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => html + failureSummary).join(' ')}`);
    });
    assert.deepEqual(found, [], state);
  };
}

/** What a screen reader says of the call below, besides what has the focus. That an answer is thought of and spoken is
 *  not said, since the user hears it. */
const SAID = [
  'Connecting…',
  'Listening',
  'You How is the weather?',
  'get weather: done in N ms',
  /^Assistant \[simulator\]/,
  /^Assistant \[simulator\] .* interrupted$/,
  'Call ended',
];

for (const { name, open } of engines) {
  test(`${name}: a whole call by the keyboard, and what a screen reader says of it`, async (t) => {
    // A real service takes a moment too. Without one, the tool is told about before the daemon's word for the typed turn.
    const { talk } = await open(t, { faults: ['no-welcome', 'reply-seconds=60', 'latency=300'] });
    const { keyboard } = talk.page;
    const states = [];
    const looks = look(talk, states, name);
    await talk.page.getByText(/Simulator:.*not the real model/).waitFor();
    await listen(talk);
    await looks('idle');
    await tabTo(talk, 'talk');
    await keyboard.press('Enter');
    await talk.state('listening');
    await looks('listening');
    await keyboard.press('m');
    await looks('muted');
    await keyboard.press('m');

    await tabTo(talk, 'text', 'Shift+Tab');
    await keyboard.type('How is the weather?');
    await keyboard.press('Enter');
    await talk.page.locator('#log .tool.done').first().waitFor();
    await talk.state('speaking');
    await talk.said('assistant', /./);
    await talk.page.locator('#latency').waitFor();
    await looks('speaking');
    await tabTo(talk, 'interrupt');
    await keyboard.press('Space');
    await talk.state('listening');
    await talk.page.locator('.turn.assistant .cut').waitFor();
    await looks('interrupted');

    await tabTo(talk, 'set', 'Shift+Tab');
    await keyboard.press('Enter');
    await talk.page.getByRole('dialog', { name: 'Settings' }).waitFor();
    await talk.page.locator('#microphone option').nth(2).waitFor({ state: 'attached' });
    if (name === 'Chromium') await talk.page.locator('#loudspeaker option').nth(2).waitFor({ state: 'attached' });
    await looks('settings');
    await tabTo(talk, 'mode-open');
    await keyboard.press('ArrowDown');
    await keyboard.press('ArrowDown');
    await keyboard.press('Escape');
    await talk.page.getByRole('status').filter({ hasText: 'Hold to talk' }).waitFor();
    await looks('push-to-talk');
    await keyboard.press('Escape');
    await talk.state('idle');
    await looks('ended');

    const said = await spoken(talk);
    assert.equal(said.length, SAID.length, JSON.stringify(said));
    for (const [at, words] of SAID.entries()) {
      if (typeof words === 'string') assert.equal(said[at], words);
      else assert.match(said[at], words);
    }
    if (name === 'Chromium') compare(states.join('\n'));
  });
}

/** @param {string} trees of all states */
function compare(trees) {
  if (process.env.RECORD_TREES) fs.writeFileSync(RECORD, trees);
  assert.deepEqual(trees.split('\n'), fs.readFileSync(RECORD, 'utf8').split('\n'));
}
