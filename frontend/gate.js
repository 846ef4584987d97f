// Decides what to send for each microphone frame. It has no clock: each frame counts as 20 ms. Why silence follows when
// it closes: docs/architecture.md, "The page".

const RELEASE_FRAMES = 3; // 60 ms: audio from before the key came up still arrives
const ECHO_FRAMES = 20; // 400 ms: the output's own buffer, 250 ms with Bluetooth, and the room's echo
const LEAST_SILENCE_FRAMES = 50;
const MOST_SILENCE_FRAMES = 500;

/** `open` at any time, `half` not while a reply is heard, `push` only while the user holds the key.
 *  @typedef {'open'|'half'|'push'} Mode */

export class Gate {
  /** @type {Mode} */
  mode = 'open';
  muted = false;
  turn = false; // the service hears the user speak
  manual = false; // the service waits to be told the end of each turn
  #talked = false; // the last frame was talk by push-to-talk
  #ended = false; // the user has let go of the key, and nobody was told yet
  #held = false;
  #playing = false;
  #release = 0; // frames that still count as held
  #echo = 0; // frames in which the reply can still be heard
  #silence = Infinity; // frames since the gate closed; there is nothing to end before it was ever open

  /** @param {boolean} on the user holds the key */
  hold(on) {
    this.#release = this.#held && !on ? RELEASE_FRAMES : 0;
    this.#held = on;
  }

  /** @param {boolean} on the loudspeaker has something to play, as its worklet says */
  playing(on) {
    if (this.#playing && !on) this.#echo = ECHO_FRAMES;
    this.#playing = on;
  }

  /** @returns {'sound'|'silence'|'nothing'} what to send for the next frame */
  next() {
    const open = !this.muted && this.#isOpen();
    if (!open && this.#talked) this.#ended = true;
    this.#talked = open && this.mode === 'push';
    this.#release = Math.max(0, this.#release - 1);
    this.#echo = Math.max(0, this.#echo - 1);
    this.#silence = open ? 0 : this.#silence + 1;
    if (open) return 'sound';
    if (this.manual) return 'nothing';
    return this.#silence <= (this.turn ? MOST_SILENCE_FRAMES : LEAST_SILENCE_FRAMES) ? 'silence' : 'nothing';
  }

  /** Asked after each frame. @returns {boolean} the user's turn has just ended; say it before what comes next */
  takeEnd() {
    const ended = this.#ended;
    this.#ended = false;
    return ended;
  }

  #isOpen() {
    if (this.mode === 'push') return this.#held || this.#release > 0;
    return this.mode === 'open' || !(this.#playing || this.#echo > 0);
  }
}
