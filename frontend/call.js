// One call: its line to the daemon, its sound, and the state that the page shows. Each call has an object of its own.
//
// The daemon reports the phase of the connection. Within `active`, the state follows from three facts: whether
// something is played, whether a reply is being received, and whether a reply is expected. See #state.

import { CallAudio } from './audio.js';
import { Gate } from './gate.js';
import { blockedWords } from './blocked.js';
import { Delays } from './delays.js';
import { Duck } from './duck.js';
import { say, sayFor } from './language.js';
import { Line } from './line.js';
import {
  anewWords,
  closeWords,
  deviceWords,
  lostWords,
  refusalWords,
  refusedWords,
  silentWords,
  startWords,
} from './words.js';

const PLAYED_EVERY_MS = 300;
// Why a call is over although nothing went wrong.
const DUE = ['goodbye', 'idle', 'time_limit', 'session_expired'];
/** The longest typed turn, in UTF-16 code units, as `length` and `maxlength` count and as the daemon does. */
const MAX_TEXT_UNITS = 8192;
const REFUSED = ['text_too_long', 'not_ready']; // the daemon's words for a typed turn that it did not take
const OWED_MS = 20000; // after this time no reply is expected any more
const UNSEEN_MS = 1000; // a line that is joined again within it was never away, as far as the user can tell

/** @typedef {'idle'|'connecting'|'listening'|'thinking'|'speaking'|'reconnecting'|'error'} State */

/** What a call tells the page.
 *  @typedef {object} CallEvents
 *  @property {(state: State, note?: string, look?: import('./visual.js').Look) => void} state `note` says why, where there is
 *    a why; `look` is the state more closely
 *  @property {(message: {type: string}) => void} message each of the daemon's, in order
 *  @property {() => void} interrupted the reply that was being heard was cut off
 *  @property {() => void} anew a new call has taken the place of this one, which is lost
 *  @property {(words: string, remedy?: 'settings') => void} problem something is wrong, the call goes on; '' when it is
 *    right again; `remedy` is what would mend it
 *  @property {(delay: import('./delays.js').Delay) => void} answered how long the user has waited for an answer, and where
 *  @property {() => void} manual the service waits for the end of each turn: the user has to hold the button
 *  @property {(side: 'in'|'out', level: number) => void} level 0 to 1, of microphone and reply
 *  @property {(words: string|null, fault: boolean) => void} over once; null when the user ended it */

export class Call {
  #events;
  #audio;
  /** @type {Line} */
  #line;
  #phase = 'connecting'; // between the daemon and the voice service
  /** Between the page and the daemon: `gone` only once it has lasted. After `back` the daemon tells what was missed.
   *  @type {'there'|'away'|'gone'|'back'} */
  #way = 'there';
  #unseen = 0; // the timer from `away` to `gone`
  #stopped = false; // the user has stopped the answer while the line was away
  #note;
  #over = false;
  #gate = new Gate();
  #delays = new Delays();
  #duck = new Duck();
  #untaken = null; // the typed turn that the daemon has not answered for yet
  #texts = 0; // typed turns so far
  #playing = false; // the speaker has something to play
  #held = false; // the user may be speaking: the reply waits
  #paused = false; // and something of it had been heard
  #replying = false; // between response_started and response_done
  /** @type {'none'|'came'|'heard'} */
  #sound = 'none'; // of the last reply: a short one may come whole before any of it is heard
  #owed = 0; // the timer of a reply that is expected
  #tools = 0; // running, or done with the reply about them still to start
  #discard = false; // audio on its way when the user stopped the answer
  #playedAt = 0;
  #deaf = 0; // the timer of a tone of the page that sounds
  #playedMs = 0;
  #troubles = { paused: '', lost: '', refused: '', aim: '', said: '', silent: '', anew: '' }; // the first that has words is shown

