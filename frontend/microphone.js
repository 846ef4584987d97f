// The open microphone: the user's choice or else the system's. When the user chooses another one, that is
// opened. When the microphone is lost, any other that works is opened.
//
// Some browsers end each new track at once, or cannot open any for a while. So a track that did not last is replaced
// after a pause, which grows, and so is a try that failed. After a few of them the search ends with words. A change of
// the devices, or the user, begins it anew.

import { isBlocked } from './blocked.js';
import { find, listDevices } from './devices.js';

const PROCESSING = { channelCount: 1, echoCancellation: true, noiseSuppression: true, autoGainControl: true };
const BRIEF_MS = 5000; // a track that ended sooner did not last
const FIRM_MS = 20000; // nor did the second in a row that ended sooner than this
const PAUSES_MS = [500, 1000, 2000, 4000, 8000]; // before another try, after each one that did not last
const REST_MS = 30000; // after the last of them, until a change of the devices counts

const ABSENT = ['OverconstrainedError', 'NotFoundError'];

/** Why there is no microphone: `gone`; `none` was there yet; `taken` when the browser cannot open any that is there;
 *  `brief` when it ends each one soon; or what it said when it may not open any.
 *  @typedef {'gone'|'none'|'taken'|'brief'|DOMException} Loss */

/** @typedef {object} MicrophoneEvents
 *  @property {(stream: MediaStream) => void} open it is there, for the first time or again. When this throws, the one
 *    before stays in use
 *  @property {(why: Loss) => void} lost it is gone and there is no other; `open` follows when one is found
 *  @property {(on: boolean) => void} silenced the system has muted it, or gives its sound again */

export class Microphone {
  #events;
  #wish = null;
  #held = null; // the wish that the open one came from
  #stream;
  #muted = false;
  #lost = false;
  #closed = false;
  #opening = 0; // counts attempts: only the last one matters
  #asking = 0; // attempts for which the browser has not answered yet
  #triedAt = 0;
  #openedAt = 0;
  #briefs = 0; // tries in a row that gave nothing that lasted
  #ends = 0; // tracks in a row that were not firm
  #pause = 0; // the timer of the next try
  #absent = false; // none was there at the last one
  #onDevices = () => this.#check();

  /** @param {MicrophoneEvents} events */
  constructor(events) {
    this.#events = events;
  }

  /** Without any that works a call goes on, since one may be found later.
   *  @param {import('./choices.js').Device|null} wish @returns {Promise<void>} rejects when the user or the system says no */
  async open(wish) {
    this.#wish = wish;
    navigator.mediaDevices.addEventListener('devicechange', this.#onDevices);
    const attempt = this.#opening + 1;
    await this.#open(wish).catch((error) => {
      if (isBlocked(error)) throw error;
      if (!this.#counts(attempt)) return;
      this.#lost = true;
      this.#onFailed(error);
    });
  }

