// Stands between the daemon and the simulator, and notes what the daemon asks of the service.

import { once } from 'node:events';
import { WebSocket, WebSocketServer } from 'ws';

import { startSimulator } from './daemon.mjs';

/** @param {import('node:test').TestContext} t @param {string[]} faults of the simulator
 *  @returns {Promise<{url: string, commands: {type: string}[]}>} `url` for the daemon's settings (`mirrorSettings`),
 *    `commands` so far, without the microphone's audio */
export async function overhear(t, faults) {
  const simulator = await startSimulator(t, faults);
  const commands = [];
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  server.on('connection', (near, { url, headers }) => {
    const far = new WebSocket(new URL(url, simulator.url.replace('http', 'ws')), { headers: { 'api-key': headers['api-key'] } });
    const early = [];
    near.on('message', (text) => {
      const command = JSON.parse(text);
      if (command.type !== 'input_audio_buffer.append') commands.push(command);
      if (far.readyState === WebSocket.OPEN) far.send(String(text));
      else early.push(String(text));
    });
    far.on('open', () => early.forEach((text) => far.send(text)));
    far.on('message', (text) => near.send(String(text)));
    far.on('close', () => near.terminate());
    near.on('close', () => far.terminate());
    far.on('error', () => near.terminate());
  });
  t.after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}`, commands };
}
