// The open microphone: the user's choice or else the system's. When the user chooses another one, that is
// opened. When the microphone is lost, any other that works is opened.

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

  /** The microphone brings no frames any more, although the browser still lists it. Looks for one that works. */
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

  /** If no microphone is found, this is tried again when a device is plugged in. */
  async #search() {
    await this.#open().catch(() => this.#closed || this.#events.lost());
  }

  /** Not when the call ended, or the wish changed, while the browser was asking. */
  #counts(attempt) {
    return !this.#closed && attempt === this.#opening;
  }

  /** In browsers that change ids from visit to visit, only the name identifies a device. It is known only while
   *  a microphone is open. */
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

  /** Some browsers do not end the track of an unplugged device. But all of them list the devices. */
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

/** If the chosen one is missing, any other will do. `ideal` means just that, but with it Chromium ignores the
 *  choice.
 *  @param {string} [id] */
async function capture(id) {
  const media = navigator.mediaDevices;
  const wished = id && (await media.getUserMedia({ audio: { ...PROCESSING, deviceId: { exact: id } } }).catch(absent));
  return wished || media.getUserMedia({ audio: PROCESSING });
}

function absent(error) {
  if (!['OverconstrainedError', 'NotFoundError'].includes(error.name)) throw error;
}
