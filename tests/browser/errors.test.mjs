// What goes wrong is said in words, and the page is ready for another try.

import assert from 'node:assert/strict';

import { launchChromium, launchFirefox, Talk } from './browsers.mjs';
import { servePage, startDaemon, stop } from './daemon.mjs';
import { engines } from './engines.mjs';
import { startPulse } from './sound.mjs';
import { test } from './test.mjs';

for (const { name, open } of engines) {
  test(`${name}: a daemon that dies in a call, and holds none`, async (t) => {
    const { talk, daemon } = await open(t, { env: { VOICELIVED_RESUME_SECONDS: '0' } });
    await talk.start();
    await talk.state('speaking');
    await stop(daemon.child, 'SIGKILL');
    await over(talk, /connection was lost/i);
    await talk.start(); // it is still away
    await over(talk, /cannot be reached/i);
  });

  test(`${name}: a service that is installed and not set up yet says so before anyone clicks`, async (t) => {
    // Under systemd that is a state, not the end.
    const { talk } = await open(t, { env: { NOTIFY_SOCKET: '/nonexistent' }, command: 'run' });
    await talk.problem(/not set up yet/i);
    await talk.start();
    await over(talk, /AZURE_VOICE_LIVE_ENDPOINT/);
  });

  test(`${name}: a call in which nobody speaks ends without an alarm, and the next one is told apart`, async (t) => {
    const { talk } = await open(t, { env: { VOICELIVED_IDLE_SECONDS: '1' } });
    await talk.start();
    await talk.state('speaking');
    await talk.page.locator('#status').filter({ hasText: 'Call ended' }).waitFor();
    assert.match(await talk.page.locator('#note').textContent(), /^Nobody has spoken for 1 seconds?, so the call was ended\.$/);
    assert.equal(await talk.page.locator('#problem').textContent(), '');
    assert.equal((await talk.states()).includes('error'), false);
    const divider = talk.page.locator('#log .turn ~ .divider');
    assert.equal(await divider.count(), 0);
    await talk.start();
    await divider.waitFor();
    await talk.page.locator('#log .divider ~ .turn.assistant').waitFor();
    assert.equal(await divider.count(), 1);
  });

  test(`${name}: all lines busy`, async (t) => {
    const { talk, browser, daemon } = await open(t, { env: { VOICELIVED_MAX_SESSIONS: '1' } });
    await talk.start();
    await talk.state('speaking');
    const second = await Talk.open(browser, daemon.url);
    await second.start();
    await over(second, /busy|too many|full|limit/i);
    // A machine that stands still for seconds breaks the first call by itself.
    if ((await talk.received('hello')).length === 1) assert.equal(await talk.page.locator('#problem').textContent(), '');
  });
}

// The page hangs up a line that is not open yet when the microphone is denied before that; Firefox logs it as an error.
const HUNG_UP_EARLY = /^(Firefox can’t establish a connection to the server|The connection to \S+ was interrupted)/;

const denied = [
  ['Chromium', (t) => launchChromium(t, { microphone: 'deny' })],
  ['Firefox', async (t) => launchFirefox(t, { microphone: 'deny', ...(await startPulse(t)) })],
];
for (const [name, launch] of denied) {
  test(`${name}: the microphone is denied`, async (t) => {
    await meets(t, launch, /microphone is blocked/i);
  });
}

test('Chromium: there is no microphone, and one can type', async (t) => {
  const { url } = await startDaemon(t);
  const talk = await Talk.open(await launchChromium(t, { microphone: 'none' }), url);
  await talk.start();
  await talk.state('listening');
  await talk.problem(/no microphone was found.*type/i);
});

test('Firefox: there is no sound server, so the sound never starts', async (t) => {
  await meets(t, () => launchFirefox(t, { microphone: 'fake' }), /could not start any sound/i);
});

test('Chromium: a daemon that is not set up is not one that stops', async (t) => {
  const [chromium] = engines;
  const { talk, daemon } = await chromium.open(t);
  await stop(daemon.child, 'SIGKILL'); // who is in front of it answers for it
  for (const [health, words] of [['not_configured', /not set up yet/i], ['draining', /stopping or restarting/i]]) {
    await talk.page.route('**/healthz', (route) => route.fulfill({ status: 503, body: health }));
    await talk.start();
    await talk.problem(words);
    await talk.page.getByRole('button', { name: 'Start Talking' }).waitFor();
  }
});

test('Chromium: a page over plain http explains itself before anyone clicks', async (t) => {
  const port = await servePage(t);
  const browser = await launchChromium(t, { flags: ['--host-resolver-rules=MAP voice.test 127.0.0.1'] });
  const talk = await Talk.open(browser, `http://voice.test:${port}/`);
  await talk.problem(/https:\/\//);
  await talk.start();
  await talk.problem(/localhost/);
  assert.deepEqual(await talk.states(), ['error']);
});

async function meets(t, launch, words) {
  const { url } = await startDaemon(t);
  const talk = await Talk.open(await launch(t), url);
  await talk.start();
  await over(talk, words);
  talk.complaints = talk.complaints.filter((complaint) => !HUNG_UP_EARLY.test(complaint));
  await talk.noComplaints();
}

/** The call is over, says why, holds no microphone, and the one button starts the next. */
async function over(talk, words) {
  await talk.state('error');
  await talk.problem(words);
  const live = await talk.page.evaluate(() => window.tap.tracks.filter((track) => track.readyState === 'live').length);
  assert.equal(live, 0);
  await talk.page.getByRole('button', { name: 'Start Talking' }).waitFor();
}
