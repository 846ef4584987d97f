// One call: its socket, its sound, and the state the page shows. One object per call, never used again.
//
// Phases are what the daemon says of the connection; within `active` the state follows from three facts:
// is something being played, is a reply under way, is a reply owed. See #state.

import { CallAudio } from './audio.js';
import { closeWords, refusalWords, startWords } from './words.js';

const HELD_FRAMES = 100; // 2 s of microphone, kept until the socket is open
const MAX_UNSENT_BYTES = 96000; // 2 s: what a stalled network did not take by then is stale
const PLAYED_EVERY_MS = 300;
const SILENT_FRAMES_AFTER_MUTE = 50; // 1 s, by which the service notices that the sentence has ended
const OWED_MS = 20000; // a turn that nobody answers is given up

/** @typedef {'idle'|'connecting'|'listening'|'thinking'|'speaking'|'reconnecting'|'error'} State */

/** What a call tells the page.
 *  @typedef {object} CallEvents
 *  @property {(state: State, note?: string) => void} state `note` says why, where there is a why
 *  @property {(message: {type: string}) => void} message each of the daemon's, in order
 *  @property {() => void} interrupted the reply that was being heard was cut off
 *  @property {(words: string) => void} problem something is wrong, the call goes on; '' when it is right again
 *  @property {(side: 'in'|'out', level: number) => void} level 0 to 1, of microphone and reply
 *  @property {(words: string|null) => void} over once; null when the user ended it */

export class Call {
  #events;
  #audio;
  #socket;
  #held = [];
  #phase = 'connecting';
  #note;
  #over = false;
  #muted = false;
  #silentFrames = 0;
  #playing = false; // the speaker has something to play
  #replying = false; // between response_started and response_done
  #heard = false; // something of this reply has been played
  #owed = 0; // the timer of a reply that should come
  #tools = 0; // running, or done with the reply about them still to start
  #discard = false; // audio on its way when the user stopped the answer
  #playedAt = 0;
  #complained = false;