  /** Another one, while a call goes on. @param {import('./choices.js').Device|null} wish
   *  @returns {Promise<void>} rejects when it cannot be opened, unless a later wish counts by then; the one before stays,
   *    as its wish does */
  async change(wish) {
    this.#wish = wish;
    this.#briefs = this.#ends = 0;
    const attempt = this.#opening + 1;
    try {
      await this.#open(wish);
    } catch (error) {
      if (!this.#counts(attempt)) return;
      this.#wish = this.#held;
      if (this.#lost) this.#search(); // the one before has gone meanwhile
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
    this.retry();
  }

  /** The user is back: if there is no microphone, there may be one now. */
  retry() {
    if (this.#lost && !this.#pause && !this.#asking) this.#search();
  }

  close() {
    this.#closed = true;
    clearTimeout(this.#pause);
    navigator.mediaDevices.removeEventListener('devicechange', this.#onDevices);
    this.#end(this.#stream);
  }

  async #open(wish) {
    clearTimeout(this.#pause);
    this.#pause = 0;
    this.#absent = false;
    this.#triedAt = performance.now();
    const attempt = ++this.#opening;
    this.#asking++;
    try {
      await this.#try(wish, attempt);
    } finally {
      this.#asking--;
    }
  }

  async #try(wish, attempt) {
    let stream = await capture(wish?.id);
    const better = await this.#better(stream, wish).catch(() => null); // the one that is open will do
    if (better && this.#counts(attempt)) {
      this.#end(stream); // first: phones open one at a time
      stream = await capture(better);
    }
    if (this.#counts(attempt)) this.#take(stream, wish);
    else this.#end(stream);
  }

  /** If the one that the user wants does not work, any other will do. */
  async #search(wish = this.#wish) {
    const attempt = this.#opening + 1;
    try {
      await this.#open(wish);
    } catch (error) {
      if (!this.#counts(attempt)) return;
      if (wish && !isBlocked(error)) await this.#search(null);
      else this.#onFailed(error);
    }
  }

  /** If no microphone is found, this is tried again when a device is plugged in. */
  #onFailed(error) {
    this.#absent = ABSENT.includes(error.name);
    this.#events.lost(isBlocked(error) ? error : !this.#absent ? 'taken' : this.#stream ? 'gone' : 'none');
    if (!isBlocked(error) && (!this.#absent || this.#briefs > 0)) this.#tryLater();
  }

  /** Not when the call ended, or the wish changed, while the browser was asking. */
  #counts(attempt) {
    return !this.#closed && attempt === this.#opening;
  }

  /** In browsers that change ids from visit to visit, only the name identifies a device. It is known only while
   *  a microphone is open. */
  async #better(stream, wish) {
    const [track] = stream.getTracks();
    if (!wish || track.label === wish.label) return null;
    const meant = find(await listDevices('audioinput'), wish)?.deviceId;
    return meant === track.getSettings().deviceId ? null : meant;
  }

  /** The one before goes on until the new one works. A new one that does not work is let go, or the browser would
   *  show for ever that it records. */
  #take(stream, wish) {
    for (const track of stream.getTracks()) track.enabled = !this.#muted;
    const dead = stream.getTracks().some((track) => track.readyState === 'ended'); // before anybody listened
    try {
      if (dead && this.#stream && !this.#lost) throw new DOMException('it has ended already', 'NotReadableError');
      this.#events.open(stream);
    } catch (error) {
      this.#end(stream);
      throw error;
    }
    const before = this.#stream;
    this.#stream = stream;
    this.#held = wish;
    this.#lost = false;
    this.#openedAt = performance.now();
    for (const track of stream.getTracks()) {
      track.addEventListener('ended', () => stream === this.#stream && this.#onEnded());
      track.addEventListener('mute', () => stream === this.#stream && this.#events.silenced(true));
      track.addEventListener('unmute', () => stream === this.#stream && this.#events.silenced(false));
    }
    this.#end(before);
    if (dead) this.#replace();
  }

  #onEnded() {
    this.#lost = true;
    if (!this.#asking) this.#replace(); // else another one is on its way
  }

  #replace() {
    this.#lost = true;
    const lived = performance.now() - this.#openedAt;
    this.#ends = lived < FIRM_MS ? this.#ends + 1 : 0;
    const brief = lived < BRIEF_MS || this.#ends > 1;
    if (!brief) this.#briefs = 0;
    if (!brief) return this.#search();
    if (!this.#tryLater()) this.#events.lost('brief');
  }

  /** @returns {boolean} whether there will be another try */
  #tryLater() {
    this.#briefs++;
    if (this.#briefs > PAUSES_MS.length) return false;
    clearTimeout(this.#pause);
    this.#pause = setTimeout(() => {
      this.#pause = 0;
      if (!this.#closed) this.#search();
    }, PAUSES_MS[this.#briefs - 1]);
    return true;
  }

  /** Some browsers do not end the track of an unplugged device. But all of them list the devices. */
  async #check() {
    // A try is due or under way, which may itself be what changed the list. One that found nothing changed nothing.
    if (this.#asking || (this.#pause && !this.#absent)) return;
    if (this.#lost) return this.#isResting() ? undefined : this.#search();
    const { deviceId } = this.#stream?.getTracks()[0]?.getSettings() ?? {};
    if (!deviceId) return;
    const all = await navigator.mediaDevices.enumerateDevices().catch(() => null);
    const gone = all && !all.some((device) => device.kind === 'audioinput' && device.deviceId === deviceId);
    if (gone) this.lost();
  }

  /** Each try may count as a change of the devices, so it must not lead to the next one at once. */
  #isResting() {
    return this.#briefs > PAUSES_MS.length && performance.now() - this.#triedAt < REST_MS;
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
  if (!ABSENT.includes(error.name)) throw error;
}
