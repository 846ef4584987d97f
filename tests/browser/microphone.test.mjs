// A microphone that gives no sound, ends at once or cannot be used, and a sound system that was away for a while.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';

import { engines } from './engines.mjs';
import { until } from './sound.mjs';
import { test } from './test.mjs';

const problem = (talk) => talk.page.locator('#problem').textContent();
const tracks = (talk) => talk.page.evaluate(() => window.tap.tracks.length);
const live = (talk) => talk.page.evaluate(() => window.tap.tracks.filter((track) => track.readyState === 'live').length);
const chooser = (talk) => talk.page.getByRole('button', { name: 'Choose another microphone' });

/** A call whose microphone hears what the test says, at the loudness it says. */
async function begin(t, open) {
  const { talk } = await open(t);
  await talk.page.evaluate(() => window.tap.useVoice());
  await talk.start();
  await talk.state('speaking');
  return talk;
}

function voice(talk, level) {
  return talk.page.evaluate((to) => void window.tap.voice(to), level);
}

/** What the browser tells when the system mutes a microphone. */
function system(talk, event) {
  return talk.page.evaluate((name) => {
    const track = window.tap.tracks.at(-1);
    Object.defineProperty(track, 'muted', { get: () => name === 'mute', configurable: true });
    track.dispatchEvent(new Event(name));
  }, event);
}

/** Two microphones to choose from, as they are once a browser tells their names. */
function named(talk) {
  return talk.page.evaluate(() => {
    const device = (deviceId, label) => ({ kind: 'audioinput', deviceId, label, groupId: '' });
    navigator.mediaDevices.enumerateDevices = async () => [device('a', 'Desk'), device('b', 'Headset')];
  });
}

function choose(talk, index) {
  return talk.set(async () => {
    const select = talk.page.getByRole('combobox', { name: 'Microphone' });
    await select.locator('option').nth(index).waitFor({ state: 'attached' });
    await select.selectOption({ index });
  });
}

async function framesFlow(talk) {
  const since = await talk.now();
  await until(async () => (await talk.frames(since)).length > 10, 'microphone frames');
}

