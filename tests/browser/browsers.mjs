// The two browsers, one at a time, and a page in them with everything a test looks at.

import assert from 'node:assert/strict';
import { fileURLToPath } from 'node:url';
import { chromium, firefox } from 'playwright-core';

import { RATE_HZ } from './sound.mjs';

const WAIT_MS = 20000; // generous: a busy machine is no fault of the page
const TAP = fileURLToPath(new URL('tap.js', import.meta.url));
// For each window Chromium loads two pages of its address bar, and for the next site it keeps a process ready. Nobody types an
// address here, and all this takes as much of a processor as the page itself. Chromium knows the last list of features alone,
// so the driver's own is in it too (chromiumSwitches of playwright-core 1.64.1).
const DRIVERS_FEATURES =
  'AvoidUnnecessaryBeforeUnloadCheckSync,DestroyProfileOnBrowserClose,DialMediaRouteProvider,GlobalMediaControls,HttpsUpgrades,LensOverlay,' +
  'MediaRouter,PaintHolding,ThirdPartyStoragePartitioning,BlockOriginHeaderModificationOnRedirect,AvoidCorsURLLoaderRestartOnRedirect,' +
  'Translate,AutoDeElevate,OptimizationHints,NetworkTimeServiceQuerying,AimEnabled';
const WITHOUT = 'WebUIOmniboxPopup,WebUIOmniboxAimPopup,WebUIOmniboxFullPopup,PreloadTopChromeWebUI,SpareRendererForSitePerProcess';
const CHROMIUM_FLAGS = [
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  `--disable-features=${DRIVERS_FEATURES},${WITHOUT}`,
];

/** @param {{file?: string, microphone?: 'allow'|'deny'|'none', flags?: string[], home?: string}} wish
 *    `file` is what the microphone hears, once, from the moment it is opened; `home` has the authorities it trusts */
export async function launchChromium(t, { file, microphone = 'allow', flags = [], home } = {}) {
  const args = [...CHROMIUM_FLAGS, ...flags];
  args.push(`--use-fake-ui-for-media-stream${microphone === 'deny' ? '=deny' : ''}`);
  if (microphone !== 'none') args.push('--use-fake-device-for-media-stream');
  if (file) args.push(`--use-file-for-fake-audio-capture=${file}%noloop`);
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium',
    headless: true,
    args,
    env: home ? { ...process.env, HOME: home } : process.env,
  });
  t.after(() => browser.close());
  return browser;
}

/** Dark, and with less motion. Its driver can emulate neither, so Firefox takes both when it starts. No process waits for the
 *  next site, as in Chromium. */
const FIREFOX_LOOK = { 'layout.css.prefers-color-scheme.content-override': 0, 'ui.prefersReducedMotion': 1, 'dom.ipc.processPrelaunch.enabled': false };
/** For a test that looks at motion, or wants its load. */
export const MOVING = { 'ui.prefersReducedMotion': 0 };
const FIREFOX_PREFS = {
  // The second lets a test read what was copied.
  allow: { 'media.navigator.permission.disabled': true, 'dom.events.testing.asyncClipboard': true },
  deny: { 'permissions.default.microphone': 2 },
  fake: { 'media.navigator.permission.disabled': true, 'media.navigator.streams.fake': true }, // needs no sound server
};

/** @param {{server?: string, microphone?: keyof typeof FIREFOX_PREFS, profile?: string, prefs?: object}} wish
 *    `server` is a PulseAudio's address, `profile` a folder to be used as it is
 *  @returns {Promise<import('playwright-core').Browser|import('playwright-core').BrowserContext>} a context for a profile */
export async function launchFirefox(t, { server = 'unix:/nonexistent', microphone = 'allow', profile, prefs } = {}) {
  const options = {
    channel: 'moz-firefox',
    executablePath: process.env.FIREFOX_BIN ?? '/usr/bin/firefox-esr',
    headless: true,
    env: { ...process.env, PULSE_SERVER: server },
    firefoxUserPrefs: { ...FIREFOX_LOOK, ...FIREFOX_PREFS[microphone], ...prefs },
  };
  const browser = await (profile ? firefox.launchPersistentContext(profile, options) : firefox.launch(options));
  t.after(() => browser.close());
  return browser;
}

/** The page under test, as a user meets it. */
export class Talk {
  /** @param {import('playwright-core').Page} page */
  constructor(page) {
    this.page = page;
    this.complaints = [];
    this.reached = 0;
    page.setDefaultTimeout(WAIT_MS);
    page.on('console', (message) => message.type() === 'error' && this.complaints.push(message.text()));
    page.on('pageerror', (error) => this.complaints.push(String(error)));
    this.button = page.locator('#talk');
  }

  /** @param {import('playwright-core').Browser|import('playwright-core').BrowserContext} browser @param {string} url */
  static async open(browser, url, options = {}) {
    const page = await browser.newPage(options);
    await page.addInitScript({ path: TAP });
    const talk = new Talk(page);
    await page.goto(url);
    return talk;
  }

  async reload() {
    this.reached = 0;
    await this.page.reload();
  }

  async start() {
    await this.page.getByRole('button', { name: 'Start Talking' }).click();
  }

