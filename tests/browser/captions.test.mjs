// The conversation as text, in each browser: what the daemon tells becomes lines, which stay in the order of the
// conversation whatever comes first.

import assert from 'node:assert/strict';

import { servePage } from './daemon.mjs';
import { engines } from './engines.mjs';
import { test } from './test.mjs';

const transcript = (role, item_id, text, more = {}) => ({ type: 'transcript', role, item_id, text, ...more });
const delta = (role, item_id, text) => ({ type: 'transcript_delta', role, item_id, text });
const started = (item_id) => ({ type: 'speech_started', item_id });
const stopped = (item_id) => ({ type: 'speech_stopped', item_id });
const answering = { type: 'response_started' };

for (const { name, browser } of engines) {
  test(`${name}: lines are kept by their item`, async (t) => {
    const port = await servePage(t);
    const page = await (await browser(t)).newPage();
    await page.goto(`http://127.0.0.1:${port}/`);

    /** The lines after these messages, each `role: text`, with what marks it. */
    const lines = (messages, { end = false } = {}) =>
      page.evaluate(
        async ([messages, end]) => {
          const { Captions } = await import('./captions.js');
          const log = document.createElement('div');
          document.body.append(log);
          const captions = new Captions(log);
          captions.begin();
          for (const message of messages) message.typed ? captions.typed(message.typed) : captions.message(message);
          if (end) captions.end();
          const shown = [...log.children].filter((line) => !line.hidden);
          const words = (line, part) => line.querySelector(`.${part}`)?.textContent ?? '';
          const told = (line) => `${line.classList[1]}: ${words(line, 'text')}${line.querySelector('.failed') ? ' (failed)' : ''}`;
          log.remove();
          return shown.map(told);
        },
        [messages, end],
      );

    await t.test('two utterances before the first transcript', async () => {
      const spoken = [started('u1'), stopped('u1'), started('u2'), stopped('u2')];
      assert.deepEqual(await lines(spoken), ['user: …', 'user: …']);
      const both = [transcript('user', 'u2', 'Second.'), transcript('user', 'u1', 'First.')];
      assert.deepEqual(await lines([...spoken, ...both]), ['user: First.', 'user: Second.']);
      const deltas = [delta('user', 'u2', 'Sec'), delta('user', 'u1', 'Fir'), delta('user', 'u2', 'ond'), delta('user', 'u1', 'st')];
      assert.deepEqual(await lines([...spoken, ...deltas]), ['user: First', 'user: Second']);
    });

    await t.test('a transcript that comes after the answer', async () => {
      const turn = [started('u1'), stopped('u1'), answering, delta('assistant', 'a1', 'It'), delta('assistant', 'a1', ' rains.')];
      const late = [transcript('assistant', 'a1', 'It rains.'), started('u2'), answering, delta('assistant', 'a2', 'Yes')];
      const words = [transcript('user', 'u2', 'Really?'), transcript('user', 'u1', 'Weather?'), transcript('assistant', 'a2', 'Yes.')];
      const wanted = ['user: Weather?', 'assistant: It rains.', 'user: Really?', 'assistant: Yes.'];
      assert.deepEqual(await lines([...turn, ...late, ...words]), wanted);
    });

    await t.test('a turn of a service that detects none', async () => {
      const turn = [stopped('u1'), answering, transcript('assistant', 'a1', 'It rains.'), transcript('user', 'u1', 'Weather?')];
      assert.deepEqual(await lines(turn), ['user: Weather?', 'assistant: It rains.']);
    });

    await t.test('what is told twice is shown once', async () => {
      const twice = [transcript('user', 'u1', 'Weather?'), transcript('assistant', 'a1', 'It rains.')];
      const again = [answering, transcript('assistant', 'a2', 'Yes.'), ...twice, transcript('assistant', 'a1', 'It rains.')];
      assert.deepEqual(await lines([started('u1'), ...twice, ...again]), ['user: Weather?', 'assistant: It rains.', 'assistant: Yes.']);
    });

    await t.test('the parts of an item', async () => {
      const parts = [transcript('assistant', 'a1', 'One.'), transcript('assistant', 'a1', 'Two.', { content_index: 1 })];
      assert.deepEqual(await lines(parts), ['assistant: One.', 'assistant: Two.']);
    });

    await t.test('a transcription that fails marks its line', async () => {
      const failed = (item_id) => ({ type: 'transcript_failed', item_id });
      const spoken = [started('u1'), stopped('u1'), started('u2'), stopped('u2'), transcript('user', 'u2', 'Second.')];
      assert.match((await lines([...spoken, failed('u1')]))[0], /^user: .*\(failed\)$/);
      assert.deepEqual((await lines([...spoken, failed('u1')])).length, 2);
      const kept = await lines([...spoken, failed('u1')], { end: true });
      assert.match(kept[0], /\(failed\)$/, 'it stays after the call');
      assert.match((await lines([failed('u9')]))[0], /^user: .*\(failed\)$/);
      const after = await lines([...spoken, failed('u1'), transcript('user', 'u1', 'First.')]);
      assert.deepEqual(after, ['user: First.', 'user: Second.'], 'the words came after all');
    });

    await t.test('a service that names no items', async () => {
      const turn = [started(), stopped(), answering, transcript('assistant', undefined, 'It rains.'), transcript('user', undefined, 'Weather?')];
      assert.deepEqual(await lines(turn), ['user: Weather?', 'assistant: It rains.']);
      assert.deepEqual(await lines([started(), started()]), ['user: …'], 'a cough');
    });

    await t.test('a typed turn over an answer leaves no empty line', async () => {
      const typed = [transcript('assistant', 'a1', 'It rai…'), { typed: 'Stop.' }, { type: 'speech_started' }, { type: 'speech_stopped' }];
      assert.deepEqual(await lines(typed), ['assistant: It rai…', 'user: Stop.']);
    });

    await t.test('words that were typed and then spoken are both shown', async () => {
      const spoken = [started('u1'), stopped('u1'), transcript('user', 'u1', 'Yes.')];
      assert.deepEqual(await lines([{ typed: 'Yes.' }, ...spoken]), ['user: Yes.', 'user: Yes.']);
      assert.deepEqual(await lines([{ typed: 'Yes.' }, transcript('user', 't1', 'Yes.')]), ['user: Yes.'], 'told again');
    });

    await t.test('speech without words leaves no line after the call', async () => {
      assert.deepEqual(await lines([started('u1'), stopped('u1')], { end: true }), []);
    });
  });
}
