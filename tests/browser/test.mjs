// A test of the page, in the process that it belongs to: two for Firefox (`in-firefox-1.mjs`, `-2`), and two for all others
// (`in-chromium-1.mjs`, `-2`). Each starts its browser once. Two, since tests mostly wait for sound. A file that is run by
// itself has all its tests. `TEST_ONLY` names a file with the names of those that are to run, a line each.

import fs from 'node:fs';
import * as node from 'node:test';

const only = process.env.TEST_ONLY && fs.readFileSync(process.env.TEST_ONLY, 'utf8').split('\n');

/** @param {string} name begins with the browser's, where there is one @param {(t: import('node:test').TestContext) => unknown} body */
export function test(name, body) {
  const { TEST_IN } = process.env;
  if (only && !only.includes(name)) return;
  const browser = name.startsWith('Firefox: ') ? 'Firefox' : 'Chromium';
  if (!TEST_IN || TEST_IN === browser) node.test(name, body);
}

const HALVES = 2;

/** Makes the tests of a browser, those of every second file. @param {'Chromium'|'Firefox'} browser @param {1|2} half @returns {Promise<void>} */
export async function testIn(browser, half) {
  process.env.TEST_IN = browser;
  const files = fs.readdirSync(new URL('.', import.meta.url)).filter((file) => file.endsWith('.test.mjs'));
  for (const [at, file] of files.sort().entries()) if (at % HALVES === half - 1) await import(`./${file}`);
}
