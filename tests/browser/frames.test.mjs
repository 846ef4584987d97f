// The page in a dashboard's frame, of another site and over HTTPS: with its origin listed it is let in once, keeps
// its cookie there and hears the microphone; without, it is not shown. Certificates are not checked: which ones a
// browser trusts is not the question here.

import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import https from 'node:https';
import os from 'node:os';
import path from 'node:path';

import { securePort, secureSettings, startDaemon } from './daemon.mjs';
import { sharedChromium } from './engines.mjs';
import { record, room } from './sound.mjs';
import { test } from './test.mjs';

const CODE = 'abcd-2345-efgh-6789';

/** A server of the dashboard's page over HTTPS, whose frame is what the part behind # says.
 *  @returns {Promise<number>} the port */
async function serveDashboard(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(folder, name));
  execFileSync('openssl', ['req', '-x509', '-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes', '-subj', '/CN=home.example', '-days', '2', '-keyout', key, '-out', cert], { stdio: 'ignore' });
  const page = `<title>Dashboard</title><iframe width="400" height="600"></iframe><script>
    const [frame, [allow, src]] = [document.querySelector('iframe'), location.hash.slice(1).split('|').map(decodeURIComponent)];
    frame.allow = allow; frame.src = src;</script>`;
  const server = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) }, (_, reply) =>
    reply.writeHead(200, { 'content-type': 'text/html' }).end(page),
  );
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => (server.closeAllConnections(), server.close()));
  return server.address().port;
}

async function scene(t, listed) {
  const home = await serveDashboard(t);
  const daemon = await startDaemon(t, {
    ...secureSettings(t),
    VOICELIVED_NAMES: 'device.example',
    VOICELIVED_ACCESS: 'token',
    VOICELIVED_ACCESS_TOKEN: CODE,
    VOICELIVED_FRAME_ANCESTORS: listed ? `https://${listed}:${home}` : '',
  });
  const flags = ['--host-resolver-rules=MAP *.example 127.0.0.1', '--ignore-certificate-errors'];
  const { browser, file } = await sharedChromium(t, flags);
  record(file, [room(60)]);
  const device = `https://device.example:${await securePort(daemon)}/`;
  /** Opens the dashboard with this part of the device's address in its frame. */
  const show = async (page, more = '', allow = 'microphone') => {
    const inside = `${encodeURIComponent(allow)}|${encodeURIComponent(device + more)}`;
    await page.goto('about:blank');
    await page.goto(`https://home.example:${home}/#${inside}`);
  };
  return { browser, daemon, device, show };
}

test('Chromium: a listed dashboard shows the page, which is let in once and talks', async (t) => {
  const { browser, daemon, device, show } = await scene(t, 'home.example');
  const context = await browser.newContext();
  const page = await context.newPage();
  page.setDefaultTimeout(20000);
  const frame = page.frameLocator('iframe');
  await show(page);
  await frame.getByLabel('Access token').waitFor(); // nobody is let in by being in a frame
  await show(page, `#token=${encodeURIComponent(CODE)}`);
  await frame.getByRole('button', { name: 'Start Talking' }).waitFor();
  const [cookie] = (await context.cookies(device)).filter(({ name }) => name === '__Host-voicelived');
  assert.deepEqual([cookie.sameSite, cookie.secure, cookie.httpOnly], ['None', true, true]);
  assert.match(String(cookie.partitionKey), /home\.example/, 'it is kept apart for this dashboard');

  await show(page); // the cookie alone
  await frame.getByRole('button', { name: 'Start Talking' }).click();
  await frame.getByRole('log').getByText(/simulator/i).first().waitFor();
  assert.match(daemon.log(), / call from /);
});

test('Chromium: a frame that does not pass the microphone on is named, not the site settings', async (t) => {
  const { browser, show } = await scene(t, 'home.example');
  const page = await browser.newPage();
  page.setDefaultTimeout(20000);
  const frame = page.frameLocator('iframe');
  await show(page, `#token=${encodeURIComponent(CODE)}`, 'autoplay');
  await frame.getByRole('button', { name: 'Start Talking' }).click();
  const problem = frame.locator('#problem');
  await problem.filter({ hasText: /shown inside another one.*pass the microphone on/ }).waitFor();
  assert.doesNotMatch(await problem.textContent(), /site settings|by the system/);
});

test('Chromium: a dashboard that is not listed shows nothing', async (t) => {
  for (const listed of [undefined, 'other.example']) {
    const { browser, show } = await scene(t, listed);
    const page = await browser.newPage();
    const blocked = page.waitForEvent('console', { predicate: (m) => /frame-ancestors/.test(m.text()), timeout: 20000 });
    await show(page, `#token=${encodeURIComponent(CODE)}`);
    await blocked;
    assert.equal(await page.frameLocator('iframe').getByRole('button', { name: 'Start Talking' }).count(), 0);
  }
});
