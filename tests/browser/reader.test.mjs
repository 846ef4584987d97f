// A whole call without mouse and without eyes: by the keyboard, and by what a screen reader says. Chromium's tree of each
// state is compared with the record (reader.mjs). states.test.mjs has the states that such a call does not come to.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { listen, spoken, Trees } from './reader.mjs';
import { test } from './test.mjs';

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

/** What a screen reader says of the call below, besides what has the focus. That an answer is thought of and spoken is
 *  not said, since the user hears it. */
const SAID = [
  'Connecting…',
  'Listening',
  'muted', // by its key: the focus is elsewhere
  'microphone on',
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
    const trees = new Trees(talk, 'a whole call');
    const looks = async (state) => name === 'Chromium' && (await trees.look(state));
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
    if (name === 'Chromium') trees.compare();
  });
}