  /** Waits until the page is, or has been since the state asked for last, in this one: a state may be
   *  over before it can be looked at. @param {string} name */
  async state(name) {
    const waiting = this.page.waitForFunction(
      ([state, from]) => {
        const at = window.tap.states.indexOf(state, from);
        return at >= 0 && { at };
      },
      [name, this.reached],
    );
    const found = await waiting.catch(async (cause) => {
      throw new Error(`never ${name}: ${await this.states()}; the page says: ${await this.page.locator('main').innerText()}`, { cause });
    });
    this.reached = (await found.jsonValue()).at;
  }

  /** The welcome has been spoken: the simulator greets whoever calls. */
  async welcomed() {
    await this.state('speaking');
    await this.state('listening');
  }

  /** A call without a welcome (`no-welcome`) has begun: its sound runs, and its microphone gives something. */
  async begun() {
    await this.state('listening');
    await this.page.waitForFunction(() => window.tap.context?.state === 'running' && window.tap.mouth.length > 0);
  }

  /** @param {'user'|'assistant'} role @param {RegExp} text */
  async said(role, text) {
    await this.page.locator(`#log .turn.${role}:not([aria-hidden])`, { hasText: text }).first().waitFor();
  }

  /** @param {RegExp} text */
  async problem(text) {
    const words = this.page.getByRole('alert').filter({ hasText: text });
    await words.waitFor().catch(async (cause) => {
      throw new Error(`the page says: ${await this.page.locator('main').innerText()}`, { cause });
    });
  }

  /** @param {string} type of a message @returns {Promise<{at: number, type: string}[]>} */
  received(type) {
    return this.page.evaluate((wanted) => window.tap.got.filter((m) => m.type === wanted), type);
  }

  /** @param {string} type */
  sent(type) {
    return this.page.evaluate((wanted) => window.tap.sent.filter((m) => m.type === wanted), type);
  }

  /** Binary messages sent so far, each with its time, size and peak. @param {number} [since] */
  frames(since = 0) {
    return this.page.evaluate((from) => window.tap.sent.filter((m) => m.bytes && m.at >= from), since);
  }

  /** Opens the settings, does what is wished there, and closes them. @param {(dialog: import('playwright-core').Locator) => Promise<void>} wish */
  async set(wish) {
    await this.page.getByRole('button', { name: 'Settings' }).click();
    const dialog = this.page.getByRole('dialog', { name: 'Settings' });
    await wish(dialog);
    await dialog.getByRole('button', { name: 'Done' }).click();
    await dialog.waitFor({ state: 'hidden' });
  }

  /** All sound of replies that came over all sockets, as 16-bit samples. @returns {Promise<Int16Array>} */
  pcm() {
    return this.#samples('pcm');
  }

  /** All sound of the microphone that the page had to send. @returns {Promise<Int16Array>} */
  mouth() {
    return this.#samples('mouth');
  }

  async #samples(which) {
    const bytes = await this.page.evaluate((of) => {
      const pieces = window.tap[of];
      const all = new Int16Array(pieces.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const piece of pieces) {
        all.set(piece, at);
        at += piece.length;
      }
      const bytes = new Uint8Array(all.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return btoa(text);
    }, which);
    const raw = Buffer.from(bytes, 'base64');
    return new Int16Array(raw.buffer.slice(raw.byteOffset, raw.byteOffset + raw.length));
  }

  /** The queries of the sockets so far, without their secrets. @returns {Promise<string[]>} */
  async joinings() {
    const urls = await this.page.evaluate(() => window.tap.sockets);
    return urls.map((url) => new URL(url).search.replace(/resume=[0-9a-f]{32}&/, 'resume=SECRET&'));
  }

  /** The time in the page. */
  now() {
    return this.page.evaluate(() => Date.now());
  }

  states() {
    return this.page.evaluate(() => window.tap.states);
  }

  /** What went to the speaker so far, at 24 kHz. @returns {Promise<Float32Array>} */
  async heard() {
    const { rate, samples } = await this.page.evaluate(() => {
      const { rate, blocks } = window.tap;
      const all = new Int16Array(blocks.reduce((sum, { length }) => sum + length, 0));
      let at = 0;
      for (const block of blocks) for (const sample of block) all[at++] = sample * 32767;
      const bytes = new Uint8Array(all.buffer);
      let text = '';
      for (let i = 0; i < bytes.length; i += 8192) text += String.fromCharCode(...bytes.subarray(i, i + 8192));
      return { rate, samples: btoa(text) };
    });
    const raw = Buffer.from(samples, 'base64');
    return resample(new Int16Array(raw.buffer, raw.byteOffset, raw.length / 2), rate);
  }

  /** Nothing was blocked, nothing was thrown, nothing was logged as an error. */
  async noComplaints() {
    const violations = await this.page.evaluate(() => window.tap.violations);
    assert.deepEqual([...violations, ...this.complaints], []);
  }
}

/** Straight lines between samples: good enough to compare loudness. */
function resample(samples, rate) {
  const out = new Float32Array(Math.floor((samples.length * RATE_HZ) / rate));
  for (let i = 0; i < out.length; i++) {
    const x = (i * rate) / RATE_HZ;
    const at = Math.floor(x);
    out[i] = samples[at] + (x - at) * ((samples[at + 1] ?? 0) - samples[at]);
  }
  return out;
}
