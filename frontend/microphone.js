// The open microphone: the user's choice or else the system's. When the user chooses another one, that is
// opened. When the microphone is lost, any other that works is opened.
//
// Some browsers end each new track at once. So a track that did not last is replaced after a pause, which grows.
// After a few of them the search ends with words. A change of the devices, or the user, begins it anew.

import { find, listDevices } from './devices.js';

const PROCESSING = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const BRIEF_MS = 5000; // a track that ended sooner did not last
const PAUSES_MS = [500, 1000, 2000, 4000, 8000]; // before another try, after each track that did not last
const REST_MS = 30000; // after the last of them, until a change of the devices counts

/** Why there is no microphone: `gone`, or `brief` when the browser ends each one at once, or what the browser said.
 *  @typedef {'gone'|'brief'|DOMException} Loss */

/** @typedef {object} MicrophoneEvents
 *  @property {(stream: MediaStream) => void} open it is there, for the first time or again. When this throws, the one
 *    before stays in use
 *  @property {(why: Loss) => void} lost it is gone and there is no other; `open` follows when one is found
 *  @property {(on: boolean) => void} silenced the system has muted it, or gives its sound again */

export class Microphone {
  #events;
  #wish = null;
  #stream;
  #muted = false;
  #lost = false;
  #closed = false;
  #opening = 0; // counts attempts: only the last one matters
  #asking = 0; // attempts for which the browser has not answered yet
  #openedAt = 0;
  #briefs = 0; // tracks in a row that did not last
  #pause = 0; // the timer of the next try
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

  /** Another one, while a call goes on. @param {import('./choices.js').Device|null} wish
   *  @returns {Promise<void>} rejects when it cannot be opened; the one before stays, as the wish too */
  async change(wish) {
    const before = this.#wish;
    this.#wish = wish;
    this.#briefs = 0;
    const attempt = this.#opening + 1;
    try {
      await this.#open();
    } catch (error) {
      if (attempt === this.#opening) this.#wish = before;
      throw error;
    }
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    for (const track of this.#stream?.getTracks() ?? []) track.enabled = !on;
  }

  /** The microphone brings no frames any more, although the browser still lists it. Looks for one that works. */
  lost() {
    this.#lost = true;
    if (!this.#pause) this.#search();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#pause);
    navigator.mediaDevices.removeEventListener('devicechange', this.#onDevices);
    this.#end(this.#stream);
  }

  async #open() {
    clearTimeout(this.#pause);
    this.#pause = 0;
    const attempt = ++this.#opening;
    this.#asking++;
    try {
      await this.#try(attempt);
    } finally {
      this.#asking--;
    }
  }

  async #try(attempt) {
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
    await this.#open().catch((error) => {
      if (!this.#closed) this.#events.lost(error.name === 'NotAllowedError' ? error : 'gone');
    });
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

  /** The one before goes on until the new one works. A new one that does not work is let go, or the browser would
   *  show for ever that it records. */
  #take(stream) {
    for (const track of stream.getTracks()) track.enabled = !this.#muted;
    try {
      this.#events.open(stream);
    } catch (error) {
      this.#end(stream);
      throw error;
    }
    const before = this.#stream;
    this.#stream = stream;
    this.#lost = false;
    this.#openedAt = performance.now();
    for (const track of stream.getTracks()) {
      track.addEventListener('ended', () => stream === this.#stream && this.#onEnded());
      track.addEventListener('mute', () => stream === this.#stream && this.#events.silenced(true));
      track.addEventListener('unmute', () => stream === this.#stream && this.#events.silenced(false));
      if (track.readyState === 'ended') return this.#onEnded(before); // before anybody listened
    }
    this.#end(before);
  }

  #onEnded(before) {
    this.#end(before);
    const brief = performance.now() - this.#openedAt < BRIEF_MS;
    this.#briefs = brief ? this.#briefs + 1 : 0;
    this.#lost = true;
    if (!brief) return this.#search();
    if (this.#briefs > PAUSES_MS.length) return this.#events.lost('brief');
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = 0;
      if (!this.#closed) this.#search();
    }, PAUSES_MS[this.#briefs - 1]);
  }

  /** Some browsers do not end the track of an unplugged device. But all of them list the devices. */
  async #check() {
    if (this.#pause || this.#asking) return; // a try is due or under way, which may itself be what changed the list
    if (this.#lost) return this.#isResting() ? undefined : this.#search();
    const { deviceId } = this.#stream?.getTracks()[0]?.getSettings() ?? {};
    if (!deviceId) return;
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => null);
    const gone = all && !all.some((device) => device.kind === 'audioinput' && device.deviceId === deviceId);
    if (gone) this.lost();
  }

  /** Each try may count as a change of the devices, so it must not lead to the next one at once. */
  #isResting() {
    return this.#briefs > PAUSES_MS.length && performance.now() - this.#openedAt < REST_MS;
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
