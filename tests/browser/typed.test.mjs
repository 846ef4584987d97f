// What the user types: shown as said when the daemon has taken it, and kept in the field when it has not.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { test } from './test.mjs';

const field = (talk) => talk.page.getByRole('textbox', { name: 'Type instead of speaking' });
const said = (talk) => talk.page.locator('#log .turn.user, #log .place:visible').allTextContents();

async function send(talk, text) {
  await field(talk).fill(text);
  await field(talk).press('Enter');
}

for (const { name, open } of engines) {
  test(`${name}: three thousand Chinese characters are taken, and what is too long stays in the field`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.start();
    await talk.begun();
    const text = '中'.repeat(3000);
    await send(talk, text);
    await talk.said('user', new RegExp(text));
    assert.equal(await field(talk).inputValue(), '');
    await talk.state('speaking');

    const long = '😀'.repeat(4097);
    await field(talk).focus();
    await talk.page.keyboard.insertText(long); // as a paste does
    await field(talk).press('Enter');
    await talk.problem(/too long: it may have 8192 characters, and has 8194/);
    assert.equal(await field(talk).inputValue(), long);
    assert.equal((await said(talk)).some((line) => line.includes('😀')), false);
    await send(talk, '😀'.repeat(4096));
    await talk.said('user', /(😀){4096}/u);
    assert.doesNotMatch(await talk.page.locator('#problem').textContent(), /too long/);
    await talk.noComplaints();
  });

  test(`${name}: a second typed turn sent before the first is taken follows it, and one sent twice is said once`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.start();
    await talk.begun();
    // A slow way back: what the daemon says waits until the test lets it come.
    await talk.page.evaluate(() => {
      const { socket } = window.tap;
      const { onmessage } = socket;
      const waiting = [];
      window.tap.slow = true;
      window.tap.come = () => {
        window.tap.slow = false;
        for (const event of waiting.splice(0)) onmessage.call(socket, event);
      };
      socket.onmessage = (event) => (window.tap.slow ? waiting.push(event) : onmessage.call(socket, event));
    });
    const come = () => talk.page.evaluate(() => window.tap.come());
    await send(talk, 'First words');
    await talk.page.keyboard.type(' and more');
    await field(talk).press('Enter');
    assert.deepEqual(await said(talk), []);
    await come();
    await talk.said('user', /and more/);
    assert.deepEqual(await said(talk), ['YouFirst words', 'Youand more']);
    assert.equal(await field(talk).inputValue(), '');
    await talk.page.evaluate(() => (window.tap.slow = true));
    await send(talk, 'Once only');
    await field(talk).press('Enter');
    await come();
    await talk.said('user', /Once only/);
    await talk.state('speaking');
    assert.deepEqual(await said(talk), ['YouFirst words', 'Youand more', 'YouOnce only']);
    await talk.noComplaints();
  });

  test(`${name}: a text that the daemon refuses, or that meets the end of the call, was not said`, async (t) => {
    const { talk } = await open(t, { faults: ['no-welcome'] });
    await talk.start();
    await talk.begun();
    // A daemon that takes less than its page.
    await talk.page.evaluate(() => {
      const { socket } = window.tap;
      const { onmessage } = socket;
      const send = socket.send.bind(socket);
      socket.send = (data) => {
        if (typeof data !== 'string' || JSON.parse(data).type !== 'text') return send(data);
        const error = { type: 'error', code: 'text_too_long', message: 'A typed turn may have 8192 bytes at most.' };
        setTimeout(() => onmessage.call(socket, new MessageEvent('message', { data: JSON.stringify(error) })));
      };
    });
    await send(talk, 'As long as a book');
    await talk.problem(/8192 bytes at most/);
    assert.equal(await field(talk).inputValue(), 'As long as a book');
    assert.deepEqual(await said(talk), []);

    // The socket is closing, and nobody has told the page yet.
    await talk.page.evaluate(() => {
      Object.defineProperty(window.tap.socket, 'readyState', { get: () => WebSocket.CLOSING, configurable: true });
    });
    await send(talk, 'Are you there?');
    await talk.problem(/was not sent/);
    assert.equal(await field(talk).inputValue(), 'Are you there?');

    // It leaves, and the call ends before an answer to it.
    await talk.page.evaluate(() => {
      delete window.tap.socket.readyState;
      window.tap.socket.send = (data) => typeof data === 'string' && JSON.parse(data).type === 'text' && window.tap.socket.close();
    });
    await send(talk, 'Still there?');
    await talk.state('error');
    assert.equal(await talk.page.locator('#text').inputValue(), 'Still there?'); // for the next call
    assert.deepEqual(await said(talk), []);
  });
}
