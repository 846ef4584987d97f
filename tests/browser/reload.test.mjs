// The page is loaded again in the middle of a call: the call goes on with its captions. The secret for it lies in the tab
// only meanwhile, and in no address of the page.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { asks } from './joining.mjs';
import { test } from './test.mjs';

for (const { name, open } of engines) {
  test(`${name}: a reload takes the call up again with its captions`, async (t) => {
    const { talk, daemon } = await open(t, { faults: ['no-welcome'] });
    const shown = talk.page;
    await talk.start();
    await talk.begun();
    await asks(talk, 'Do you know me?');
    await talk.state('speaking');
    await talk.state('listening');
    const first = (await talk.received('hello'))[0];
    const log = () => shown.locator('#log .turn').allInnerTexts();
    const before = await log();
    await talk.reload();
    await talk.state('listening');
    const again = (await talk.received('hello'))[0];
    assert.deepEqual([again.resumed, again.session], [true, first.session]);
    assert.notEqual(again.resume, first.resume);
    assert.deepEqual(await log(), before);
    assert.equal(await shown.locator('#log .divider').count(), 0);
    const left = await shown.evaluate(() => [sessionStorage.length, location.href + JSON.stringify(localStorage)]);
    assert.equal(left[0], 0);
    assert.ok(!left[1].includes(first.resume) && !daemon.log().includes(first.resume), 'the secret');
    await asks(talk, 'And now?');
    // In the middle of an answer: what could not be heard is cut off.
    await shown.locator('#text').fill('A long answer, please.');
    await shown.locator('#text').press('Enter');
    await talk.state('speaking');
    await talk.reload();
    await talk.state('listening');
    await asks(talk, 'Still there?');
    // The user hangs up: the next page begins nothing.
    await talk.button.click();
    await talk.state('idle');
    await talk.reload();
    await shown.waitForTimeout(300);
    assert.deepEqual(await talk.states(), ['idle']);
    await talk.noComplaints();
  });

  test(`${name}: what is too old, or no call of the daemon, is not taken up`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    const shown = talk.page;
    const leave = (age) => {
      const held = { secret: '0'.repeat(32), seconds: 30, received: 0, messages: 3 };
      const row = { kind: 'turn user', at: String(Date.now()), parts: [['who', 'You'], ['text', '<b>Hello</b>']], text: '' };
      return shown.evaluate((left) => sessionStorage.setItem('voicelived', JSON.stringify(left)), { at: Date.now() - age, held, log: [row] });
    };
    await leave(31000);
    await talk.reload();
    await shown.waitForTimeout(300);
    assert.deepEqual([await talk.states(), await shown.locator('#log .turn').count()], [['idle'], 0]);
    await leave(1000);
    await talk.reload();
    await talk.state('listening');
    await shown.locator('#log .divider', { hasText: 'New call' }).waitFor();
    assert.match((await shown.locator('#log .turn').allInnerTexts())[0], /<b>Hello<\/b>/, 'as text');
    assert.equal(await shown.evaluate(() => sessionStorage.length), 0);
  });
}
