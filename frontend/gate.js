// What becomes of each frame of the microphone. Knows no clock: frames are its time, 20 ms each.
//
// The end of a turn. /ws has no message that ends one: the service does it when it has heard silence for long
// enough, and how long that is, is its own affair. So when the gate closes, frames of silence follow in real
// time: for a second in any case, since that speech has begun is told late; then until the service says that
// the turn is over (`speech_stopped`); for ten seconds at most. After that nothing is sent, which the protocol
// allows and which costs neither network nor daemon anything.

const RELEASE_FRAMES = 3; // 60 ms: what was said before the key came up is still on its way to us
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
    this.#release = Math.max(0, this.#release - 1);
    this.#echo = Math.max(0, this.#echo - 1);
    this.#silence = open ? 0 : this.#silence + 1;
    if (open) return 'sound';
    return this.#silence <= (this.turn ? MOST_SILENCE_FRAMES : LEAST_SILENCE_FRAMES) ? 'silence' : 'nothing';
  }

  #isOpen() {
    if (this.mode === 'push') return this.#held || this.#release > 0;
    return this.mode === 'open' || !(this.#playing || this.#echo > 0);
  }
}
