// A relay of plain bytes, for connections that break, stall or cannot be made.

import { once } from 'node:events';
import net from 'node:net';

/** @typedef {object} Relay
 *  @property {number} port it listens at on 127.0.0.1
 *  @property {(port: number) => void} to where new connections lead
 *  @property {() => void} cut breaks all connections; new ones can be made
 *  @property {() => void} shut breaks all connections, and no new one can be made
 *  @property {() => void} reopen after `shut`
 *  @property {(delay: () => number) => void} late from now on what comes from where it leads is held for so many ms, in order
 *  @property {() => void} stall nothing more goes through the connections of now, and nobody is told; new ones work */

/** @param {import('node:test').TestContext} t @param {number} [port] where it leads, if that is known yet
 *  @returns {Promise<Relay>} */
export async function startRelay(t, port = 0) {
  const pairs = new Set();
  let open = true;
  let target = port;
  let delay = null;
  const server = net.createServer((client) => {
    if (!open) return client.destroy();
    const pair = [client, net.connect(target, '127.0.0.1')];
    pairs.add(pair);
    for (const [one, other] of [pair, pair.toReversed()]) {
      let due = 0;
      one.on('data', (bytes) => {
        if (delay && one === pair[1]) return hold(bytes, other);
        if (!other.write(bytes)) one.pause();
      });
      const hold = (bytes, to) => {
        due = Math.max(due, performance.now() + delay());
        setTimeout(() => to.write(bytes), due - performance.now());
      };
      one.on('drain', () => pairs.has(pair) && other.resume());
      one.on('error', () => {});
      one.on('close', () => {
        other.destroy();
        pairs.delete(pair);
      });
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const cut = () => pairs.forEach((pair) => pair.forEach((socket) => socket.destroy()));
  const stalled = new Set();
  const relay = {
    port: server.address().port,
    to: (next) => (target = next),
    late: (next) => (delay = next),
    cut,
    shut: () => {
      open = false;
      cut();
    },
    reopen: () => (open = true),
    stall: () => {
      for (const pair of pairs) {
        pairs.delete(pair);
        stalled.add(pair);
        pair.forEach((socket) => socket.pause());
      }
    },
  };
  t.after(() => {
    cut();
    stalled.forEach((pair) => pair.forEach((socket) => socket.destroy()));
    server.close();
  });
  return relay;
}
