// The states that a usual call does not come to, one after the other on one page: what a screen reader finds in them is
// compared with the record, and axe-core looks with all its rules (reader.mjs). The voice service is a stand-in that says
// what this test says, so each state lasts until it has been looked at.

import assert from 'node:assert/strict';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { stop } from './daemon.mjs';
import { engines } from './engines.mjs';
import { joined } from './joining.mjs';
import { mirrorSettings, startMirror } from './mirror.mjs';
import { Trees } from './reader.mjs';
import { startRelay } from './relay.mjs';
import { test } from './test.mjs';

const TOKEN = 'abcd-2345-efgh-6789';
const HASTE_MS = 600; // a press on the card that comes sooner counts for nothing
const SECOND = Buffer.alloc(48000, 1).toString('base64'); // of sound
const [chromium] = engines;

/** A folder with a tool that asks first, and then is at work until the test says so. */
function door(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'voicelived-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  const command = ['sh', '-c', 'cat >/dev/null; until [ -e open ]; do sleep 0.1; done; echo open'];
  const parameters = { type: 'object', properties: { which: { type: 'string' } } };
  const tool = { name: 'open_door', description: 'Opens a door of the house.', command, confirm: 'always', timeout_seconds: 60, parameters };
  fs.writeFileSync(path.join(folder, 'door.json'), JSON.stringify(tool));
  return { env: { VOICELIVED_TOOLS_DIR: folder }, open: () => fs.writeFileSync(path.join(folder, 'open'), '') };
}

/** The service's model calls the tool. */
function callTool(service) {
  const item = { id: 'item_call', object: 'realtime.item', type: 'function_call', name: 'open_door', call_id: 'call_1', arguments: '{"which":"front"}' };
  const response = { id: 'resp_call', status: 'in_progress' };
  service.tell({ type: 'response.created', response });
  service.tell({ type: 'response.output_item.done', response_id: response.id, output_index: 0, item: { ...item, status: 'completed' } });
  service.tell({ type: 'response.done', response: { ...response, status: 'completed', output: [item] } });
}

/** A daemon that stands still leaves the page in the state that it is in. */
async function meanwhileStill({ child }, look) {
  child.kill('SIGSTOP');
  try {
    await look();
  } finally {
    child.kill('SIGCONT');
  }
}

test('Chromium: the states that a usual call does not come to, and what a screen reader finds in them', async (t) => {
  const relay = await startRelay(t);
  const service = await startMirror(t, () => {});
  const { env, open } = door(t);
  const access = { VOICELIVED_ACCESS: 'token', VOICELIVED_ACCESS_TOKEN: TOKEN, VOICELIVED_REVERSIBLE_BARGE_IN: 'on' };
  const { talk, daemon } = await chromium.open(t, { command: 'run', relay, env: { ...mirrorSettings(service), ...env, ...access } });
  const { page } = talk;
  const trees = new Trees(talk, 'other states');
  const shows = (look) => page.locator(`body[data-look=${look}]`).waitFor();

  await page.getByLabel('Access token').waitFor();
  await trees.look('the access token is asked for');
  await page.getByLabel('Access token').fill(TOKEN);
  await page.keyboard.press('Enter');
  await talk.button.waitFor();
  await page.goto(`${page.url()}?kiosk`);
  await page.locator('.kiosk #talk').waitFor();
  await trees.look('a kiosk');
  await page.goto(page.url().replace('?kiosk', ''));
  talk.reached = 0;
  await talk.button.waitFor();

  await meanwhileStill(daemon, async () => {
    await talk.start();
    await shows('connecting');
    await trees.look('connecting');
  });
  await talk.state('listening');
  service.tell({ type: 'input_audio_buffer.speech_started', audio_start_ms: 0, item_id: 'item_1' });
  service.tell({ type: 'input_audio_buffer.speech_stopped', audio_end_ms: 900, item_id: 'item_1' });
  await shows('thinking');
  await trees.look('thinking');

  callTool(service);
  await page.getByRole('alertdialog').waitFor();
  await trees.look('a question');
  await sleep(HASTE_MS);
  await page.getByRole('button', { name: 'Yes, do it' }).click();
  await page.getByRole('alertdialog').waitFor({ state: 'hidden' });
  await shows('tool');
  await trees.look('a tool at work');
  open();
  await page.locator('#log .tool.done').waitFor();

  for (let second = 0; second < 20; second++) service.send(SECOND);
  await shows('speaking');
  await page.locator('#latency').waitFor();
  service.tell({ type: 'input_audio_buffer.speech_started', audio_start_ms: 2000, item_id: 'item_2' });
  await shows('held');
  await meanwhileStill(daemon, () => trees.look('held'));
  relay.shut();
  await shows('reconnecting');
  await trees.look('connecting again');
  relay.reopen();
  await joined(talk, 2);
  await stop(daemon.child);
  await talk.problem(/The daemon is stopping/);
  await shows('error');
  await trees.look('an error');
  assert.deepEqual(await page.evaluate(() => window.tap.violations), []);
  trees.compare();
});
