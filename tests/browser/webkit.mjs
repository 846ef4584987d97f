// WebKit: Debian's WebKitGTK, by its own WebDriver, without any package of npm. It is the engine of Safari, but not
// Safari: Apple's audio session, echo canceller and rules for power and autoplay are not in it.

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { freePort, stop } from './daemon.mjs';
import { until } from './sound.mjs';

const WAIT_MS = 30000; // as generous as in browsers.mjs
const LIBRARIES = { x64: 'x86_64-linux-gnu', arm64: 'aarch64-linux-gnu' }[process.arch];
const MINIBROWSER = `/usr/lib/${LIBRARIES}/webkit2gtk-4.1/MiniBrowser`;
/** The folder in which packaging/beside has unpacked it. Without it, it is installed. */
const BESIDE = process.env.WEBKIT_BESIDE;

/** The command that runs another. What is unpacked beside the system has its paths built in, so its /usr is laid over
 *  the system's, for this process and its children alone. @param {string[]} command */
function inside(command) {
  if (!BESIDE) return command;
  const alone = process.getuid() === 0 ? '-m' : '-rm';
  return ['unshare', alone, 'sh', '-c', `mount -t overlay overlay -o lowerdir='${BESIDE}/usr:/usr' /usr && exec "$@"`, 'sh', ...command];
}

/** Starts a program; it ends with the test. @returns {import('node:child_process').ChildProcess & {said: () => string}} */
function run(t, command, env) {
  const [program, ...args] = inside(command);
  const child = spawn(program, args, { env, stdio: ['ignore', 'ignore', 'pipe', 'pipe'] });
  let said = '';
  child.stderr.on('data', (text) => (said = (said + text).slice(-4000)));
  child.said = () => said;
  t.after(() => stop(child, 'SIGKILL'));
  return child;
}

/** A screen in memory. @returns {Promise<string>} its name */
async function startScreen(t, env) {
  const child = run(t, ['Xvfb', '-displayfd', '3', '-screen', '0', '1000x800x24', '-nolisten', 'tcp'], env);
  const [number] = await Promise.race([once(child.stdio[3], 'data'), once(child, 'exit')]);
  if (!Buffer.isBuffer(number)) throw new Error(`Xvfb: ${child.said()}`);
  return `:${String(number).trim()}`;
}

/** One window. @param {{server: string}} pulse the sound server @param {string[]} [args] of the browser
 *  @returns {Promise<WebKit>} */
export async function launchWebKit(t, { server }, args = []) {
  const home = fs.mkdtempSync(path.join(os.tmpdir(), 'vlw-'));
  const env = { PATH: process.env.PATH, HOME: home, XDG_RUNTIME_DIR: home, PULSE_SERVER: server, NO_AT_BRIDGE: '1', LC_ALL: 'C.UTF-8', LANGUAGE: 'en' };
  env.DISPLAY = await startScreen(t, env);
  const port = await freePort();
  const driver = run(t, ['WebKitWebDriver', '-p', String(port)], env);
  const at = `http://127.0.0.1:${port}`;
  await until(async () => (await fetch(`${at}/status`).catch(() => null))?.ok, `WebKitWebDriver: ${driver.said()}`);
  const options = { binary: MINIBROWSER, args: ['--automation', '--enable-media-stream=true', ...args] };
  const { sessionId } = await call(at, 'POST', '/session', { capabilities: { alwaysMatch: { 'webkitgtk:browserOptions': options } } });
  const browser = new WebKit(`${at}/session/${sessionId}`);
  t.after(async () => {
    await browser.close(); // a driver that is killed leaves its browser running
    fs.rmSync(home, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  });
  return browser;
}

async function call(at, method, way, body) {
  const reply = await fetch(at + way, { method, body: body && JSON.stringify(body), headers: { 'content-type': 'application/json' } });
  const { value } = await reply.json();
  if (!reply.ok) throw new Error(`${value.error}: ${value.message}`);
  return value;
}

export class WebKit {
  #at;

  /** @param {string} at the address of the session */
  constructor(at) {
    this.#at = at;
  }

  async goto(url) {
    await call(this.#at, 'POST', '/url', { url });
    const now = await call(this.#at, 'GET', '/url'); // a failed navigation is not reported
    if (now !== url) throw new Error(`still at ${now}`);
  }

  /** @param {string} expression in the page */
  eval(expression) {
    return call(this.#at, 'POST', '/execute/sync', { script: `return (${expression})`, args: [] });
  }

  /** @param {string} css @returns {Promise<string>} */
  async #find(css) {
    return Object.values(await call(this.#at, 'POST', '/element', { using: 'css selector', value: css }))[0];
  }

  async click(css) {
    await call(this.#at, 'POST', `/element/${await this.#find(css)}/click`, {});
  }

  async type(css, text) {
    await call(this.#at, 'POST', `/element/${await this.#find(css)}/value`, { text });
  }

  /** @param {string} expression that becomes true in the page */
  async waitFor(expression) {
    const end = Date.now() + WAIT_MS;
    while (!(await this.eval(expression))) {
      if (Date.now() > end) throw new Error(`never ${expression}; the page says: ${await this.eval('document.body.innerText')}`);
      await sleep(50);
    }
  }

  async state(name) {
    await this.waitFor(`document.body.dataset.state === '${name}'`);
  }

  async close() {
    await call(this.#at, 'DELETE', '').catch(() => {});
  }
}
