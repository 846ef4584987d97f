// What the page says when the system blocks the microphone, when a browser refuses the certificate, and when a whole
// pairing link is pasted.

import assert from 'node:assert/strict';
import { test } from 'node:test';

import { launchChromium, launchFirefox, Talk } from './browsers.mjs';
import { securePort, secureSettings, startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { page } from './modules.mjs';

const TOKEN = 'abcd-2345/+=%&#efgh';
const LINK = `https://voice.local:8443/#token=${encodeURIComponent(TOKEN)}`;

const SYSTEMS = [
  [/In Windows/, { platform: 'Win32', userAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140' }],
  [/On a Mac/, { platform: 'MacIntel', userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', maxTouchPoints: 0 }],
  [/iPhone or iPad/, { platform: 'iPhone', userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)' }],
  [/iPhone or iPad/, { platform: 'MacIntel', userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', maxTouchPoints: 5 }],
  [/On Android/, { platform: 'Linux armv81', userAgent: 'Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140 Mobile' }],
  [/Chromebook/, { platform: 'Linux x86_64', userAgent: 'Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/140' }],
  [/On Linux/, { platform: 'Linux x86_64', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0' }],
];

test('a microphone that the system blocks leads to the settings of that system', async () => {
  const { blockedWords, isBlocked } = await page('blocked.js');
  const set = (navigator) => Object.defineProperty(globalThis, 'navigator', { value: navigator, configurable: true });
  const asks = (state) => ({ permissions: { query: async () => ({ state }) } });
  const error = (message) => new DOMException(message, 'NotAllowedError');
  const apple = 'The request is not allowed by the user agent or the platform in the current context, possibly because the user denied permission.';
  for (const [place, system] of SYSTEMS) {
    set({ ...system, ...asks('prompt') });
    assert.match(await blockedWords(error('Permission denied by system')), place);
    assert.match(await blockedWords(error(apple)), place);
    assert.match(await blockedWords(error(apple)), /site settings/);
    const site = await blockedWords(error('Permission denied'));
    assert.match(site, /site settings/);
    assert.doesNotMatch(site, place);
    set({ ...system, ...asks('granted') });
    assert.match(await blockedWords(error('Permission denied')), place);
    set(system); // an older browser, which cannot be asked
    assert.match(await blockedWords(error('Permission denied by system')), place);
  }
  assert.equal(isBlocked(new DOMException('Permission denied by system', 'NotReadableError')), true);
  assert.equal(isBlocked(new DOMException('Could not start audio source', 'NotReadableError')), false);
});

test('the token is found in all that people paste', async () => {
  globalThis.location ??= { hash: '' };
  const { tokenIn } = await page('access.js');
  const half = Math.floor(LINK.length / 2);
  for (const text of [
    LINK,
    `  ${LINK}\n`,
    `"${LINK}"`,
    `“${LINK}”`,
    `<${LINK}>`,
    `${LINK.slice(0, half)}\r\n${LINK.slice(half)}`,
    `${LINK.slice(0, half)} ${LINK.slice(half)}`,
    `Open this: ${LINK}`,
    `${LINK}.`,
    `${LINK}&from=mail`,
    LINK.replace('/#', '/?x=1#'),
    LINK.replace('#token', '?token'),
    LINK.replace('#token', '#a=b&token'),
    `#token=${encodeURIComponent(TOKEN)}`,
    `token=${encodeURIComponent(TOKEN)}`,
    TOKEN,
    ` ${TOKEN}\n`,
    `"${TOKEN}"`,
    `\ufeff${TOKEN}\u200b`,
  ]) {
    assert.equal(tokenIn(text), TOKEN, text);
  }
  assert.equal(tokenIn('#token=%E0%A4%A'), '%E0%A4%A', 'what cannot be decoded stays');
  assert.equal(tokenIn(' \n'), '');
});

for (const { name, open } of engines) {
  test(`${name}: a whole pairing link in the field for the token lets in`, async (t) => {
    const { talk } = await open(t, { env: { VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN: TOKEN } });
    const field = talk.page.getByLabel('Access token');
    await field.fill(` “${LINK}” `);
    await talk.page.getByRole('button', { name: 'Enter' }).click();
    await talk.button.waitFor();
    assert.equal(await talk.page.locator('#entrance').isVisible(), false);
  });

  test(`${name}: a microphone that the system blocks is not blamed on the page`, async (t) => {
    const { talk } = await open(t);
    await talk.page.evaluate(() => {
      navigator.mediaDevices.getUserMedia = async () => {
        throw new DOMException('Permission denied by system', 'NotAllowedError');
      };
    });
    await talk.start();
    await talk.problem(/blocked by the system.*On Linux.*Start Talking/);
    assert.doesNotMatch(await talk.page.locator('#problem').textContent(), /site settings/);
  });
}

for (const [name, launch] of [['Chromium', launchChromium], ['Firefox', launchFirefox]]) {
  test(`${name}: a certificate that was only waved through is named when it costs the call`, async (t) => {
    const daemon = await startDaemon(t, { ...secureSettings(t), VOICELIVED_ACCESS: 'open' });
    const port = await securePort(daemon);
    const talk = await Talk.open(await launch(t), `https://localhost:${port}/`, { ignoreHTTPSErrors: true });
    const link = talk.page.getByRole('link', { name: 'Trust its certificate' });
    await link.waitFor();
    // Safari refuses the socket; these browsers do not, so it goes where there is none.
    await talk.page.evaluate(() => {
      const Socket = window.WebSocket;
      window.WebSocket = class extends Socket {
        constructor(url) {
          super(url.replace(/ws\b/, 'nothing'));
        }
      };
      window.tap.useVoice();
    });
    await talk.start();
    await talk.problem(/certificate was only waved through/);
    assert.doesNotMatch(await talk.page.locator('#problem').textContent(), /busy/);
    await link.click();
    await talk.page.getByRole('heading', { name: 'Trust this device' }).waitFor();
  });
}

test('Chromium: without the local authority there is no link to its certificate', async (t) => {
  const { talk } = await engines[0].open(t);
  await talk.page.getByText('This is not the real model').waitFor();
  assert.equal(await talk.page.getByRole('link', { name: 'Trust its certificate' }).isVisible(), false);
});

test('Chromium: a minute of the answer may wait for its worklet; what comes then is lost, and said so', async (t) => {
  const { talk } = await engines[0].open(t);
  await talk.page.evaluate(() => {
    const load = AudioWorklet.prototype.addModule;
    AudioWorklet.prototype.addModule = async function (file) {
      if (/playback/.test(file)) await new Promise((resolve) => (window.tap.load = resolve));
      return load.call(this, file);
    };
  });
  await talk.start();
  await talk.page.waitForFunction(() => window.tap.load && window.tap.got.some((m) => m.type === 'response_done'));
  const second = (seconds) =>
    talk.page.evaluate((count) => {
      for (let i = 0; i < count; i++) window.tap.socket.onmessage(new MessageEvent('message', { data: new ArrayBuffer(48000) }));
    }, seconds);
  await second(40);
  assert.equal(await talk.page.locator('#problem').textContent(), '');
  await second(30);
  await talk.problem(/longer than this page can hold/);
  await talk.page.evaluate(() => window.tap.load());
  await talk.state('speaking');
});
