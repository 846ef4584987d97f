// The page's jitter buffer in Node, by a virtual clock.

import fs from 'node:fs';
import { fileURLToPath } from 'node:url';
import vm from 'node:vm';

const MS = 24; // samples
const QUANTUM = 64; // a render quantum of 128 at 48 kHz

const scope = vm.createContext({});
const file = fileURLToPath(new URL('../../frontend/jitter.js', import.meta.url));
vm.runInContext(`{${fs.readFileSync(file, 'utf8')}}`, scope, { filename: file });

export const { JitterBuffer } = scope;

/** What a page with these messages would have played, if each after the first had come `late` ms later.
 *  @param {{at: number, bytes?: number, type?: string}[]} got of one answer, in order; `at` in ms
 *  @returns {number} ms in which it had run out of sound before the last sample */
export function drought(got, late = 0) {
  const buffer = new JitterBuffer();
  buffer.begin();
  const rest = got.filter(({ bytes, type }) => bytes || type === 'response_done');
  const from = rest[0].at;
  const out = new Float32Array(QUANTUM);
  let dry = 0;
  for (let now = 0; rest.length > 0 || buffer.waiting > 0; now += QUANTUM) {
    while (rest.length > 0 && (rest[0].at === from || rest[0].at + late <= from + now / MS)) {
      const { bytes } = rest.shift();
      if (bytes) buffer.push(new Int16Array(bytes / 2).fill(10000), now);
      else buffer.end();
    }
    buffer.take(out, QUANTUM, now);
    const over = rest.length === 0 && buffer.waiting === 0;
    if (buffer.played > 0 && buffer.state !== 'playing' && !over) dry += QUANTUM / MS;
  }
  return Math.round(dry);
}