for (const { name, open } of engines) {
  test(`${name}: a microphone of nothing but zeros is named, and another one offered, until it sounds`, async (t) => {
    const talk = await begin(t, open);
    const label = await talk.page.evaluate(() => window.tap.tracks[0].label);
    await talk.problem(/gives no sound/);
    assert.ok((await problem(talk)).includes(label), `${await problem(talk)} names ${label}`);
    await chooser(talk).click();
    await talk.page.getByRole('dialog', { name: 'Settings' }).waitFor();
    await talk.page.keyboard.press('Escape');
    await voice(talk, 0.1);
    await until(async () => (await problem(talk)) === '', 'the words to go');
    assert.equal(await chooser(talk).isVisible(), false);

    // The user's own mute is no fault, and its end begins the count anew.
    await talk.page.getByRole('button', { name: 'Mute' }).click();
    await voice(talk, 0);
    await sleep(5500);
    assert.equal(await problem(talk), '');
    await talk.page.getByRole('button', { name: 'Mute' }).click();
    await sleep(1500);
    assert.equal(await problem(talk), '');
    await talk.problem(/gives no sound/);
    await talk.noComplaints();
  });

  test(`${name}: a microphone that cannot be connected leaves the one before in use, and is let go`, async (t) => {
    const talk = await begin(t, open);
    await voice(talk, 0.1);
    await framesFlow(talk);
    await talk.page.evaluate(() => {
      const create = AudioContext.prototype.createMediaStreamSource;
      AudioContext.prototype.createMediaStreamSource = function (stream) {
        if (stream.getTracks()[0] !== window.tap.tracks.at(-1) || window.tap.works) return create.call(this, stream);
        throw new DOMException('different sample rates', 'NotSupportedError');
      };
    });
    await named(talk);
    await choose(talk, 1);
    await talk.problem(/could not be opened.*NotSupportedError/);
    await framesFlow(talk);
    const ready = () => talk.page.evaluate(() => window.tap.tracks.map((track) => track.readyState));
    const [first, ...others] = await ready();
    assert.equal(first, 'live');
    assert.ok(others.length > 0 && others.every((state) => state === 'ended'), `${others}`);
    const since = await talk.now();
    await voice(talk, 0.3);
    await until(async () => (await talk.frames(since)).some(({ peak }) => peak > 2000), 'sound from the first one');

    await talk.page.evaluate(() => (window.tap.works = true));
    await choose(talk, 0);
    await until(async () => (await problem(talk)) === '', 'the words to go');
    await until(async () => (await live(talk)) === 1, 'one microphone');
    await framesFlow(talk);
    await talk.noComplaints();
  });

  test(`${name}: an interrupted context is not resumed before the interruption is over`, async (t) => {
    const talk = await begin(t, open);
    await voice(talk, 0.1);
    await framesFlow(talk);
    await talk.page.evaluate(() => {
      const { tap } = window;
      tap.resumed = 0;
      const { context } = tap;
      const resume = context.resume.bind(context);
      context.resume = () => {
        tap.resumed++;
        return tap.stuck ? Promise.resolve() : resume();
      };
      tap.become = (state) => {
        Object.defineProperty(context, 'state', { get: () => state, configurable: true });
        context.dispatchEvent(new Event('statechange'));
      };
      tap.become('interrupted');
    });
    const resumed = () => talk.page.evaluate(() => window.tap.resumed);
    await talk.problem(/sound is paused/i);
    await talk.page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
    await talk.page.locator('#stage').click();
    await sleep(1000);
    assert.equal(await resumed(), 0);
    await talk.page.evaluate(() => window.tap.become('suspended'));
    assert.ok((await resumed()) > 0);
    await talk.page.evaluate(() => window.tap.become('running'));
    await until(async () => (await problem(talk)) === '', 'the words to go');
    await framesFlow(talk);

    // It says that it runs, and its clock stands still: a new one takes over, for both directions.
    const first = await talk.page.evaluateHandle(() => window.tap.context);
    await talk.page.evaluate(() => {
      const at = window.tap.context.currentTime;
      window.tap.become('interrupted');
      Object.defineProperty(window.tap.context, 'currentTime', { get: () => at });
      window.tap.become('suspended');
      window.tap.become('running');
      window.tap.source = null;
    });
    const other = (was) => window.tap.context !== was && window.tap.source?.context === window.tap.context;
    await talk.page.waitForFunction(other, first);
    await framesFlow(talk);
    await voice(talk, 0.3);
    const since = await talk.now();
    await until(async () => (await talk.frames(since)).some(({ peak }) => peak > 2000), 'the microphone');
    await talk.page.getByRole('textbox', { name: 'Type instead of speaking' }).fill('Hello');
    await talk.page.keyboard.press('Enter');
    await talk.state('speaking');
    assert.equal(await live(talk), 1);
    await talk.noComplaints();
  });
}

