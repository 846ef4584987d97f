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

const HALF_OF = [1, 2, 2, 1]; // of each four files

/** Makes the tests of a browser, those of half the files. A long file has long tests, so both halves last about as long.
 *  @param {'Chromium'|'Firefox'} browser @param {1|2} half @returns {Promise<void>} */
export async function testIn(browser, half) {
  process.env.TEST_IN = browser;
  const here = new URL('.', import.meta.url);
  const files = fs.readdirSync(here).filter((file) => file.endsWith('.test.mjs'));
  const bytes = (file) => fs.statSync(new URL(file, here)).size;
  files.sort((a, b) => bytes(b) - bytes(a) || a.localeCompare(b));
  for (const [at, file] of files.entries()) if (HALF_OF[at % HALF_OF.length] === half) await import(`./${file}`);
}
