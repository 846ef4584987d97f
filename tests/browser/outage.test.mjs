// The daemon loses the voice service in the middle of a call: the page says so, and the call goes on.

import assert from 'node:assert/strict';

import { startSimulator } from './daemon.mjs';
import { engines } from './engines.mjs';
import { startRelay } from './relay.mjs';
import { test } from './test.mjs';

for (const { name, open } of engines) {
  test(`${name}: a call outlives the service's connection, and the page says what happens`, async (t) => {
    const simulator = await startSimulator(t, ['no-welcome']);
    const way = await startRelay(t, Number(new URL(simulator.url).port));
    const env = { AZURE_VOICE_LIVE_ENDPOINT: `ws://127.0.0.1:${way.port}`, AZURE_VOICE_LIVE_API_KEY: 'key' };
    const { talk } = await open(t, { env, command: 'run' });
    const { page } = talk;
    await talk.start();
    await talk.begun();
    way.shut();
    await talk.state('reconnecting');
    await page.getByRole('status').filter({ hasText: 'Connecting again' }).waitFor();
    await page.getByText('The connection to the voice service was lost').or(page.getByText('closed the connection')).first().waitFor();
    const frames = await talk.frames();
    way.reopen();
    await talk.state('listening');
    assert.ok((await talk.frames()) > frames, 'the microphone went on');
    assert.equal((await talk.states()).filter((state) => state === 'reconnecting').length, 1, 'it is said once');
    await page.locator('#text').fill('Are you back?');
    await page.keyboard.press('Enter');
    await talk.said('assistant', /Are you back\?/);
    await talk.noComplaints();
  });
}
