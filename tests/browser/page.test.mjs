// How the page presents itself: accessible in each state and theme, no sideways scrolling on a small phone,
// nothing blocked by its own content security policy.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import { test } from 'node:test';

import { engines } from './engines.mjs';

const AXE = fs.readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8');
const SIZES = [
  { width: 320, height: 568 },
  { width: 1200, height: 800 },
];

for (const { name, open } of engines) {
  test(`${name}: accessible and never too wide, in every state`, async (t) => {
    const { talk } = await open(t);
    await looksRight(talk, 'idle');
    await talk.start();
    await talk.state('speaking');
    await looksRight(talk, 'speaking');
    await talk.state('listening');
    await looksRight(talk, 'listening');
    await talk.page.locator('#text').fill('weather and a-very-long-word-'.repeat(8));
    await talk.page.locator('#text').press('Enter');
    await talk.page.locator('#log .tool.done').first().waitFor();
    await talk.page.keyboard.press('Control+Home');
    await looksRight(talk, 'a conversation');
    await talk.page.evaluate(() => (document.getElementById('problem').textContent = 'Something is wrong. '.repeat(6)));
    await looksRight(talk, 'a problem');
    await talk.noComplaints();
  });

  test(`${name}: the simulator is named as such before and in a call`, async (t) => {
    const { talk } = await open(t);
    await talk.page.getByText(/Simulator:.*not the real model/).waitFor();
    await talk.noComplaints();
  });
}

test('Chromium: it stands still where motion is unwelcome, and moves where it is not', async (t) => {
  const { talk } = await engines[0].open(t);
  await talk.start();
  await talk.welcomed();
  assert.notDeepEqual(await picture(talk), await picture(talk));
  await talk.page.emulateMedia({ reducedMotion: 'reduce' });
  await talk.page.waitForTimeout(300);
  assert.deepEqual(await picture(talk), await picture(talk));
});

async function looksRight(talk, state) {
  for (const size of SIZES) {
    await talk.page.setViewportSize(size);
    for (const colorScheme of ['light', 'dark']) {
      await talk.page.emulateMedia({ colorScheme, reducedMotion: 'reduce' });
      await accessible(talk, `${state}, ${colorScheme}, ${size.width} px`);
    }
    const wide = await talk.page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
    assert.ok(wide <= 0, `${state} at ${size.width} px is ${wide} px too wide`);
  }
}

/** Evaluated, not added as a script: the page's own policy forbids foreign scripts. */
async function accessible(talk, where) {
  if (!(await talk.page.evaluate(() => 'axe' in window))) await talk.page.evaluate(AXE);
  const found = await talk.page.evaluate(async () => {
    const { violations } = await window.axe.run();
    return violations.map(({ id, nodes }) => `${id}: ${nodes.map((node) => node.html + node.failureSummary).join(' ')}`);
  });
  assert.deepEqual(found, [], where);
}

function picture(talk) {
  return talk.page.evaluate(async () => {
    await new Promise((resolve) => setTimeout(resolve, 200));
    return document.getElementById('picture').toDataURL();
  });
}
