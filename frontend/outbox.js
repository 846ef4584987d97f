// What leaves for the daemon in order: the microphone, and the end of a turn in its place among the frames. What the
// daemon has not heard leaves once more (docs/architecture.md, "The page").

const FRAME_MS = 20;
const KEPT_FRAMES = 250; // 5 s
const SPEED = 4; // times real time, for what has waited: faster would only wait in the daemon, or be dropped there
const MOST_CREDIT = 50; // frames: a timer of a hidden page may come once in a second

/** A frame of sound, or a text of the client.
 *  @typedef {ArrayBuffer|string} Entry */

export class Outbox {
  #waiting = [];
  #sent = []; // the latest
  #bytes = 0; // of sound sent in this call, as the daemon counts them
  #late = false; // what waits is older than the moment
  #credit = 0; // frames that may leave now
  #at = 0;

  /** @param {Entry} entry @param {number} [most] frames that may wait. Beyond it the oldest one is dropped */
  add(entry, most = KEPT_FRAMES) {
    this.#waiting.push(entry);
    this.#trim(most);
  }

  /** @param {number} now in ms @returns {Entry|undefined} the next one to send, if one may leave now */
  next(now) {
    if (this.#waiting.length === 0) this.#late = false;
    if (this.#late && !this.#pay(now)) return undefined;
    const entry = this.#waiting.shift();
    if (entry !== undefined) this.#remember(entry);
    return entry;
  }

  /** Something waits that may leave later. */
  get late() {
    return this.#late;
  }

  /** The call was joined again. What was not heard leaves again, before what has come since.
   *  @param {number|undefined} heard bytes of sound that the daemon has had in this call, if it says so
   *  @param {number} now in ms */
  rewind(heard, now) {
    // An end of the turn may have been lost with the socket. One too many does nothing.
    while (typeof this.#sent.at(-1) === 'string') this.#waiting.unshift(this.#sent.pop());
    let missing = heard <= this.#bytes ? this.#bytes - heard : 0;
    while (missing > 0 && this.#sent.length > 0) {
      const entry = this.#sent.pop();
      missing -= entry.byteLength ?? 0;
      this.#waiting.unshift(entry);
    }
    this.#bytes = heard ?? this.#bytes;
    this.#trim(KEPT_FRAMES);
    this.#late = true;
    this.#credit = SPEED;
    this.#at = now;
  }

  /** Another call begins. What waits is for it. */
  restart() {
    this.#sent = [];
    this.#bytes = 0;
    this.#late = false;
  }

  #pay(now) {
    this.#credit = Math.min(MOST_CREDIT, this.#credit + ((now - this.#at) * SPEED) / FRAME_MS);
    this.#at = now;
    if (this.#credit < 1) return false;
    this.#credit--;
    return true;
  }

  #remember(entry) {
    this.#bytes += entry.byteLength ?? 0;
    this.#sent.push(entry);
    if (this.#sent.length > KEPT_FRAMES) this.#sent.shift();
  }

  /** Old sound goes before the end of a turn does. */
  #trim(most) {
    while (this.#waiting.length > most) {
      const at = this.#waiting.findIndex((entry) => typeof entry !== 'string');
      this.#waiting.splice(Math.max(0, at), 1);
    }
  }
}
