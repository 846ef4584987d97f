// The line of one call to the daemon. It outlives its socket: when one breaks and nobody has said goodbye, the line
// joins the call again with another one. Its states: docs/architecture.md, "The page".

import { Outbox } from './outbox.js';

const FRESH = 'resume&barge_in=hold'; // a new call, of a page that can do both
const HELD_MS = 2000; // of microphone, kept until the first socket is open
const MAX_UNSENT_BYTES = 96000; // 2 s: audio that a stalled network has not taken by then is too old
const BROKEN = [1006, 1012, 1014, 1015]; // close codes without anybody's goodbye (RFC 6455, section 7.4)
// The first try comes at once. Each further pause is as long as the time gone: tries at 250 and 500 ms, 1, 2 and 4 s.
const LEAST_PAUSE_MS = 250;
const MOST_PAUSE_MS = 4000;
const TRY_MS = 8000; // for a socket to open: some browsers hold tries back that follow failed ones
const STAY_MS = 1000; // for a page that was about to go
const LOOK_MS = 500;
const FLOW_MS = 100; // between looks at what has to leave later
// Without a sign of life for `quiet` ms the daemon is asked for one, and has `patience` ms to give it.
const BRISK = { quiet: 1500, patience: 2500 };
const CALM = { quiet: 3000, patience: 4000 };
const REPLY_MS = 10000; // since the last sound of a reply
const SPEECH_MS = 1000; // since the last frame of the microphone
const BRIEF_MS = 1500; // the same after a change of the network
const SLEPT_MS = 20000; // without a sign of life beyond its time: the device has slept, and its user may not be there

/** @typedef {object} LineEvents
 *  @property {(message: {type: string}) => void} message each of the daemon's, in order
 *  @property {(samples: ArrayBuffer) => void} audio of the reply, in order
 *  @property {() => void} away the socket is broken, and the line tries to join the call again
 *  @property {() => void} back it is joined again. What was missed follows as messages, then a `call_state`
 *  @property {(reason: string|undefined) => void} anew the call is lost, and a new one has begun in its place; the daemon's
 *    word for it, if it has given one
 *  @property {(code: number, end: 'unopened'|'closed'|'away') => void} lost the line is over: it never opened, it was closed
 *    with this code, or it broke and could not be joined again */

export class Line {
  #url;
  #fresh; // the query of a new call
  #events;
  /** @type {'opening'|'joined'|'away'|'anew'|'over'} */
  #state = 'opening';
  #socket;
  #doubted = null; // the silent socket, while another one tries to take its place
  #outbox = new Outbox();
  #secret = ''; // with which the call can be joined again; '' when it cannot
  #leaving = false; // the page may go any moment
  #seconds = 0; // for which the daemon holds the call
  #received = 0; // bytes of reply, on all sockets
  #messages = 0; // texts, on all sockets
  #from = 0; // when the first try of a row was made; 0 before it
  #until = 0; // when it is too late to join again
  #timer = 0; // of the next try, or of the one under way
  #asked = 0; // the timer of a sign of life that was asked for
  #signAt = 0; // when the last sign of life came, by the calendar's clock: others may stand still in a sleep
  #flow = 0; // the timer of what has to leave later
  #soundAt = 0; // when the last sound of a reply came
  #spokeAt = 0; // when the last frame of the microphone came
  #watch;
  #refusal; // the daemon's word, when it has refused the joining

  /** @param {string} url of the daemon's /ws @param {LineEvents} events
   *  @param {string} [assistant] to be asked for @param {import('./reload.js').Held} [held] the call to be taken up */
  constructor(url, events, assistant, held) {
    this.#url = url;
    this.#fresh = assistant ? `${FRESH}&assistant=${encodeURIComponent(assistant)}` : FRESH;
    this.#events = events;
    this.#watch = setInterval(() => this.#look(), LOOK_MS);
    if (held) this.#takeUp(held);
    else this.#dial(this.#fresh);
  }

  /** Whether what is said now reaches the daemon now. */
  get joined() {
    return this.#state === 'joined' && this.#socket.readyState === WebSocket.OPEN;
  }

