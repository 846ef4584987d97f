// What leaves for the daemon in order: the microphone, and the end of a turn in its place among the frames. What the
// daemon has not heard leaves once more (docs/architecture.md, "The page").

const BYTES_PER_MS = 48;
const SHORT_MS = 20;
const KEPT_MS = 5000;
const SENT_FRAMES = 250; // kept for another socket, of 20 ms and more
const SPEED = 4; // times real time, for what has waited: faster would only wait in the daemon, or be dropped there
const MOST_CREDIT_MS = 1000; // a timer of a hidden page may come once in a second

/** A frame of sound, or a text of the client.
 *  @typedef {ArrayBuffer|string} Entry */

export class Outbox {
  #waiting = [];
  #sent = []; // the latest
  #bytes = 0; // of sound sent in this call, as the daemon counts them
  #late = false; // what waits is older than the moment
  #credit = 0; // ms of sound that may leave now
  #at = 0;

  /** @param {Entry} entry @param {number} [most] ms that may wait. Beyond it the oldest frame is dropped */
  add(entry, most = KEPT_MS) {
    this.#waiting.push(entry);
    this.#trim(most);
  }

  /** @param {number} now in ms @returns {Entry|undefined} the next one to send, if one may leave now */
  next(now) {
    if (this.#waiting.length === 0) this.#late = false;
    if (this.#late && !this.#pay(length(this.#waiting[0]), now)) return undefined;
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
    this.#trim(KEPT_MS);
    this.#late = true;
    this.#credit = SPEED * SHORT_MS;
    this.#at = now;
  }

  /** Another call begins. What waits is for it. */
  restart() {
    this.#sent = [];
    this.#bytes = 0;
    this.#late = false;
  }

  #pay(ms, now) {
    this.#credit = Math.min(MOST_CREDIT_MS, this.#credit + (now - this.#at) * SPEED);
    this.#at = now;
    if (this.#credit < ms) return false;
    this.#credit -= ms;
    return true;
  }

  #remember(entry) {
    this.#bytes += entry.byteLength ?? 0;
    this.#sent.push(entry);
    if (this.#sent.length > SENT_FRAMES) this.#sent.shift();
  }

  /** Old sound goes before the end of a turn does. */
  #trim(most) {
    let ms = this.#waiting.reduce((sum, entry) => sum + length(entry), 0);
    while (ms > most) {
      const at = this.#waiting.findIndex((entry) => typeof entry !== 'string');
      const [entry] = this.#waiting.splice(Math.max(0, at), 1);
      ms -= length(entry);
    }
  }
}

/** In ms. A text counts as a short frame, so that there is an end to them too. @param {Entry} entry */
function length(entry) {
  return typeof entry === 'string' ? SHORT_MS : entry.byteLength / BYTES_PER_MS;
}
