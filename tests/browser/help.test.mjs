// What the page says when the system blocks the microphone, when a browser refuses the certificate, and when a whole
// pairing link is pasted.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

import { Talk } from './browsers.mjs';
import { securePort, secureSettings, startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { page } from './modules.mjs';
import { test } from './test.mjs';

const TOKEN = 'abcd-2345/+=%&#efgh';
const MADE = 'abcd-efgh-jkmn-pqrs-tuvw-xyz2-3456'; // by the daemon
const LINK = `https://voice.local:8443/#token=${encodeURIComponent(TOKEN)}`;

const SYSTEMS = [
  [/In Windows/, { platform: 'Win32', userAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64) Chrome/140' }],
  [/On a Mac/, { platform: 'MacIntel', userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', maxTouchPoints: 0 }],
  [/iPhone or iPad/, { platform: 'iPhone', userAgent: 'Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X)' }],
  [/iPhone or iPad/, { platform: 'MacIntel', userAgent: 'Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)', maxTouchPoints: 5 }],
  [/On Android/, { platform: 'Linux armv81', userAgent: 'Mozilla/5.0 (Linux; Android 15; Pixel 9) Chrome/140 Mobile' }],
  [/Chromebook/, { platform: 'Linux x86_64', userAgent: 'Mozilla/5.0 (X11; CrOS x86_64 14541.0.0) Chrome/140' }],
  [/On Linux/, { platform: 'Linux x86_64', userAgent: 'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Firefox/140.0' }],
  [/On a Mac/, { platform: 'Darwin', userAgent: 'Mozilla/5.0 (Darwin; arm64)', maxTouchPoints: 0 }],
  [/On a Mac/, { userAgentData: { platform: 'macOS' }, platform: 'MacIntel', userAgent: 'Mozilla/5.0 (Macintosh) Chrome/140' }],
  [/In Windows/, { userAgentData: { platform: 'Windows' }, platform: 'Win32', userAgent: 'Mozilla/5.0 Edg/140', maxTouchPoints: 10 }],
  [/In Windows/, { platform: 'Win32', userAgent: 'Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:140.0) Firefox/140.0' }],
  [/iPhone or iPad/, { platform: 'iPad', userAgent: 'Mozilla/5.0 (iPad; CPU OS 18_0 like Mac OS X) FxiOS/140', maxTouchPoints: 5 }],
  [/On Android/, { userAgentData: { platform: 'Android' }, platform: 'Linux armv81', userAgent: 'Mozilla/5.0 (Linux; Android 10; K)' }],
  [/On Android/, { platform: 'Linux aarch64', userAgent: 'Mozilla/5.0 (Android 15; Mobile; rv:140.0) Firefox/140.0' }],
  [/On Android/, { userAgentData: { platform: 'Linux' }, platform: 'Linux armv81', userAgent: 'Mozilla/5.0 (X11; Linux x86_64) Chrome/140' }],
  [/Chromebook/, { userAgentData: { platform: 'Chrome OS' }, platform: 'Linux x86_64', userAgent: 'Mozilla/5.0 (X11; Linux x86_64)' }],
  [/Chromebook/, { userAgentData: { platform: 'Chromium OS' }, platform: 'Linux aarch64', userAgent: 'Mozilla/5.0 (X11; Linux aarch64)' }],
  [/On Linux/, { platform: 'Linux armv7l', userAgent: 'Mozilla/5.0 (X11; Linux armv7l) Chromium/140' }],
  [/settings of this device/, { platform: 'FreeBSD amd64', userAgent: 'Mozilla/5.0 (X11; FreeBSD amd64; rv:140.0) Firefox/140.0' }],
  [/settings of this device/, { platform: 'Linux armv7l', userAgent: 'Mozilla/5.0 (Linux; Tizen 8.0; SmartTV) SamsungBrowser/7.0' }],
  [/settings of this device/, { userAgentData: { platform: 'Unknown' }, platform: '', userAgent: 'Mozilla/5.0 (Window manager)' }],
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

/** What people paste around a token and its link. */
const pastes = (token, link) => [
  token,
  ` ${token}\n`,
  `"${token}"`,
  `\ufeff${token}\u200b`,
  `Access token: ${token}`,
  `The access token is ${token}.`,
  `Token:\t"${token}"`,
  link,
  `  ${link}\n`,
  `"${link}"`,
  `“${link}”`,
  `<${link}>`,
  `(${link})`,
  `*${link}*`,
  `Open this: ${link}`,
  `${link}.`,
  `${link}, please`,
  `Here it is: ${link}. Bye`,
  `Here it is: ${link} Bye\n\nSent from my phone`,
  `    ${link}   (where the name is not found)`, // as the daemon prints it
  `<${link}|voice.local>`, // Slack
  `[the page](${link})`, // Markdown
  `[the page](<${link}> "Talk") and more`,
  `[${link}](${link})`,
  `<a href="${link}">${link}</a>`,
  `Token = see the link: ${link}`,
  `${link}&from=mail`,
  `${link}&amp;from=mail`,
  link.replace('/#', '/?x=1#'),
  link.replace('#token', '?token'),
  link.replace('#token', '#a=b&token'),
  link.replace('#token', '#Token'),
  link.replace('#token', '%23token'),
  link.replace('#token=', '%23token%3D'),
  link.slice(link.indexOf('#')),
  link.slice(link.indexOf('token')),
  link.replace('#token=', '#token=\n'),
  encodeURIComponent(link),
  `https://guard.example/?url=${encodeURIComponent(link)}&data=05%7C02`, // how mail programs guard links
  `https://a.example/?u=${encodeURIComponent(`https://guard.example/?url=${encodeURIComponent(link)}&data=05`)}&x=1`,
  link.replace(/-/g, '\u2011'),
  link.replace(/[a-z]/g, (letter) => String.fromCharCode(letter.charCodeAt(0) + 0xfee0)), // a Japanese keyboard's
];

test('what Firefox calls a microphone that it cannot use leads to the same places', async () => {
  const { startWords } = await page('words.js');
  const [, windows] = SYSTEMS[0];
  Object.defineProperty(globalThis, 'navigator', { value: windows, configurable: true });
  for (const [kind, said] of [['NotReadableError', 'Failed to allocate audiosource'], ['AbortError', 'Starting audioinput failed']]) {
    const words = await startWords(new DOMException(said, kind));
    assert.match(words, /Another program may be using it.*the system may keep it.*In Windows/, kind);
    assert.doesNotMatch(words, /AbortError/);
  }
  const refused = 'The request is not allowed by the user agent or the platform in the current context.';
  assert.match(await startWords(new DOMException(refused, 'NotAllowedError')), /site settings.*In Windows.*Start Talking/);
  assert.match(await startWords(new DOMException('The object can not be found here.', 'NotFoundError')), /No microphone was found/);
});

test('the token is found at once in all that people paste', async () => {
  const { tokensIn } = await page('pasted.js');
  for (const token of [TOKEN, MADE, 'under_score.dot~tilde']) {
    const link = `https://voice.local:8443/#token=${encodeURIComponent(token)}`;
    for (const text of pastes(token, link)) assert.equal(tokensIn(text)[0], token, text);
  }
  for (const token of ['ab+cd/ef=gh@ij+klmn==', 'ends-with-a-stop.']) { // written into a link by hand
    assert.ok(tokensIn(`https://voice.local/#token=${token}`).includes(token), token);
  }
  assert.ok(tokensIn(`VOICELIVED_ACCESS_TOKEN=${TOKEN}`).includes(TOKEN));
  assert.deepEqual(tokensIn('#token=%E0%A4%A'), ['%E0%A4%A'], 'what cannot be decoded stays');
  assert.deepEqual(tokensIn(' \n'), []);
  assert.deepEqual(tokensIn('grüße'), []);
});

test('a link that a line break has cut is found, with few wrong readings before it', async () => {
  const { tokensIn } = await page('pasted.js');
  for (let at = 1; at < LINK.length; at++) {
    for (const cut of [' ', '\r\n', ' \n ']) {
      for (const after of ['', '\nBye']) {
        const text = LINK.slice(0, at) + cut + LINK.slice(at) + after;
        const readings = tokensIn(text);
        assert.ok(readings.includes(TOKEN) && readings.length <= 4, `${text}: ${readings}`);
      }
    }
  }
  const made = `https://voice.local:8443/#token=${MADE}`;
  for (let at = 1; at < made.length; at += 2) {
    const text = `See ${made.slice(0, at)}\n${made.slice(at, at + 5)} ${made.slice(at + 5)} and call me`;
    assert.deepEqual(tokensIn(text), [MADE], text);
  }
  for (const text of ['a '.repeat(30000), '#token='.repeat(9000), `token${'%25'.repeat(20000)}3d`, '#a&'.repeat(20000)]) {
    assert.ok(tokensIn(text).length <= 4); // and soon
  }
});

for (const { name, open } of engines) {
  test(`${name}: a pairing link in the field lets in, whatever is around it`, async (t) => {
    const { talk } = await open(t, { env: { VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN: TOKEN } });
    const field = talk.page.getByLabel('Access token');
    const half = Math.floor(LINK.length / 2);
    for (const text of [` “${LINK}” `, `Here it is: ${LINK}. Bye`, `<${LINK}|voice>`, `[x](${LINK})`, `${LINK.slice(0, half)} ${LINK.slice(half)}`]) {
      await field.fill(text);
      await talk.page.getByRole('button', { name: 'Enter' }).click();
      await talk.button.waitFor();
      assert.equal(await talk.page.locator('#entrance').isVisible(), false, text);
      await talk.page.context().clearCookies();
      await talk.page.reload();
      await field.waitFor();
    }
    // A whole mail, with the link at its end.
    await field.evaluate((input) => input.focus());
    await talk.page.keyboard.insertText(`${'Dear all, '.repeat(400)} ${LINK}`);
    await talk.page.keyboard.press('Enter');
    await talk.button.waitFor();
  });

  test(`${name}: a pairing link with signs that are not encoded, or with more behind it, lets in`, async (t) => {
    const token = 'ab+cd/2345=efgh-jk';
    const { talk, daemon } = await open(t, { env: { VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN: token } });
    for (const part of [token, `${encodeURIComponent(token)}.`, `${encodeURIComponent(token)}&from=mail`]) {
      await talk.page.getByLabel('Access token').waitFor();
      await talk.page.goto('about:blank');
      await talk.page.goto(`${daemon.url}#token=${part}`);
      await talk.button.waitFor();
      assert.equal(talk.page.url(), daemon.url);
      await talk.page.context().clearCookies();
      await talk.page.reload();
    }
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

/** Safari refuses the socket; these browsers do not, so it goes where there is none. */
function refuseSockets(talk) {
  return talk.page.evaluate(() => {
    const Socket = window.WebSocket;
    window.WebSocket = class extends Socket {
      constructor(url) {
        super(url.replace(/ws\b/, 'nothing'));
      }
    };
    window.tap.useVoice();
  });
}

for (const { name, browser } of engines) {
  test(`${name}: a certificate that was only waved through is named when it costs the call`, async (t) => {
    const daemon = await startDaemon(t, { ...secureSettings(t), VOICELIVED_ACCESS: 'open' });
    const port = await securePort(daemon);
    const talk = await Talk.open(await browser(t), `https://localhost:${port}/`, { ignoreHTTPSErrors: true });
    const link = talk.page.getByRole('link', { name: 'Trust its certificate' });
    await link.waitFor();
    await refuseSockets(talk);
    await talk.start();
    await talk.problem(/certificate was only waved through/);
    assert.doesNotMatch(await talk.page.locator('#problem').textContent(), /busy/);
    await link.click();
    await talk.page.getByRole('heading', { name: 'Trust this device' }).waitFor();
  });
}

for (const { name, browser } of engines) {
  test(`${name}: a certificate of the owner's own, signed by nobody, is not explained as busy lines`, async (t) => {
    const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
    t.after(() => fs.rmSync(folder, { recursive: true }));
    const [key, cert] = ['key.pem', 'cert.pem'].map((file) => path.join(folder, file));
    const make = ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=localhost'];
    execFileSync('openssl', [...make, '-addext', 'subjectAltName=DNS:localhost', '-keyout', key, '-out', cert], { stdio: 'ignore' });
    const own = { VOICELIVED_TLS_CERT: cert, VOICELIVED_TLS_KEY: key, VOICELIVED_ACCESS: 'open' };
    const daemon = await startDaemon(t, { ...secureSettings(t), ...own });
    const url = `https://localhost:${await securePort(daemon)}/`;
    const talk = await Talk.open(await browser(t), url, { ignoreHTTPSErrors: true });
    await talk.page.getByText('This is not the real model').waitFor();
    assert.equal(await talk.page.getByRole('link', { name: 'Trust its certificate' }).isVisible(), false, 'there is no such page');
    await refuseSockets(talk);
    await talk.start();
    await talk.problem(/warned about the certificate.*trust the certificate/);
    assert.doesNotMatch(await talk.page.locator('#problem').textContent(), /busy/);
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
