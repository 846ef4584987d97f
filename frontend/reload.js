// A page that is loaded again takes its call up again, with its captions. What that needs lies in the tab's own storage
// from the end of one page to the beginning of the next, and nowhere else.

const KEY = 'voicelived';

/** What a call leaves behind.
 *  @typedef {{secret: string, seconds: number, received: number, messages: number, fresh: string}} Held
 *  @typedef {{held: Held, log: import('./captions.js').Row[]}} Left */

/** @param {Left} left */
export function leaveBehind(left) {
  try {
    sessionStorage.setItem(KEY, JSON.stringify({ at: Date.now(), ...left }));
  } catch {
    // without storage the call is over
  }
}

/** Takes it out, so that no other page finds it. @returns {Left|null} null if there is none that is young enough */
export function takeBack() {
  try {
    const left = JSON.parse(sessionStorage.getItem(KEY));
    sessionStorage.removeItem(KEY);
    const age = Date.now() - left.at;
    return age >= 0 && age < left.held.seconds * 1000 ? left : null;
  } catch {
    return null;
  }
}