  /** @param {CallEvents} events */
  constructor(events) {
    this.#events = events;
    this.#audio = new CallAudio({
      frame: (frame) => this.#onFrame(frame),
      playback: (report) => this.#onPlayback(report),
      lost: () => events.problem('The microphone was disconnected. You can still type, or stop and start again.'),
      paused: (paused) => events.problem(paused ? 'The sound is paused. Tap or press a key to go on.' : ''),
    });
  }

  /** Call it in the click itself. @param {string} url of the daemon's /ws */
  start(url) {
    this.#show();
    this.#connect(url);
    this.#audio.open().catch(async ({ name }) => this.#finish(await startWords(name)));
  }

  /** The user is done. */
  stop() {
    this.#finish(null);
  }

  /** @param {boolean} on */
  mute(on) {
    this.#muted = on;
    this.#silentFrames = on ? SILENT_FRAMES_AFTER_MUTE : 0;
    this.#audio.mute(on);
    if (on) this.#events.level('in', 0);
  }

  /** Stops the answer, as speaking into it would. */
  interrupt() {
    this.#discard = true;
    this.#send({ type: 'interrupt' });
    this.#cut();
  }

  /** A typed turn, which takes the place of what is being said. @param {string} text */
  say(text) {
    if (this.#playing) this.interrupt();
    this.#send({ type: 'text', text });
    this.#owe();
  }

  /** The page is in front again. */
  resume() {
    this.#audio.resume();
  }

  #connect(url) {
    const socket = new WebSocket(url);
    socket.binaryType = 'arraybuffer';
    socket.onopen = () => this.#onOpen();
    socket.onmessage = ({ data }) => (typeof data === 'string' ? this.#onText(data) : this.#onAudio(data));
    socket.onclose = ({ code }) => this.#onClose(code);
    this.#socket = socket;
  }

  #onOpen() {
    for (const frame of this.#held) this.#socket.send(frame);
    this.#held = null;
  }

  #onText(text) {
    if (this.#over) return;
    const message = JSON.parse(text);
    this.#events.message(message);
    this.#react(message);
  }

  #react(message) {
    switch (message.type) {
      case 'call_state':
        return this.#onCallState(message);
      case 'speech_started':
        return this.#onSpeech();
      case 'speech_stopped':
        return this.#owe();
      case 'response_started':
        return this.#onReply();
      case 'response_done':
        return this.#onReplyDone();
      case 'tool':
        return this.#onTool(message);
      case 'error':
        return this.#onError(message);
    }
  }

  #onCallState({ state, reason, message }) {
    if (state === 'ended') return this.#finish(reason === 'hang_up' ? null : (message ?? 'The call has ended.'));
    if (!['connecting', 'active', 'reconnecting'].includes(state)) return;
    this.#phase = state;
    this.#note = message;
    this.#settle();
  }

  #onError({ code, message }) {
    this.#settle();
    this.#complained = true;
    this.#events.problem(message ?? code);
  }

  /** The talk goes on, so what the daemon complained of is past. */
  #onward() {
    if (this.#complained) this.#events.problem('');
    this.#complained = this.#discard = false;
  }

  #onSpeech() {
    this.#onward();
    this.#cut();
  }

  #onReply() {
    this.#onward();
    this.#replying = true;
    this.#heard = this.#playing;
    this.#tools = 0;
    this.#audio.startReply();
    this.#owe();
  }

  #onReplyDone() {
    this.#replying = this.#heard = false;
    if (this.#tools === 0) this.#settle();
  }

  /** A tool's result is followed by a reply about it, so the call stays busy past the tool's end. */
  #onTool({ state }) {
    if (state === 'running') this.#tools++;
    this.#owe();
  }

  #onAudio(samples) {
    if (!this.#over && !this.#discard) this.#audio.play(samples);
  }

  #onFrame(frame) {
    if (this.#muted && this.#silentFrames-- <= 0) return;
    if (this.#muted) new Int16Array(frame).fill(0);
    else this.#events.level('in', loudness(frame));
    if (this.#held) this.#hold(frame);
    else if (this.#socket.bufferedAmount < MAX_UNSENT_BYTES) this.#socket.send(frame);
  }

  #hold(frame) {
    this.#held.push(frame);
    if (this.#held.length > HELD_FRAMES) this.#held.shift();
  }

  #onPlayback({ playing, flushed, full, ms, level }) {
    if (full) return this.#events.problem('The answer is longer than this page can hold: part of it is missing.');
    if (flushed) return this.#send({ type: 'played', ms });
    this.#events.level('out', level);
    const changed = playing !== this.#playing;
    this.#playing = playing;
    this.#heard ||= playing && this.#replying;
    if (changed || performance.now() - this.#playedAt > PLAYED_EVERY_MS) this.#sayPlayed(ms);
    if (changed) this.#show();
  }

  #sayPlayed(ms) {
    this.#playedAt = performance.now();
    this.#send({ type: 'played', ms });
  }

  #cut() {
    if (this.#playing) this.#events.interrupted();
    this.#audio.flush();
    this.#playing = this.#replying = this.#heard = false;
    this.#tools = 0;
    this.#events.level('out', 0);
    this.#settle();
  }

  /** A reply should come. */
  #owe() {
    clearTimeout(this.#owed);
    this.#owed = setTimeout(() => this.#settle(), OWED_MS);
    this.#show();
  }

  /** None is to come. */
  #settle() {
    clearTimeout(this.#owed);
    this.#owed = 0;
    this.#show();
  }

  #state() {
    if (this.#phase !== 'active') return this.#phase;
    if (this.#playing || (this.#replying && this.#heard)) return 'speaking';
    return this.#owed ? 'thinking' : 'listening';
  }

  #show() {
    if (!this.#over) this.#events.state(this.#state(), this.#note);
  }

  #send(message) {
    if (!this.#over && this.#socket.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }

  async #onClose(code) {
    if (this.#over) return;
    const neverOpened = this.#held !== null;
    this.#finish(neverOpened ? await refusalWords() : closeWords(code));
  }

  #finish(words) {
    if (this.#over) return;
    this.#send({ type: 'hang_up' });
    this.#over = true;
    clearTimeout(this.#owed);
    this.#audio.close();
    this.#socket.close(1000);
    this.#events.over(words);
  }
}

/** @returns {number} root mean square of PCM16, 0 to 1 */
function loudness(frame) {
  const samples = new Int16Array(frame);
  let sum = 0;
  for (const s of samples) sum += s * s;
  return Math.sqrt(sum / samples.length) / 32768;
}