  /** @param {CallEvents} events */
  constructor(events) {
    this.#events = events;
    this.#audio = new CallAudio({
      frame: (frame) => this.#onFrame(frame),
      playback: (report) => this.#onPlayback(report),
      lost: (why) => this.#onLost(why),
      silent: (name) => this.#trouble('silent', name === null ? '' : silentWords(name)),
      paused: (paused) => this.#trouble('paused', paused ? deviceWords('paused') : ''),
      misaimed: (on) => this.#trouble('aim', on ? deviceWords('aim') : ''),
    });
  }

  /** Call it in the click itself.
   *  @param {string} url of the daemon's /ws @param {import('./choices.js').Choices} choices
   *  @param {string} assistant to be asked for; empty for none
   *  @param {import('./reload.js').Held} [held] the call to be taken up, in place of a new one */
  start(url, choices, assistant, held) {
    this.#gate.mode = choices.mode;
    if (held) this.#way = 'gone';
    this.#show();
    this.#line = new Line(url, {
      message: (message) => this.#onMessage(message),
      audio: (samples) => this.#onAudio(samples),
      away: () => this.#onAway(),
      back: () => this.#onBack(),
      anew: (reason) => this.#onAnew(reason),
      lost: (code, end) => this.#onGone(code, end),
    }, assistant, held);
    this.#audio.open(choices, held !== undefined).catch(async (error) => this.#finish(await startWords(error)));
  }

  /** The user is done. */
  stop() {
    this.#finish(null);
  }

  /** The page is about to go. An answer that plays is cut off here: its rest could not be heard. */
  prepare() {
    if (this.#playing) this.interrupt();
    this.#line.prepare();
  }

  /** The page goes, and may be back. @returns {import('./reload.js').Held|null} null if the call cannot be taken up again */
  leave() {
    if (this.#over) return null;
    if (this.#playing) this.interrupt();
    this.#over = true;
    const held = this.#line.leave();
    this.#audio.close();
    return held;
  }

  /** @param {boolean} on */
  mute(on) {
    this.#gate.muted = on;
    this.#audio.mute(on);
  }

  /** @param {import('./gate.js').Mode} mode */
  listen(mode) {
    this.#gate.mode = this.#gate.manual ? 'push' : mode;
  }

  /** For so many ms nothing of the microphone is sent. @param {number} ms */
  deafen(ms) {
    clearTimeout(this.#deaf);
    this.#deaf = setTimeout(() => (this.#deaf = 0), ms);
  }

  /** Whether the service waits for the end of each turn. */
  get manual() {
    return this.#gate.manual;
  }

  /** Push-to-talk. When the user begins to talk, the answer stops. @param {boolean} on */
  hold(on) {
    this.#gate.hold(on);
    if (on && this.playing) this.interrupt();
  }

  /** @param {import('./choices.js').Device|null} wish */
  useMicrophone(wish) {
    this.#trouble('refused', '');
    this.#audio.useMicrophone(wish).catch(async (error) => this.#trouble('refused', await refusedWords(error)));
  }

  /** @param {import('./choices.js').Device|null} wish */
  useLoudspeaker(wish) {
    this.#audio.useLoudspeaker(wish);
  }

  /** Something is heard of an answer, or would be if it were not held, whatever the line does. */
  get playing() {
    return this.#playing || this.#paused;
  }

  /** A tool is at work, or its result is still to be spoken about. */
  get working() {
    return this.#tools > 0;
  }

  /** Stops the answer, as speaking into it would; where none is heard, the tools at work. */
  interrupt() {
    this.#discard = true;
    this.#stopped = !this.#line.joined;
    this.#line.tell({ type: 'interrupt' });
    this.#cut();
  }

  /** What the user says to a question. @param {string} id @param {boolean} allow */
  answer(id, allow) {
    this.#line.tell({ type: 'confirm', id, allow });
  }

  /** A typed turn, which takes the place of what is being said.
   *  @param {string} text
   *  @returns {Promise<boolean>} whether the daemon has taken it. A text that it has not taken was not said */
  say(text) {
    const open = !this.#over && this.#phase === 'active' && this.#way === 'there' && this.#line.joined;
    if (text.length > MAX_TEXT_UNITS) this.#trouble('said', say('tooLong', { most: MAX_TEXT_UNITS, length: text.length }));
    else if (!open) this.#trouble('said', say('notSent'));
    if (text.length > MAX_TEXT_UNITS || !open || this.#untaken) return Promise.resolve(false);
    if (this.playing) this.interrupt();
    this.#owe();
    return new Promise((resolve) => {
      this.#untaken = { id: `text ${++this.#texts}`, text, resolve };
      this.#timeAnswer(true);
      this.#sendText();
    });
  }

  /** The daemon answers in order: a refusal of the text comes before the pong. */
  #sendText() {
    const { id, text } = this.#untaken;
    this.#line.tell({ type: 'text', text });
    this.#line.tell({ type: 'ping', id });
  }

  #settleText(taken) {
    const { resolve } = this.#untaken;
    this.#untaken = null;
    if (taken) this.#trouble('said', '');
    if (taken) this.#trouble('anew', '');
    resolve(taken);
  }

  /** The page is in front again. @param {boolean} [touched] the user has even touched it */
  resume(touched = false) {
    this.#audio.resume(touched);
  }

  async #onLost(why) {
    const words = why === null ? '' : typeof why === 'string' ? deviceWords(why) : await blockedWords(why);
    this.#trouble('lost', words);
  }

  /** The network may have changed, or the page is in front again. */
  doubt() {
    this.#line.doubt();
  }

  #onAway() {
    this.#way = 'away';
    this.#unseen = setTimeout(() => {
      this.#way = 'gone';
      this.#show();
    }, UNSEEN_MS);
  }

  #onBack() {
    clearTimeout(this.#unseen);
    this.#way = 'back';
    this.#show();
  }

  /** All that was missed has come. What the user did meanwhile is told now. */
  #catchUp() {
    this.#way = 'there';
    if (this.#stopped) this.interrupt();
    if (this.#untaken) this.#sendText(); // its pong would be among what was missed
    if (this.#playing) this.#sayPlayed(this.#playedMs);
  }

  /** What still plays of the lost call is heard to its end. @param {string|undefined} reason the daemon's word */
  #onAnew(reason) {
    clearTimeout(this.#unseen);
    this.#way = 'there';
    this.#phase = 'connecting';
    this.#note = undefined;
    this.#gate.turn = this.#stopped = this.#discard = this.#replying = false;
    this.#sound = 'none';
    this.#tools = 0;
    this.#onHold(false);
    this.#audio.endReply();
    this.#delays.forget();
    if (this.#untaken) this.#settleText(false);
    this.#events.anew();
    this.#trouble('anew', anewWords(reason));
    this.#settle();
  }

  #onMessage(message) {
    this.#events.message(message);
    this.#react(message);
  }

  #react(message) {
    switch (message.type) {
      case 'call_state':
        return this.#onCallState(message);
      case 'speech_started':
        return this.#onSpeech();
      case 'hold':
        return this.#onHold(true);
      case 'resume_playback':
        return this.#onHold(false);
      case 'speech_stopped':
        return this.#onSpeechEnd(message);
      case 'response_started':
        return this.#onReply();
      case 'response_done':
        return this.#onReplyDone();
      case 'tool':
        return this.#onTool(message);
      case 'latency':
        return this.#answered(this.#delays.served(message.first_audio_ms));
      case 'pong':
        if (message.id === 'delay') return this.#delays.pong(performance.now());
        return message.id === this.#untaken?.id && this.#settleText(true);
      case 'error':
        return this.#onError(message);
    }
  }

  #onCallState({ state, reason, message, turns }) {
    if (state === 'ended') {
      if (reason === 'hang_up') return this.#finish(null);
      return this.#finish(sayFor(reason, message) ?? say('over'), !DUE.includes(reason));
    }
    if (!['connecting', 'active', 'reconnecting'].includes(state)) return;
    this.#phase = state;
    this.#note = sayFor(reason, message);
    if (this.#way === 'back') this.#catchUp();
    if (state === 'active' && turns === 'client') this.#waitForEnds();
    this.#settle();
  }

  /** Without the end of a turn nothing would be answered, so the user has to tell it. */
  #waitForEnds() {
    if (this.#gate.mode !== 'push') this.#note ??= say('holdWords');
    this.#gate.manual = true;
    this.#gate.mode = 'push';
    this.#events.manual();
  }

  #onError({ code, message }) {
    if (this.#untaken && REFUSED.includes(code)) this.#settleText(false);
    this.#settle();
    this.#trouble('said', sayFor(code, message) ?? code);
  }

  /** The conversation continues, so the daemon's last complaint is no longer shown. */
  #onward() {
    this.#trouble('said', '');
    this.#discard = false;
  }

  #onSpeech() {
    this.#duck.confirm();
    this.#gate.turn = true;
    this.#delays.forget();
    this.#trouble('anew', '');
    this.#onward();
    this.#cut();
  }

  /** What may be no turn has begun, or was none. @param {boolean} on */
  #onHold(on) {
    this.#duck.confirm();
    this.#paused = on && this.playing;
    this.#held = on;
    if (on) this.#audio.hold();
    else this.#audio.goOn();
    this.#show();
  }

  #onSpeechEnd({ item_id }) {
    this.#gate.turn = false;
    if (item_id || !this.#untaken) this.#timeAnswer(false); // else it ends what a typed turn has cut off
    this.#owe();
  }

  #timeAnswer(typed) {
    this.#delays.ended(performance.now(), typed);
    this.#line.tell({ type: 'ping', id: 'delay' });
  }

  #answered(delay) {
    if (delay) this.#events.answered(delay);
  }

  #onReply() {
    this.#onward();
    this.#replying = true;
    this.#sound = this.#playing ? 'heard' : 'none';
    this.#tools = 0;
    this.#audio.startReply();
    this.#owe();
  }

  #onReplyDone() {
    this.#replying = false;
    this.#audio.endReply();
    if (this.#tools === 0 && this.#sound !== 'came') this.#settle();
  }

  /** A tool's result is followed by a reply about it, so the call stays busy past the tool's end. */
  #onTool({ state }) {
    if (state === 'running') this.#tools++;
    else if (this.#discard) return; // it was stopped, so no reply follows
    this.#owe();
  }

  #onAudio(samples) {
    if (this.#discard) return;
    this.#delays.arrived(performance.now());
    if (this.#sound === 'none') this.#sound = 'came';
    this.#audio.play(samples);
  }

  #onFrame(frame) {
    let fate = this.#gate.next();
    if (fate === 'sound' && this.#deaf) fate = 'silence';
    const level = fate === 'sound' ? loudness(frame) : 0;
    this.#delays.frame(level, performance.now());
    this.#events.level('in', level);
    this.#audio.soften(this.#duck.frame(level, this.#playing));
    if (this.#gate.takeEnd()) this.#line.endTurn(); // the user has let go of the key
    if (fate === 'nothing') return;
    if (fate === 'silence') new Int16Array(frame).fill(0);
    this.#line.speak(frame);
  }

  #onPlayback({ playing, flushed, full, ms, level }) {
    if (full) return this.#trouble('said', say('full'));
    if (flushed) return this.#line.tell({ type: 'played', ms });
    this.#gate.playing(playing);
    this.#events.level('out', level);
    const changed = playing !== this.#playing;
    this.#playing = playing;
    if (playing && (this.#replying || this.#sound === 'came')) this.#onHeard();
    this.#playedMs = ms;
    if (playing && (changed || ms > 0)) this.#answered(this.#delays.heard(performance.now() - ms + this.#audio.outputMs));
    if (changed || performance.now() - this.#playedAt > PLAYED_EVERY_MS) this.#sayPlayed(ms);
    if (changed) this.#show();
  }

  #onHeard() {
    this.#sound = 'heard';
    if (!this.#replying && this.#tools === 0) this.#settle();
  }

  #sayPlayed(ms) {
    this.#playedAt = performance.now();
    this.#line.tell({ type: 'played', ms });
  }

  #cut() {
    if (this.playing) this.#events.interrupted();
    this.#audio.flush();
    this.#playing = this.#held = this.#paused = this.#replying = false;
    this.#sound = 'none';
    this.#tools = 0;
    this.#events.level('out', 0);
    this.#settle();
  }

  /** A reply is expected. */
  #owe() {
    clearTimeout(this.#owed);
    this.#owed = setTimeout(() => this.#settle(), OWED_MS);
    this.#show();
  }

  /** No reply is expected any more. */
  #settle() {
    clearTimeout(this.#owed);
    this.#owed = 0;
    this.#show();
  }

  #state() {
    if (this.#way === 'gone') return 'reconnecting';
    if (this.#phase !== 'active') return this.#phase;
    if (this.#held) return 'listening';
    if (this.#playing || (this.#replying && this.#sound === 'heard')) return 'speaking';
    return this.#owed ? 'thinking' : 'listening';
  }

  /** @param {State} state */
  #look(state) {
    if (state === 'listening' && this.#held) return 'held';
    return state === 'thinking' && this.#tools > 0 ? 'tool' : state;
  }

  /** @param {'paused'|'lost'|'refused'|'aim'|'said'} kind @param {string} words '' when it is right again */
  #trouble(kind, words) {
    const before = this.#worst();
    this.#troubles[kind] = words;
    if (!this.#over && this.#worst() !== before) this.#events.problem(this.#worst(), this.#remedy());
  }

  #worst() {
    return Object.values(this.#troubles).find((words) => words !== '') ?? '';
  }

  /** Trouble with the microphone is mended by choosing another one. */
  #remedy() {
    const worst = this.#worst();
    const { lost, refused, silent, aim } = this.#troubles;
    return worst && [lost, refused, silent, aim].includes(worst) ? 'settings' : undefined;
  }

  #show() {
    // The daemon's note is about the voice service. While the line itself is gone, it may be old.
    const state = this.#state();
    if (!this.#over) this.#events.state(state, this.#way === 'gone' ? undefined : this.#note, this.#look(state));
  }

  async #onGone(code, end) {
    if (end === 'closed') return this.#finish(closeWords(code));
    this.#finish(end === 'unopened' ? await refusalWords() : await lostWords());
  }

  /** @param {string|null} words null when the user ended it @param {boolean} [fault] */
  #finish(words, fault = words !== null) {
    if (this.#over) return;
    this.#over = true;
    if (this.#untaken) this.#settleText(false);
    clearTimeout(this.#owed);
    clearTimeout(this.#unseen);
    this.#audio.close();
    this.#line.close();
    this.#events.over(words, fault);
  }
}

/** @returns {number} root mean square of PCM16, 0 to 1 */
function loudness(frame) {
  const samples = new Int16Array(frame);
  let sum = 0;
  for (const s of samples) sum += s * s;
  return Math.sqrt(sum / samples.length) / 32768;
}