  /** About 20 ms of microphone. @param {ArrayBuffer} frame */
  speak(frame) {
    this.#spokeAt = performance.now();
    this.#outbox.add(frame, this.#state === 'opening' ? HELD_MS : undefined);
    this.#pump();
  }

  /** The end of the user's turn, behind the frames that came before. */
  endTurn() {
    this.#outbox.add(JSON.stringify({ type: 'end_turn' }));
    this.#pump();
  }

  /** A message that means something only now. It is dropped while the line is away. @param {{type: string}} message */
  tell(message) {
    if (this.joined) this.#socket.send(JSON.stringify(message));
  }

  /** The network may have changed: a sign of life is asked for, or the next try is made now. */
  doubt() {
    if (this.#state === 'joined') this.#ask(BRIEF_MS);
    if (this.#state !== 'away' || this.#socket?.readyState === WebSocket.OPEN) return;
    this.#from = 0;
    this.#retry();
  }

  /** The user is done. */
  close() {
    this.tell({ type: 'hang_up' });
    this.#end();
  }

  /** The page is about to go, and its browser may close the socket at any moment: the daemon holds the call. Should the page
   *  stay, the line joins again. */
  prepare() {
    this.#leaving = this.joined && this.#secret !== '';
    if (this.#leaving) this.tell({ type: 'leave' });
  }

  /** The page goes, and may be back. @returns {import('./reload.js').Held|null} null if the call cannot be taken up again */
  leave() {
    const held = this.#secret !== '' && ['joined', 'away'].includes(this.#state);
    const left = { secret: this.#secret, seconds: this.#seconds, received: this.#received, messages: this.#messages };
    this.tell({ type: held ? 'leave' : 'hang_up' });
    this.#end();
    return held ? left : null;
  }

  #takeUp({ secret, seconds, received, messages }) {
    this.#secret = secret;
    this.#seconds = seconds;
    this.#received = received;
    this.#messages = messages;
    this.#state = 'away';
    this.#sign();
    this.#until = performance.now() + seconds * 1000;
    this.#retry();
  }

  #end() {
    this.#state = 'over';
    clearInterval(this.#watch);
    this.#wait(0);
    clearTimeout(this.#asked);
    this.#socket?.close(1000);
    this.#doubted?.close(1000);
    this.#socket = this.#doubted = null;
  }

  #dial(query) {
    const socket = new WebSocket(`${this.#url}?${query}`);
    const listen = (react) => (event) => socket === this.#socket && react(event);
    socket.binaryType = 'arraybuffer';
    socket.onopen = listen(() => this.#onOpen());
    socket.onmessage = listen(({ data }) => this.#onData(data));
    socket.onclose = listen(({ code }) => this.#onClose(code));
    this.#socket = socket;
  }

  #onOpen() {
    if (this.#state === 'opening') this.#state = 'joined';
    if (this.#state === 'anew') this.#begin();
    this.#pump();
  }

  #onData(data) {
    this.#sign();
    if (this.#state === 'anew') this.#begin();
    if (typeof data === 'string') return this.#onText(JSON.parse(data));
    this.#received += data.byteLength;
    this.#soundAt = this.#signAt;
    this.#events.audio(data);
  }

  #onText(message) {
    this.#messages++;
    const refused = this.#state === 'away' && ['resume_refused', 'resume_late'].includes(message.reason);
    if (refused) return this.#startAnew(message.reason);
    if (message.type === 'hello') this.#onHello(message);
    this.#events.message(message);
  }

  #onHello({ resume, resumed, limits, heard }) {
    this.#seconds = Number(limits?.resume_seconds) || 0;
    this.#secret = this.#seconds > 0 ? (resume ?? '') : '';
    if (this.#state !== 'away') return;
    this.#wait(0);
    this.#doubted?.close(1000);
    this.#doubted = null;
    if (!resumed) return this.#begin(1); // by a daemon that knows nothing of the call
    this.#state = 'joined';
    this.#outbox.rewind(heard, performance.now());
    this.#events.back();
    this.#pump();
  }

  #onClose(code) {
    const broken = this.#leaving || BROKEN.includes(code);
    if (this.#state === 'away' && broken) return this.#retry();
    if (this.#state === 'joined' && broken && this.#secret) return this.#leave();
    const end = { opening: 'unopened', anew: 'away' }[this.#state] ?? 'closed';
    this.#end();
    this.#events.lost(code, end);
  }

  /** From here on the socket is not the call's any more. */
  #leave() {
    this.#state = 'away';
    clearTimeout(this.#asked);
    this.#asked = 0;
    this.#from = 0;
    this.#until = performance.now() + this.#seconds * 1000;
    this.#events.away();
    if (this.#leaving) this.#wait(STAY_MS, () => this.#retry());
    else this.#retry();
    this.#leaving = false;
  }

  /** @param {boolean} [hung] the try before has taken its time already */
  #retry(hung = false) {
    this.#drop();
    const now = performance.now();
    const left = this.#until - now;
    if (left <= 0) return this.#startAnew();
    const pause = this.#from && !hung ? Math.min(MOST_PAUSE_MS, Math.max(LEAST_PAUSE_MS, now - this.#from)) : 0;
    this.#from ||= now;
    this.#wait(Math.min(pause, left), () => this.#join());
  }

  #join() {
    this.#dial(`resume=${this.#secret}&received=${this.#received}&messages=${this.#messages}`);
    const socket = this.#socket;
    const next = () => this.#retry(true);
    // One that is open may have joined: its `hello` is given more time.
    this.#wait(TRY_MS, () => (socket.readyState === WebSocket.OPEN ? this.#wait(TRY_MS, next) : next()));
  }

  /** The call cannot be had any more. A new one is better than none, if its user is still there. @param {string} [reason] */
  #startAnew(reason) {
    this.#drop();
    if (Date.now() - this.#signAt > this.#seconds * 1000 + SLEPT_MS) {
      this.#end();
      return this.#events.lost(1006, 'away');
    }
    this.#doubted?.close(1000);
    this.#doubted = null;
    this.#refusal = reason;
    this.#secret = '';
    this.#state = 'anew';
    this.#dial(this.#fresh);
    this.#wait(TRY_MS, () => this.#state === 'anew' && this.#onClose(1006));
  }

  /** A new call has taken the place of the one that is lost. @param {number} [messages] that it has brought */
  #begin(messages = 0) {
    this.#wait(0);
    this.#state = 'joined';
    this.#received = 0;
    this.#messages = messages;
    this.#outbox.restart();
    this.#events.anew(this.#refusal);
    this.#refusal = undefined;
  }

  /** Lets go of a socket that is of no use. One that has joined nothing says no goodbye by it. */
  #drop() {
    const socket = this.#socket;
    this.#socket = null;
    if (!socket) return;
    if (this.#doubted === null && socket.readyState === WebSocket.OPEN) this.#doubted = socket;
    else socket.close();
  }

  #pump() {
    if (!this.joined) return;
    const now = performance.now();
    for (let entry; (entry = this.#outbox.next(now)) !== undefined; ) {
      if (typeof entry === 'string' || this.#socket.bufferedAmount < MAX_UNSENT_BYTES) this.#socket.send(entry);
    }
    clearTimeout(this.#flow);
    if (this.#outbox.late) this.#flow = setTimeout(() => this.#pump(), FLOW_MS); // also without a microphone
  }

  /** Something has come, so the daemon is there. */
  #sign() {
    clearTimeout(this.#asked);
    this.#asked = 0;
    this.#signAt = Date.now();
  }

  #look() {
    if (this.#state !== 'joined' || this.#asked) return;
    const speaks = performance.now() - this.#spokeAt < SPEECH_MS;
    const { quiet, patience } = speaks && Date.now() - this.#soundAt > REPLY_MS ? BRISK : CALM;
    if (Date.now() - this.#signAt > quiet) this.#ask(patience);
  }

  #ask(patience) {
    if (!this.#secret) return;
    clearTimeout(this.#asked);
    this.tell({ type: 'ping', id: 'line' });
    this.#asked = setTimeout(() => this.#leave(), patience);
  }

  #wait(ms, then) {
    clearTimeout(this.#timer);
    this.#timer = then ? setTimeout(then, ms) : 0;
  }
}