for (const { name, open } of engines) {
  test(`${name}: the words about a silent microphone go with the sound, also behind another context, and come later in a call`, async (t) => {
    const talk = await begin(t, open);
    await talk.problem(/gives no sound/);
    const first = await talk.page.evaluateHandle(() => window.tap.context);
    await talk.page.evaluate(() => {
      const at = window.tap.context.currentTime;
      Object.defineProperty(window.tap.context, 'currentTime', { get: () => at });
      window.tap.source = null;
    });
    await talk.page.waitForFunction((was) => window.tap.context !== was && window.tap.source, first);
    await voice(talk, 0.1);
    await until(async () => (await problem(talk)) === '', 'the words to go');
    await framesFlow(talk);
    await voice(talk, 0);
    await talk.problem(/gives no sound/);
    await voice(talk, 0.1);
    await until(async () => (await problem(talk)) === '', 'the words to go again');
    await talk.noComplaints();
  });

  test(`${name}: a new context that needs a touch says so`, async (t) => {
    const talk = await begin(t, open);
    await voice(talk, 0.1);
    await framesFlow(talk);
    await talk.page.evaluate(() => {
      const { tap } = window;
      const Context = window.AudioContext;
      window.AudioContext = class extends Context {
        get state() {
          return tap.touched ? super.state : 'suspended';
        }

        async resume() {
          return tap.touched ? super.resume() : undefined;
        }

        dispatchEvent(event) {
          return tap.touched && super.dispatchEvent(event);
        }
      };
      const at = tap.context.currentTime;
      Object.defineProperty(tap.context, 'currentTime', { get: () => at });
    });
    await talk.problem(/sound is paused/i);
    await talk.page.evaluate(() => (window.tap.touched = true));
    await talk.page.locator('#stage').click();
    await until(async () => (await problem(talk)) === '', 'the words to go');
    await framesFlow(talk);
    await talk.noComplaints();
  });

  test(`${name}: a choice that fails in whatever way leaves one microphone, and the words of the last choice`, async (t) => {
    const talk = await begin(t, open);
    await voice(talk, 0.1);
    await framesFlow(talk);
    await named(talk);
    await talk.page.evaluate(() => {
      const { mediaDevices } = navigator;
      const ask = mediaDevices.getUserMedia.bind(mediaDevices);
      mediaDevices.getUserMedia = async (wish) => {
        const id = wish.audio.deviceId?.exact;
        if (id) await new Promise((go) => setTimeout(go, id === window.tap.late ? 1500 : 0));
        if (id === window.tap.refused) throw new DOMException('taken', 'NotReadableError');
        const stream = await ask(wish);
        if (id === window.tap.dead) stream.getTracks()[0].stop();
        return stream;
      };
      window.tap.dead = 'a';
    });
    const first = () => talk.page.evaluate(() => window.tap.tracks[0].readyState);
    await choose(talk, 1); // it has ended before anybody could listen
    await talk.problem(/could not be opened.*one before stays/);
    assert.equal(await first(), 'live');
    assert.equal(await live(talk), 1);
    await framesFlow(talk);

    // A second failure in a row, of another kind, changes nothing.
    await talk.page.evaluate(() => (window.tap.refused = 'b'));
    await choose(talk, 2);
    await talk.problem(/could not be opened.*one before stays/);
    assert.equal(await first(), 'live');

    // The first of two choices fails when the second one works already.
    await talk.page.evaluate(() => Object.assign(window.tap, { dead: '', refused: 'a', late: 'a' }));
    await choose(talk, 1);
    await choose(talk, 2);
    await until(async () => (await first()) === 'ended', 'the second choice');
    await sleep(2500);
    assert.equal(await problem(talk), '');
    assert.equal(await live(talk), 1);

    // Its name is not the one that was wished for, and the browser cannot be asked about it.
    await talk.page.evaluate(() => {
      Object.assign(window.tap, { refused: '', late: '' });
      MediaStreamTrack.prototype.getSettings = () => {
        throw new DOMException('no', 'InvalidStateError');
      };
    });
    await choose(talk, 1);
    await sleep(1000);
    assert.equal(await live(talk), 1);
    await framesFlow(talk);
    await talk.noComplaints();
  });
}

// Firefox delivers no events that a test dispatches on a track.
const [chromium] = engines;

test('Chromium: a microphone that the system mutes is told at once, and when it is back', async (t) => {
  const talk = await begin(t, chromium.open);
  await voice(talk, 0.1);
  await framesFlow(talk);
  assert.equal(await problem(talk), '');
  await system(talk, 'mute');
  await talk.problem(/gives no sound/);
  await system(talk, 'unmute');
  await until(async () => (await problem(talk)) === '', 'the words to go');
  await talk.noComplaints();
});

test('Chromium: tracks that end at once are not asked for without a pause, and then there are words', async (t) => {
  const talk = await begin(t, chromium.open);
  await voice(talk, 0.1);
  await talk.page.evaluate(() => {
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    const end = (track) => setTimeout(() => (track.stop(), track.dispatchEvent(new Event('ended'))), 5);
    mediaDevices.getUserMedia = async () => {
      if (window.tap.tracks.length >= 40) return new Promise(() => {}); // a page without pauses would crash its tab
      const stream = await open({ audio: true });
      if (!window.tap.lasting) stream.getTracks().forEach(end);
      mediaDevices.dispatchEvent(new Event('devicechange')); // as some browsers do
      return stream;
    };
    end(window.tap.tracks.at(-1));
  });
  await sleep(3000);
  const early = await tracks(talk);
  assert.ok(early >= 2 && early <= 5, `${early} microphones in three seconds`);
  await until(async () => /soon after it has begun/.test(await problem(talk)), 'words', 30000);
  const before = await tracks(talk);
  await sleep(2000);
  assert.ok((await tracks(talk)) <= before + 1, 'it rests');
  await talk.page.evaluate(() => (window.tap.lasting = true));
  await named(talk);
  await choose(talk, 1);
  await until(async () => (await problem(talk)) === '', 'the words to go');
  await framesFlow(talk);
  await talk.noComplaints();
});

