// The servers a test talks to: the daemon itself, or only its page.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const READY_MS = 15000;
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

/** Starts `voicelived demo` on a free port; ended with the test, by its process id.
 *  @param {import('node:test').TestContext} t
 *  @param {Record<string, string>} [env] settings of the daemon
 *  @returns {Promise<{url: string, child: import('node:child_process').ChildProcess}>} */
export async function startDaemon(t, env = {}) {
  const binary = process.env.TEST_DAEMON ?? path.join(repository, 'target/debug/voicelived');
  const port = await freePort();
  const child = spawn(binary, ['demo', '--listen', `127.0.0.1:${port}`], {
    env: { PATH: process.env.PATH, ...env },
    stdio: ['ignore', 'ignore', 'pipe'],
  });
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  t.after(() => stop(child));
  await ready(`http://127.0.0.1:${port}/healthz`, child, () => said);
  return { url: `http://localhost:${port}/`, child };
}

/** Ends a process and waits until it is gone. @param {import('node:child_process').ChildProcess} child */
export async function stop(child, signal = 'SIGTERM') {
  if (child.exitCode !== null || child.signalCode !== null) return;
  child.kill(signal);
  await once(child, 'exit');
}

/** Only the page's files, for tests of what the page does without a daemon, under any host name.
 *  @returns {Promise<number>} the port */
export async function servePage(t) {
  const server = http.createServer(({ url }, reply) => {
    const file = path.join(repository, 'frontend', url === '/' ? 'index.html' : path.basename(url));
    if (!fs.existsSync(file)) return reply.writeHead(404).end();
    reply.writeHead(200, { 'content-type': TYPES[path.extname(file)] ?? 'application/octet-stream' }).end(fs.readFileSync(file));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return server.address().port;
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function ready(url, child, said) {
  for (const end = Date.now() + READY_MS; Date.now() < end; await sleep(50)) {
    if (child.exitCode !== null) throw new Error(`the daemon ended with ${child.exitCode}: ${said()}`);
    if ((await fetch(url).catch(() => null))?.ok) return;
  }
  throw new Error(`the daemon did not answer ${url}: ${said()}`);
}
