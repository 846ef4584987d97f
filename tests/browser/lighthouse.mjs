// Lighthouse looks at the page as a phone with a slow network loads it.

import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { test } from 'node:test';

import lighthouse from 'lighthouse';

import { startDaemon, stop } from './daemon.mjs';
import { until } from './sound.mjs';

const PERFECT = ['accessibility', 'best-practices'];
const FAST = 0.98;
const FAILURE = 0.5; // what it shows in red has less
// It simulates the phone from the times that this machine takes. Whatever else runs here makes the page slower, never
// faster. So the best of a few loadings counts, and one is enough if it is good.
const MOST_LOADINGS = 5;

/** A Chromium that Lighthouse drives itself. @returns {Promise<number>} its port */
async function startChromium(t) {
  const profile = fs.mkdtempSync(path.join(os.tmpdir(), 'vl-'));
  const flags = ['--headless=new', '--no-sandbox', '--disable-gpu', '--no-first-run', '--disable-background-networking', '--disable-component-update'];
  const program = process.env.CHROMIUM_BIN ?? '/usr/bin/chromium';
  const child = spawn(program, [...flags, `--user-data-dir=${profile}`, '--remote-debugging-port=0', 'about:blank'], { stdio: 'ignore' });
  t.after(async () => {
    await stop(child);
    fs.rmSync(profile, { recursive: true, force: true, maxRetries: 5, retryDelay: 200 });
  });
  const told = path.join(profile, 'DevToolsActivePort');
  await until(() => fs.existsSync(told), 'Chromium');
  return Number(fs.readFileSync(told, 'utf8').split('\n')[0]);
}

/** @param {object} lhr its report @returns {string[]} what it finds wrong */
function faults({ categories, audits, runtimeError }) {
  if (runtimeError) return [runtimeError.message];
  const score = (id, least) => (categories[id].score >= least ? [] : [`${id}: ${categories[id].score}`]);
  const failed = Object.values(audits).filter(({ id, score }) => score !== null && score < FAILURE);
  const code = audits['network-requests'].details.items.filter(({ resourceType }) => ['Script', 'Stylesheet'].includes(resourceType)).map(({ url }) => url);
  const twice = code.filter((url, at) => code.indexOf(url) !== at).map((url) => `fetched twice: ${url}`);
  return [...twice, ...PERFECT.flatMap((id) => score(id, 1)), ...score('performance', FAST), ...failed.map(({ id, displayValue }) => `${id}: ${displayValue}`)];
}

test('Lighthouse finds a phone with a slow network well served', async (t) => {
  const daemon = await startDaemon(t);
  const options = { port: await startChromium(t), onlyCategories: [...PERFECT, 'performance'] };
  let found = ['nothing was loaded'];
  for (let loading = 0; loading < MOST_LOADINGS && found.length > 0; loading++) {
    const { lhr } = await lighthouse(daemon.url, options);
    console.log(`  ${Object.values(lhr.categories).map(({ id, score }) => `${id} ${score}`).join(', ')}`);
    found = faults(lhr);
  }
  assert.deepEqual(found, []);
});
