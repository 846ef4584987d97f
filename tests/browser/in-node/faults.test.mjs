// The table of faults in docs/architecture.md names a test for each of them, and that test is there.

import assert from 'node:assert/strict';
import fs from 'node:fs';

import { test } from '../test.mjs';

const read = (file) => fs.readFileSync(new URL(file, import.meta.url), 'utf8');

test('each fault of the page has its test', () => {
  const [, section] = read('../../../docs/architecture.md').split('### What a fault looks and sounds like');
  const rows = section.split('\n## ')[0].split('\n').filter((line) => line.startsWith('| ')).slice(1);
  assert.ok(rows.length >= 12, `${rows.length} faults`);
  for (const row of rows) {
    const [, fault, seen, heard, tests] = row.split('|').map((cell) => cell.trim());
    assert.ok(seen && heard, fault);
    for (const named of tests.split('; ')) {
      const [file, name] = named.split(': ');
      assert.ok(read(`../${file}.test.mjs`).includes(`: ${name}`), `${fault}: no test ${named}`);
    }
  }
});
