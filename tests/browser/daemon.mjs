// The servers a test talks to: the daemon itself, or only its page.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const repository = fileURLToPath(new URL('../../', import.meta.url));
const READY_MS = 15000;
/** The program under test. */
export const DAEMON = process.env.TEST_DAEMON ?? path.join(repository, 'target/debug/voicelived');
const TYPES = { '.html': 'text/html', '.js': 'text/javascript', '.css': 'text/css', '.svg': 'image/svg+xml' };

/** A process of voicelived; ended with the test, by its process id.
 *  @param {import('node:test').TestContext} t
 *  @param {string[]} args
 *  @param {Record<string, string>} env its settings
 *  @returns {{child: import('node:child_process').ChildProcess, log: () => string}} */
function launch(t, args, env) {
  const child = spawn(DAEMON, args, { env: { PATH: process.env.PATH, ...env }, stdio: ['ignore', 'ignore', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text) => (said += text));
  t.after(() => stop(child));
  return { child, log: () => said };
}

/** Starts the daemon on a free port.
 *  @param {import('node:test').TestContext} t
 *  @param {Record<string, string>} [env] settings of the daemon
 *  @param {{command?: 'demo'|'run', host?: string, faults?: string[]}} [wish] `host` is the address it
 *    listens at, `faults` are the simulator's
 *  @returns {Promise<{url: string, port: number, child: import('node:child_process').ChildProcess, log: () => string}>} */
export async function startDaemon(t, env = {}, { command = 'demo', host = '127.0.0.1', faults = [] } = {}) {
  const port = await freePort();
  const script = faults.flatMap((fault) => ['--fault', fault]);
  const { child, log } = launch(t, [command, '--listen', `${host}:${port}`, ...script], env);
  const answers = async () => (await fetch(`http://127.0.0.1:${port}/healthz`).catch(() => null)) !== null;
  await ready(answers, child, log);
  return { url: `http://localhost:${port}/`, port, child, log };
}

/** The settings of a daemon that speaks HTTPS too, with a local authority of its own.
 *  @param {import('node:test').TestContext} t */
export function secureSettings(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  return { VOICELIVED_TLS_LISTEN: '[::]:0', VOICELIVED_STATE_DIR: folder };
}

/** @param {Awaited<ReturnType<typeof startDaemon>>} daemon @returns {Promise<number>} where it speaks HTTPS */
export async function securePort({ child, log }) {
  const found = () => log().match(/listening on https:\S+:(\d+)/);
  await ready(found, child, log);
  return Number(found()[1]);
}

/** Starts the simulated service alone. @param {string[]} [faults]
 *  @returns {Promise<{url: string, log: () => string}>} */
export async function startSimulator(t, faults = []) {
  const script = faults.flatMap((fault) => ['--fault', fault]);
  const { child, log } = launch(t, ['simulate', '--listen', '127.0.0.1:0', ...script], {});
  const found = () => log().match(/listening on ws:(\S+)/);
  await ready(found, child, log);
  return { url: `http:${found()[1]}`, log };
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

/** A port of this machine that nothing listens on. @returns {Promise<number>} */
export async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  await once(server, 'close');
  return port;
}

async function ready(condition, child, log) {
  for (const end = Date.now() + READY_MS; Date.now() < end; await sleep(50)) {
    if (child.exitCode !== null) throw new Error(`voicelived ended with ${child.exitCode}: ${log()}`);
    if (await condition()) return;
  }
  throw new Error(`voicelived is not ready: ${log()}`);
}
