// A page of somebody else's that offers a subprotocol: browsers end a connection that agrees to none of them.

import assert from 'node:assert/strict';

import { startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { test } from './test.mjs';

for (const { name, browser } of engines) {
  test(`${name}: a client may offer subprotocols, and its call begins`, async (t) => {
    const daemon = await startDaemon(t);
    const page = await (await browser(t)).newPage();
    await page.goto(daemon.url);
    for (const offered of ['voicelived', ['audio.v2', 'json'], []]) {
      const found = await page.evaluate(callWith, offered);
      assert.deepEqual(found, { first: 'hello', protocol: [offered].flat()[0] ?? '' });
    }
  });
}

/** In the page. The first message of a call, or the close code. */
function callWith(offered) {
  return new Promise((resolve) => {
    const socket = new WebSocket(new URL('ws', location.href.replace(/^http/, 'ws')), offered);
    socket.onmessage = ({ data }) => {
      resolve({ first: JSON.parse(data).type, protocol: socket.protocol });
      socket.close();
    };
    socket.onclose = ({ code }) => resolve({ closed: code });
  });
}
