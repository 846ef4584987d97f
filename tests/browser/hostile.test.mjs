// Pages of others, in a real browser, that try to spend the owner's money: cross-site WebSocket hijacking and
// DNS rebinding. Calls are open to everybody here, so that nothing but the checks of Host and Origin stands in
// their way. Certificates are not checked: a page that cannot even connect would prove nothing.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import http from 'node:http';
import net from 'node:net';

import { launchChromium, Talk } from './browsers.mjs';
import { securePort, secureSettings, startDaemon, startSimulator } from './daemon.mjs';
import { script, until } from './sound.mjs';
import { test } from './test.mjs';

const REACHED_SERVICE = 'a client has connected';

/** A daemon with its service, a browser, and a server of somebody else's pages. */
async function scene(t) {
  const service = await startSimulator(t);
  const elsewhere = await serve(t, '<title>Win a prize</title>');
  const env = {
    ...secureSettings(t),
    VOICELIVED_TLS_LISTEN: '127.0.0.1:0', // open to everybody is for this machine alone
    AZURE_VOICE_LIVE_ENDPOINT: service.url,
    AZURE_VOICE_LIVE_API_KEY: 'not-a-real-key',
    VOICELIVED_ACCESS: 'open',
    VOICELIVED_ALLOWED_ORIGINS: `http://friend.example:${elsewhere}`,
  };
  const daemon = await startDaemon(t, env, { command: 'run' });
  const rebound = await serveRebound(t);
  const rules = `MAP rebound.example 127.0.0.1:${rebound.port}, MAP *.example 127.0.0.1`;
  const flags = [`--host-resolver-rules=${rules}`, '--ignore-certificate-errors'];
  const browser = await launchChromium(t, { flags, file: script(t, [60]) });
  return { service, daemon, tls: await securePort(daemon), browser, elsewhere, rebound };
}

/** @param {string} html on every path @returns {Promise<number>} the port */
async function serve(t, html) {
  const server = http.createServer((_, reply) => reply.writeHead(200, { 'content-type': 'text/html' }).end(html));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return server.address().port;
}

/** Where rebound.example is, whatever port is asked for: at its owner's server, until `aim` is a port of the daemon.
 *  @returns {Promise<{port: number, aim: number}>} */
async function serveRebound(t) {
  const rebound = { port: 0, aim: 0 };
  const server = net.createServer((visitor) => {
    visitor.on('error', () => {});
    visitor.once('data', (first) => {
      if (!rebound.aim) return visitor.end('HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nConnection: close\r\n\r\n<p>Wait…');
      const device = net.connect(rebound.aim, '127.0.0.1').on('error', () => {});
      device.write(first);
      visitor.pipe(device).pipe(visitor);
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  rebound.port = server.address().port;
  return rebound;
}

/** Opens a WebSocket as the page or one of its frames.
 *  @returns {Promise<string>} 'open', or what the browser says of the refused handshake */
async function dial(page, url, frame = page) {
  const words = [];
  const note = (message) => message.text().includes(url) && words.push(message.text());
  page.on('console', note);
  const ending = await frame.evaluate(
    (to) =>
      new Promise((done) => {
        const socket = new WebSocket(to);
        socket.onopen = () => done('open');
        socket.onclose = ({ code }) => done(code);
      }),
    url,
  );
  if (ending !== 'open') await until(() => words.length > 0, `words of the browser about ${ending}`);
  page.off('console', note);
  return ending === 'open' ? ending : words[0];
}

/** The service has heard of nobody; and that it would have is shown by a call from the daemon's own page. */
async function onlyOwnPageCalls({ service, daemon, browser }) {
  assert.doesNotMatch(daemon.log(), / call from /);
  assert.ok(!service.log().includes(REACHED_SERVICE), service.log());
  const talk = await Talk.open(browser, daemon.url);
  await talk.start();
  await talk.state('speaking');
  await until(() => service.log().includes(REACHED_SERVICE), 'the own call at the service');
  assert.equal(service.log().split(REACHED_SERVICE).length, 2, 'only the own call reaches the service');
  assert.equal(daemon.log().split(' call from ').length, 2);
}

test('a page of another origin opens no call, reads nothing and frames nothing', async (t) => {
  const all = await scene(t);
  const { daemon, tls, browser, elsewhere } = all;
  const targets = [`ws://127.0.0.1:${daemon.port}/ws`, `ws://localhost:${daemon.port}/ws`, `wss://127.0.0.1:${tls}/ws`];
  // Another port of the same host is the same site, to which browsers send the daemon's cookies too.
  for (const host of ['evil.example', 'localhost']) {
    const page = await browser.newPage();
    await page.goto(`http://${host}:${elsewhere}/`);
    for (const target of targets) assert.match(await dial(page, target), /Unexpected response code: 403/, `${host} to ${target}`);
    const read = await page.evaluate(
      (url) => fetch(url, { headers: { Authorization: 'Bearer guess-guess-guess' } }).then(() => 'read', (e) => e.name),
      `http://127.0.0.1:${daemon.port}/pair`,
    );
    assert.equal(read, 'TypeError');
    await page.close();
  }

  const page = await browser.newPage();
  await page.goto(`http://evil.example:${elsewhere}/`);
  await page.evaluate(() => document.body.insertAdjacentHTML('beforeend', '<iframe sandbox="allow-scripts" src="/">'));
  await until(() => page.frames()[1]?.url().startsWith('http'), 'the sandboxed frame');
  assert.match(await dial(page, targets[0], page.frames()[1]), /Unexpected response code: 403/, 'Origin: null');
  const blocked = page.waitForEvent('console', { predicate: (m) => /frame-ancestors/.test(m.text()), timeout: 15000 });
  await page.evaluate((url) => document.body.insertAdjacentHTML('beforeend', `<iframe allow="microphone" src="${url}">`), daemon.url);
  await blocked;
  await onlyOwnPageCalls(all);

  await page.goto(`http://friend.example:${elsewhere}/`); // a listed one gets through, by the same way
  for (const target of targets) assert.equal(await dial(page, target), 'open');
});

test('a name that somebody points at the daemon opens no call', async (t) => {
  const all = await scene(t);
  const { daemon, tls, browser, elsewhere, rebound } = all;
  const origin = `http://rebound.example:${daemon.port}`;
  const target = `ws://rebound.example:${daemon.port}/ws`;
  const visitor = await browser.newPage();
  assert.equal((await visitor.goto(`${origin}/prize`)).status(), 200);
  rebound.aim = daemon.port; // from now on the page is of the same origin as the daemon
  assert.match(await dial(visitor, target), /Unexpected response code: 421/, 'from the same origin');
  for (const path of ['/', '/pair', '/healthz', '/ca.pem'])
    assert.equal(await visitor.evaluate((to) => fetch(to).then(({ status }) => status), path), 421, path);
  assert.equal((await visitor.goto(`${origin}/`)).status(), 421);
  await visitor.goto(`http://evil.example:${elsewhere}/`);
  assert.match(await dial(visitor, target), /Unexpected response code: 421/, 'from another origin');

  rebound.aim = tls;
  assert.equal((await visitor.goto(`https://rebound.example:${tls}/`)).status(), 421);
  assert.match(await dial(visitor, `wss://rebound.example:${tls}/ws`), /Unexpected response code: 421/, 'by TLS');
  await onlyOwnPageCalls(all);
});
