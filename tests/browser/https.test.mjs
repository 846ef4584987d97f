// HTTPS with the daemon's own authority, in browsers with an empty profile that trusts that authority alone.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import fs from 'node:fs';
import http from 'node:http';
import os from 'node:os';
import path from 'node:path';

import axe from 'axe-core';

import { launchChromium, launchFirefox, Talk } from './browsers.mjs';
import { securePort, secureSettings, startDaemon } from './daemon.mjs';
import { engines } from './engines.mjs';
import { saidInFull } from './joining.mjs';
import { script, startPulse } from './sound.mjs';
import { test } from './test.mjs';

const CODE = 'abcd-2345/+=%&#efgh';
const NAME = os.hostname().split('.')[0].toLowerCase(); // the certificate is made out to it

/** Opens a browser with an empty folder, which goes after the browser: hooks run in the order they were made. */
async function withFolder(t, launch) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
  const browser = await launch(folder);
  t.after(() => fs.rmSync(folder, { recursive: true, force: true, maxRetries: 5 }));
  return browser;
}

/** Makes a new store of certificates that trusts this authority. @param {string} pem */
function trust(store, pem) {
  fs.mkdirSync(store, { recursive: true });
  execFileSync('certutil', ['-d', `sql:${store}`, '-N', '--empty-password']);
  execFileSync('certutil', ['-d', `sql:${store}`, '-A', '-t', 'C,,', '-n', 'voicelived'], { input: pem });
}

/** Chromium's store is in the home folder. */
function openChromium(t, pem, file) {
  return withFolder(t, (home) => {
    trust(path.join(home, '.pki/nssdb'), pem);
    return launchChromium(t, { home, file, flags: [`--host-resolver-rules=MAP ${NAME} 127.0.0.1`] });
  });
}

/** Firefox's store is its profile. */
function openFirefox(t, pem, server) {
  return withFolder(t, (profile) => {
    trust(profile, pem);
    return launchFirefox(t, { profile, server, prefs: { 'network.dns.localDomains': NAME } });
  });
}

const UNKNOWN = { Chromium: /ERR_CERT_AUTHORITY_INVALID/, Firefox: /SEC_ERROR_UNKNOWN_ISSUER|MOZILLA_PKIX_ERROR|ERROR_UNKNOWN_ISSUER/ };
/** Browsers that trust this authority. */
const TRUSTING = {
  Chromium: async (t, pem) => ({ browser: await openChromium(t, pem, script(t, [5, 'weather', 20])), speak: () => {} }),
  Firefox: async (t, pem) => {
    const pulse = await startPulse(t);
    return { browser: await openFirefox(t, pem, pulse.server), speak: () => pulse.speak(t, script(t, ['weather', 2])) };
  },
};

async function scene(t, wish) {
  const env = { ...secureSettings(t), VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN: CODE };
  const daemon = await startDaemon(t, env, wish);
  const reply = await fetch(`${daemon.url}ca.pem`);
  assert.equal(reply.headers.get('content-type'), 'application/x-x509-ca-cert');
  return { daemon, port: await securePort(daemon), pem: await reply.text() };
}

for (const { name, browser: stranger } of engines) {
  test(`${name}: who does not trust the authority is warned`, async (t) => {
    const { port } = await scene(t);
    const page = await (await stranger(t)).newPage();
    await assert.rejects(page.goto(`https://localhost:${port}/`, { timeout: 15000 }), UNKNOWN[name]);
  });

  test(`${name}: who trusts the authority talks by HTTPS, and is served the page that helps to trust`, async (t) => {
    const all = await scene(t, { faults: ['no-welcome'] });
    const { browser, speak } = await TRUSTING[name](t, all.pem);
    await t.test('talking, under each name', () => talks(all, browser, speak));
    await t.test('the page that helps to trust', () => helps(all, browser));
  });
}

async function talks({ port }, browser, speak) {
  let talk;
  for (const host of ['localhost', NAME]) {
    const url = `https://${host}:${port}/`;
    talk = await Talk.open(browser, `${url}#token=${encodeURIComponent(CODE)}`);
    await talk.page.waitForFunction(() => location.hash === '');
    await talk.button.waitFor();
    assert.equal(talk.page.url(), url);
    assert.equal(await talk.page.evaluate(() => window.isSecureContext && 'mediaDevices' in navigator), true);
    assert.equal(await talk.page.evaluate(() => document.cookie), '');
    const cookies = await talk.page.context().cookies(url);
    assert.deepEqual(
      cookies.map(({ name, domain, httpOnly, secure, sameSite }) => ({ name, domain, httpOnly, secure, sameSite })),
      [{ name: '__Host-voicelived', domain: host, httpOnly: true, secure: true, sameSite: 'Strict' }],
    );
  }

  await talk.start();
  await talk.begun();
  speak();
  await talk.state('thinking');
  await talk.state('speaking');
  await talk.state('listening');
  await saidInFull(talk);
  await talk.noComplaints();
}

async function helps({ port, pem, daemon }, browser) {
  const page = await browser.newPage();
  for (const [url, language, words] of [
    [`${daemon.url}trust`, 'en', 'Trust this device'],
    [`https://${NAME}:${port}/trust`, 'de-AT, en;q=0.5', 'Diesem Gerät vertrauen'],
  ]) {
    await page.setExtraHTTPHeaders({ 'Accept-Language': language });
    assert.equal((await page.goto(url)).status(), 200);
    await page.getByRole('heading', { name: words }).waitFor();
    await page.evaluate(() => document.querySelectorAll('details').forEach((part) => (part.open = true)));
    await page.evaluate(axe.source);
    const { violations } = await page.evaluate(() => window.axe.run());
    assert.deepEqual(violations.map((v) => v.id), []);
    assert.equal(await page.evaluate(() => fetch('/ca.pem').then((reply) => reply.text())), pem);
  }
}

test('plain HTTP by a name of the network is sent to HTTPS', async (t) => {
  const { daemon, port } = await scene(t, { host: '0.0.0.0' });
  const get = (path, host) =>
    new Promise((done, failed) => {
      const wish = { port: daemon.port, host: '127.0.0.1', path, headers: { host: `${host}:${daemon.port}` } };
      http.get(wish, (reply) => done(reply.resume())).on('error', failed);
    });
  for (const path of ['/', '/ws', '/pair', '/app.js?v=1']) {
    const { statusCode, headers } = await get(path, NAME);
    assert.deepEqual([statusCode, headers.location], [308, `https://${NAME}:${port}${path}`]);
  }
  for (const path of ['/trust', '/ca.pem']) assert.equal((await get(path, NAME)).statusCode, 200);
  assert.equal((await get('/', 'localhost')).statusCode, 200);
  const { statusCode, headers } = await get('/', 'evil.example');
  assert.deepEqual([statusCode, headers.location], [421, undefined]);
});
