// A page of somebody else's that offers a subprotocol: browsers end a connection that agrees to none of them.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { launchChromium, launchFirefox } from './browsers.mjs';
import { startDaemon } from './daemon.mjs';

for (const [name, launch] of [['Chromium', launchChromium], ['Firefox', launchFirefox]]) {
  test(`${name}: a client may offer subprotocols, and its call begins`, async (t) => {
    const daemon = await startDaemon(t);
    const browser = await launch(t);
    const page = await browser.newPage();
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
