// The open microphone: the one that is wished for or the system's choice, another when the user changes the
// wish, and any that works when it is lost.

import { find, listDevices } from './devices.js';

const PROCESSING = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };

/** @typedef {object} MicrophoneEvents
 *  @property {(stream: MediaStream) => void} open it is there, for the first time or again
 *  @property {() => void} lost it is gone and there is no other; `open` follows when one is found */

export class Microphone {
  #events;
  #wish = null;
  #stream;
  #muted = false;
  #lost = false;
  #closed = false;
  #opening = 0; // counts attempts: only the last one matters
  #onDevices = () => this.#check();

  /** @param {MicrophoneEvents} events */
  constructor(events) {
    this.#events = events;
  }

  /** @param {import('./choices.js').Device|null} wish */
  async open(wish) {
    this.#wish = wish;
    navigator.mediaDevices.addEventListener('devicechange', this.#onDevices);
    await this.#open();
  }

  /** Another one, while a call goes on. @param {import('./choices.js').Device|null} wish */
  async change(wish) {
    this.#wish = wish;
    await this.#open();
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    for (const track of this.#stream?.getTracks() ?? []) track.enabled = !on;
  }

  /** Nothing comes any more, whatever the browser says: looks for one that works. */
  lost() {
    this.#lost = true;
    this.#search();
  }

  close() {
    this.#closed = true;
    navigator.mediaDevices.removeEventListener('devicechange', this.#onDevices);
    this.#end(this.#stream);
  }

  async #open() {
    const attempt = ++this.#opening;
    let stream = await capture(this.#wish?.id);
    const better = await this.#better(stream);
    if (better && this.#counts(attempt)) {
      this.#end(stream); // first: phones open one at a time
      stream = await capture(better);
    }
    if (this.#counts(attempt)) this.#take(stream);
    else this.#end(stream);
  }

  /** When none is found, it is tried again as soon as a device comes. */
  async #search() {
    await this.#open().catch(() => this.#closed || this.#events.lost());
  }

  /** Not when the call ended, or the wish changed, while the browser was asking. */
  #counts(attempt) {
    return !this.#closed && attempt === this.#opening;
  }

  /** Where ids change from visit to visit, the name tells, which is known only when a microphone is open. */
  async #better(stream) {
    const [track] = stream.getTracks();
    if (!this.#wish || track.label === this.#wish.label) return null;
    const meant = find(await listDevices('audioinput'), this.#wish)?.deviceId;
    return meant === track.getSettings().deviceId ? null : meant;
  }

  #take(stream) {
    const before = this.#stream;
    this.#stream = stream;
    this.#lost = false;
    this.mute(this.#muted);
    for (const track of stream.getTracks()) {
      track.addEventListener('ended', () => stream === this.#stream && this.lost());
    }
    this.#events.open(stream);
    this.#end(before);
  }

  /** Some browsers end no track when its device is unplugged, but all can be asked what there is. */
  async #check() {
    if (this.#lost) return this.#search();
    const { deviceId } = this.#stream?.getTracks()[0]?.getSettings() ?? {};
    if (!deviceId) return;
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => null);
    const gone = all && !all.some((device) => device.kind === 'audioinput' && device.deviceId === deviceId);
    if (gone) this.lost();
  }

  #end(stream) {
    for (const track of stream?.getTracks() ?? []) track.stop();
  }
}

/** When the wished one is not there, any will do. `ideal` would say just that, but Chromium then takes any.
 *  @param {string} [id] */
async function capture(id) {
  const media = navigator.mediaDevices;
  const wished = id && (await media.getUserMedia({ audio: { ...PROCESSING, deviceId: { exact: id } } }).catch(absent));
  return wished || media.getUserMedia({ audio: PROCESSING });
}

function absent(error) {
  if (!['OverconstrainedError', 'NotFoundError'].includes(error.name)) throw error;
}
