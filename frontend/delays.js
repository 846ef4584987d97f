// How long the user waits for each answer, and where: last word → the service has heard the end → first sound at the
// daemon (`latency`) → at the page (`ping`) → at the loudspeaker. Pure: it is told the time, in ms.

const LEAST_LEVEL = 0.01;
const ABOVE_ROOM = 3; // times the loudness of the room
const ROOM_GROWS = 1.01; // each frame
const PATIENCE_MS = 15000;
const KEPT = 500; // answers

/** @typedef {Record<'total'|'ear'|'service'|'network'|'page'|'half'|'most', number>} Delay in ms */

export class Delays {
  #room = LEAST_LEVEL;
  #spokenAt = -Infinity;
  #askedAt = 0; // when the ping left
  #oneWay = 0;
  /** The answer that is waited for. */
  #turn = null;
  #totals = [];

  frame(level, now) {
    this.#room = Math.max(0.0001, Math.min(level, this.#room * ROOM_GROWS));
    if (level > Math.max(LEAST_LEVEL, ABOVE_ROOM * this.#room)) this.#spokenAt = now;
  }

  /** The turn is over, as the page hears of it. Now a ping has to leave. @param {boolean} typed */
  ended(now, typed = false) {
    const spoken = !typed && now - this.#spokenAt < PATIENCE_MS;
    this.#turn = { from: spoken ? this.#spokenAt : now, endAt: now, service: null, arrivedAt: null, heardAt: null };
    this.#askedAt = now;
  }

  pong(now) {
    this.#oneWay = (now - this.#askedAt) / 2;
  }

  arrived(now) {
    if (this.#turn) this.#turn.arrivedAt ??= now;
  }

  /** The daemon's word, with the first sound of the answer. @param {number} ms @returns {Delay|null} when all is known */
  served(ms) {
    if (this.#turn) this.#turn.service ??= ms;
    return this.#settle();
  }

  /** Something of the reply is at the loudspeaker. @param {number} at when its first sample was @returns {Delay|null} */
  heard(at) {
    const turn = this.#turn;
    if (turn && turn.arrivedAt !== null && at >= turn.arrivedAt) turn.heardAt ??= at;
    return this.#settle();
  }

  /** The call is lost, or the user speaks again. */
  forget() {
    this.#turn = null;
  }

  #settle() {
    const turn = this.#turn;
    if (!turn || turn.service === null || turn.heardAt === null) return null;
    this.#turn = null;
    const { from, endAt, service, arrivedAt, heardAt } = turn;
    const ear = Math.max(0, endAt - this.#oneWay - from);
    const page = heardAt - arrivedAt;
    const total = Math.max(ear + service + page, heardAt - from);
    this.#totals.push(total);
    if (this.#totals.length > KEPT) this.#totals.shift();
    const sorted = [...this.#totals].sort((a, b) => a - b);
    const at = (part) => sorted[Math.ceil(part * sorted.length) - 1];
    return { total, ear, service, network: total - ear - service - page, page, half: at(0.5), most: at(0.95) };
  }
}