for (const refusal of ['NotReadableError', 'AbortError', 'NotFoundError']) {
  test(`Chromium: ${refusal} between tracks that end ends no search before its time`, async (t) => {
    const talk = await begin(t, chromium.open);
    await voice(talk, 0.1);
    await talk.page.evaluate((kind) => {
      const { mediaDevices } = navigator;
      const open = mediaDevices.getUserMedia.bind(mediaDevices);
      const end = (track, ms) => setTimeout(() => (track.stop(), track.dispatchEvent(new Event('ended'))), ms);
      let asked = 0;
      mediaDevices.getUserMedia = async () => {
        asked++;
        if (asked === 2 || asked === 3) throw new DOMException('not now', kind);
        const stream = await open({ audio: true });
        if (asked === 1) end(stream.getTracks()[0], 700); // after its first frames
        return stream;
      };
      end(window.tap.tracks.at(-1), 5);
    }, refusal);
    await until(async () => (await tracks(talk)) === 3, 'a microphone that lasts', 30000);
    await framesFlow(talk);
    assert.equal(await problem(talk), '');
    await talk.noComplaints();
  });
}

test('Chromium: the one before ends while its successor is refused: any other that works takes over', async (t) => {
  const talk = await begin(t, chromium.open);
  await voice(talk, 0.1);
  await framesFlow(talk);
  await sleep(5000); // it has lasted
  await named(talk);
  await talk.page.evaluate(() => {
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wish) => {
      if (!wish.audio.deviceId) return open(wish);
      await new Promise((go) => setTimeout(go, 1000));
      throw new DOMException('Failed to allocate audiosource', 'NotReadableError');
    };
  });
  await choose(talk, 1);
  await talk.page.evaluate(() => {
    const [track] = window.tap.tracks;
    track.stop();
    track.dispatchEvent(new Event('ended'));
  });
  await until(async () => (await live(talk)) === 1, 'another microphone');
  await framesFlow(talk);
  await talk.noComplaints();
});

test('Chromium: a call begins without a microphone, takes typed turns, and has the microphone once it is free', async (t) => {
  const { talk } = await chromium.open(t, { faults: ['no-welcome'] });
  await talk.page.evaluate(() => {
    window.tap.useVoice();
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wish) => {
      if (window.tap.free) return open(wish);
      throw new DOMException('Could not start audio source', 'NotReadableError');
    };
  });
  await talk.start();
  await talk.problem(/cannot open the microphone.*phone call or another program.*On Linux/i);
  await talk.state('listening');
  await talk.page.getByRole('textbox', { name: 'Type instead of speaking' }).fill('Hello without a voice');
  await talk.page.keyboard.press('Enter');
  await talk.said('user', /Hello without a voice/);
  await talk.state('speaking');
  await talk.page.evaluate(() => (window.tap.free = true));
  await until(async () => (await problem(talk)) === '', 'the words to go');
  await voice(talk, 0.1);
  await framesFlow(talk);
  await talk.noComplaints();
});

test('Chromium: a microphone that another program has is told, and tried again when the user is back', async (t) => {
  const talk = await begin(t, chromium.open);
  await voice(talk, 0.1);
  await framesFlow(talk);
  await talk.page.evaluate(() => {
    const { mediaDevices } = navigator;
    const open = mediaDevices.getUserMedia.bind(mediaDevices);
    mediaDevices.getUserMedia = async (wish) => {
      if (window.tap.free) return open(wish);
      throw new DOMException('Could not start audio source', 'NotReadableError');
    };
    const [track] = window.tap.tracks;
    track.stop();
    track.dispatchEvent(new Event('ended'));
  });
  await talk.problem(/cannot open the microphone.*phone call or another program/i);
  await sleep(18000); // all tries
  await talk.page.evaluate(() => (window.tap.free = true));
  await sleep(1500);
  assert.equal(await tracks(talk), 1);
  await talk.page.evaluate(() => document.dispatchEvent(new Event('visibilitychange')));
  await until(async () => (await problem(talk)) === '', 'the words to go');
  await framesFlow(talk);
  await talk.noComplaints();
});
