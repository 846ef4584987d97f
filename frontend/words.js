// Sentences for the user about problems: what happened, and what to do.

import { blockedWords, isBlocked, placeWords } from './blocked.js';
import { join, say, sayTime } from './language.js';

const PROBLEMS = {
  NotFoundError: 'none',
  NotReadableError: 'taken',
  AbortError: 'taken', // Firefox's name for it, among others
  NotSupportedError: 'unable',
  SoundError: 'noSound',
};

const CLOSED = { 1001: 'stopping', 1008: 'refused', 1011: 'serviceFailed', 1013: 'busy' };
const PASSING = ['stopping', 'busy']; // soon over

/** @param {string} name of a DOMException, or one of audio.js
 *  @returns {string} a sentence or two */
function problemWords(name) {
  if (name === 'WorkletError') return say('noCode');
  const why = PROBLEMS[name];
  return why ? join(say(why), why === 'taken' && systemWords(), say('thenStart')) : say('noStart', { name });
}

const DEVICES = { gone: 'gone', taken: 'occupied', brief: 'brief' };

/** Firefox does not tell when it is the system that keeps the microphone from it. */
function systemWords() {
  return join(say('hint'), placeWords());
}

/** @param {'gone'|'none'|'taken'|'brief'|'paused'|'aim'} trouble with a device in a call
 *  @returns {string} */
export function deviceWords(trouble) {
  if (trouble === 'paused') return say('paused');
  if (trouble === 'aim') return join(say('aim'), say('another'));
  if (trouble === 'none') return join(say('none'), say('meanwhile'));
  return join(say(DEVICES[trouble]), say('another'), say('meanwhile'), trouble === 'taken' && systemWords());
}

/** @param {string} name of the microphone, which may be empty
 *  @returns {string} */
export function silentWords(name) {
  return join(say('silent', { name: name && `“${name}”` }).replace('  ', ' '), say('another'));
}

/** @param {DOMException} error why the chosen microphone was refused in a call
 *  @returns {Promise<string>} */
export async function refusedWords(error) {
  return join(say('change', { name: error.name }), isBlocked(error) && (await blockedWords(error)));
}

/** @returns {string|null} why this page cannot work here at all */
export function pageWords() {
  if (!isSecureContext) return say('insecure');
  const able = navigator.mediaDevices && 'AudioWorkletNode' in globalThis && 'WebSocket' in globalThis;
  return able ? null : say('tooOld');
}

const HEALTH_MS = 5000; // on a network that swallows everything, browsers would wait for minutes

/** @param {'first'|'link'|'typed'|'away'} why the access token is asked for
 *  @returns {string} */
export function tokenWords(why) {
  if (why === 'away') return say('away');
  if (why === 'typed') return say('tokenTyped');
  return join(say(why === 'link' ? 'tokenLink' : 'tokenFirst'), say('where'));
}

/** @param {number} seconds until the next try
 *  @returns {string} */
export function slowedWords(seconds) {
  const time = seconds > 90 ? sayTime(Math.ceil(seconds / 60), 'minute') : sayTime(seconds, 'second');
  return say('slowed', { time });
}

/** @param {number} code of the WebSocket close
 *  @returns {string} */
export function closeWords(code) {
  const why = CLOSED[code];
  return why ? join(say(why), PASSING.includes(why) && say('soon')) : join(say('lost'), say('again'));
}

/** A call that could not be taken up again. @param {string} [reason] the daemon's word for it
 *  @returns {string} */
export function anewWords(reason) {
  return join(say(reason === 'resume_late' ? 'late' : 'unheld'), say('anew'));
}

/** The daemon could not be reached again in time. @returns {Promise<string>} */
export async function lostWords() {
  return join(say('lost'), (await awayWords()) ?? say('again'));
}

/** A socket that never opened does not tell the reason. A plain request does. When that comes through and the socket
 *  does not, over HTTPS, the browser may take the certificate for pages only: Safari does so. With one of the daemon's
 *  own making that is the likely reason. Busy lines are no reason: the daemon says so over the socket.
 *  @returns {Promise<string>} */
export async function refusalWords() {
  const words = (await awayWords()) ?? (await strangerWords());
  if (words) return words;
  if (location.protocol !== 'https:') return join(say('refusedUp'), say('soon'), say('passedOn'));
  if ((await askHealth())?.ownAuthority) return join(say('refusedUp'), say('untrusted'));
  return join(say('refusedUp'), say('doubted'), say('passedOn'));
}

/** The audio code comes from the daemon. So if the daemon is gone, the browser is not the cause.
 *  @param {DOMException} error
 *  @returns {Promise<string>} */
export async function startWords(error) {
  if (isBlocked(error)) return join(await blockedWords(error), say('thenStart'));
  return (error.name === 'WorkletError' && (await awayWords())) || problemWords(error.name);
}

/** What the daemon says of itself.
 *  @returns {Promise<{draining: boolean, words: string|undefined, simulator: boolean, ownAuthority: boolean}|null>} null if
 *    it cannot be reached; `words`: why no call can begin now; `ownAuthority`: its certificate is of its own making */
export async function askHealth() {
  const signal = AbortSignal.timeout?.(HEALTH_MS);
  const reply = await fetch('healthz', { cache: 'no-store', signal }).catch(() => null);
  if (!reply) return null;
  return {
    draining: reply.status === 503,
    words: (await reply.text().catch(() => '')).trim() === 'not_configured' ? say('notSetUp') : undefined,
    simulator: reply.headers.get('voicelived-service') === 'simulator',
    ownAuthority: reply.headers.get('voicelived-certificate') === 'local',
  };
}

async function strangerWords() {
  const reply = await fetch('pair', { cache: 'no-store' }).catch(() => null);
  if (reply?.status === 401) return say('tokenBelow');
  return reply?.status === 429 ? slowedWords(Number(reply.headers.get('retry-after'))) : null;
}

async function awayWords() {
  const health = await askHealth();
  if (!health) return say('away');
  return health.draining ? (health.words ?? closeWords(1001)) : null;
}
