// A stand-in for the voice service that sends back what it hears, at once. It has no turns, no model and no voice
// detection: one response that lasts as long as the call. So what is measured or heard through it is the way there and
// back, and nothing else. It is not the simulator (`voicelived simulate`), which behaves like the service.

import { once } from 'node:events';
import { WebSocketServer } from 'ws';

const RESPONSE = { response_id: 'resp_mirror', item_id: 'item_mirror', output_index: 0, content_index: 0 };

/** @param {{after: (end: () => void) => void}} t
 *  @param {(delta: string) => void} [heard] what becomes of a piece of base64, in place of sending it back; call
 *    `send` of the mirror for that
 *  @returns {Promise<{url: string, send: (delta: string) => void, done: () => void, tell: (event: {type: string}) => void}>} `url`
 *    for the daemon's settings, `send` says something, `done` ends the response: the next piece begins another; `tell` sends an
 *    event as it is */
export async function startMirror(t, heard) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0 });
  await once(server, 'listening');
  let socket;
  let replies = 0;
  let open = false;
  const tell = (event) => socket?.send(JSON.stringify({ event_id: 'event_mirror', ...event }));
  const id = () => `${RESPONSE.response_id}${replies}`;
  const send = (delta) => {
    if (!open) tell({ type: 'response.created', response: { id: `${RESPONSE.response_id}${++replies}`, status: 'in_progress' } });
    open = true;
    tell({ type: 'response.audio.delta', ...RESPONSE, response_id: id(), delta });
  };
  const done = () => {
    if (open) tell({ type: 'response.done', response: { id: id(), status: 'completed' } });
    open = false;
  };
  server.on('connection', (next) => {
    socket = next;
    open = false;
    tell({ type: 'session.created', session: { id: 'sess_mirror', model: 'mirror' } });
    next.on('message', (text) => {
      const event = JSON.parse(text);
      if (event.type === 'session.update') tell({ type: 'session.updated', session: { id: 'sess_mirror', ...event.session } });
      else if (event.type === 'input_audio_buffer.append') (heard ?? send)(event.audio);
    });
  });
  t.after(() => {
    for (const client of server.clients) client.terminate();
    server.close();
  });
  return { url: `ws://127.0.0.1:${server.address().port}`, send, done, tell };
}

/** Settings of a daemon whose service is the mirror. @param {{url: string}} mirror */
export function mirrorSettings({ url }) {
  return { AZURE_VOICE_LIVE_ENDPOINT: url, AZURE_VOICE_LIVE_API_KEY: 'not-a-real-key' };
}
