// The service ends its sessions after some seconds: the call goes on from one to the next, and nobody at the page
// notices it, while nobody speaks and while an answer plays.

import assert from 'node:assert/strict';

import { engines } from './engines.mjs';
import { calm, say } from './joining.mjs';
import { RATE_HZ, until } from './sound.mjs';
import { test } from './test.mjs';

const REPLY_SECONDS = 3;
/** The simulator's `reply-seconds` pattern, sample by sample. */
const pattern = (index) => ((index * 40503) << 16) >> 16;

for (const { name, open } of engines) {
  test(`${name}: sessions follow each other, and the page shows and plays nothing of it`, async (t) => {
    const faults = ['no-welcome', 'session-seconds=12', `reply-seconds=${REPLY_SECONDS}`, 'speed=2'];
    const { talk, daemon } = await open(t, { faults });
    await talk.start();
    await talk.state('listening');
    let answers = 0;
    for (const changes of [1, 2]) {
      // One that is playing when the next session is being prepared, and nothing for a while.
      await say(talk, 'Go on.');
      answers += 1;
      await until(async () => (await talk.received('response_done')).length === answers, 'an answer', 20000);
      await until(async () => (await rollovers(daemon)) >= changes, `change ${changes}`, 20000);
    }
    await say(talk, 'What have I said so far?');
    await talk.said('assistant', /So far you have said.*Go on\./);
    await talk.state('listening');
    const samples = await talk.pcm();
    assert.equal(samples.length, 3 * REPLY_SECONDS * RATE_HZ);
    const wrong = samples.findIndex((sample, index) => sample !== pattern(index % (REPLY_SECONDS * RATE_HZ)));
    assert.equal(wrong, -1, `sample ${wrong} is another one`);
    const told = (await talk.received('call_state')).map(({ state }) => state);
    assert.deepEqual(told, ['connecting', 'active'], 'the daemon tells nothing');
    assert.deepEqual(await talk.received('error'), []);
    const states = await talk.states();
    assert.equal(states.includes('reconnecting') || states.includes('error'), false, states.join(' '));
    assert.equal(await talk.page.locator('#log .divider').count(), 0);
    await calm(talk);
  });
}

/** How often a session of the service was followed by the next one. */
async function rollovers({ port }) {
  const text = await (await fetch(`http://127.0.0.1:${port}/metrics`)).text();
  return Number(text.match(/^voicelived_service_rollovers_total (\d+)$/m)[1]);
}
