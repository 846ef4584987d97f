// Sentences for the user about problems: what happened, and what to do.

import { blockedWords, isBlocked, placeWords } from './blocked.js';

const TAKEN =
  'The microphone is there, but the browser cannot use it. Another program may be using it. Close that program, then press Start Talking again.';

const PROBLEMS = {
  NotFoundError: 'No microphone was found. Plug one in or switch it on, then press Start Talking again.',
  NotReadableError: TAKEN,
  AbortError: TAKEN, // Firefox's name for it, among others
  NotSupportedError: 'The browser cannot use this microphone. Choose another one under Settings, then press Start Talking again.',
  SoundError:
    'The browser could not start any sound. Check that this device has a working sound output, then press Start Talking again.',
  WorkletError:
    'This browser could not load the page’s audio code. Reload the page. If that does not help, update the browser.',
};

const INSECURE =
  'This page was opened over plain http. Browsers give the microphone to secure pages only, so that nobody on the network can listen in. ' +
  'Open the page with https:// instead. On the computer where voicelived runs, http://localhost works too.';

const CLOSED = {
  1001: 'voicelived is stopping or restarting. Try again in a moment.',
  1008: 'voicelived refused the call.',
  1011: 'The voice service failed.',
  1013: 'All lines are busy. Try again in a moment.',
};

/** @param {string} name of a DOMException, or one of audio.js
 *  @returns {string} a sentence or two */
function problemWords(name) {
  return PROBLEMS[name] ?? `The microphone or the sound could not be started (${name}). Try again.`;
}

const DEVICES = {
  gone: 'The microphone was disconnected. Plug it in again, or choose another one under Settings. Until then you can type.',
  none: 'No microphone was found. Plug one in or switch it on. Until then you can type.',
  taken:
    'The browser cannot open the microphone. A phone call or another program may be using it. End that, or choose another one under Settings. Until then you can type.',
  brief:
    'The browser ends the microphone soon after it has begun. Choose another one under Settings, or reload the page. Until then you can type.',
  paused: 'The sound is paused. Tap or press a key to go on.',
  aim: 'The chosen loudspeaker is not connected, or this page may not use it. The system’s own choice plays instead. You can choose another one under Settings.',
};

/** @param {'gone'|'none'|'taken'|'brief'|'paused'|'aim'} trouble with a device in a call
 *  @returns {string} */
export function deviceWords(trouble) {
  return `${DEVICES[trouble]}${trouble === 'taken' ? systemWords() : ''}`;
}

/** Firefox does not tell when it is the system that keeps the microphone from it. */
function systemWords() {
  return ` If none is, the system may keep it from the browser. ${placeWords()}`;
}

/** @param {string} name of the microphone, which may be empty
 *  @returns {string} */
export function silentWords(name) {
  const which = name ? `The microphone “${name}”` : 'The microphone';
  return `${which} gives no sound, only silence. It may be muted on the device or in the system, or a phone call or another program has it. Unmute it, or choose another one under Settings.`;
}

/** @param {DOMException} error why the chosen microphone was refused in a call
 *  @returns {Promise<string>} */
export async function refusedWords(error) {
  const why = isBlocked(error) ? ` ${await blockedWords(error)}` : '';
  return `The chosen microphone could not be opened (${error.name}). The one before stays in use.${why}`;
}

/** @param {number} most @param {number} length
 *  @returns {string} */
export function tooLongWords(most, length) {
  return `This text is too long: it may have ${most} characters, and has ${length}. It was not sent. Shorten it, then send it again.`;
}

export const NOT_SENT = 'The text was not sent, because the call is not connected. Send it again in a moment.';

export const HOLD_WORDS = 'Hold the button or the space bar while you speak: this voice service waits for the end of each turn.';

/** @returns {string|null} why this page cannot work here at all */
export function pageWords() {
  if (!isSecureContext) return INSECURE;
  const able = navigator.mediaDevices && 'AudioWorkletNode' in globalThis && 'WebSocket' in globalThis;
  return able ? null : 'This browser is too old for live calls. Update it, or use another one.';
}

const HEALTH_MS = 5000; // on a network that swallows everything, browsers would wait for minutes

const HEALTH = {
  not_configured:
    'This voicelived is not set up yet. Its owner has to set the endpoint and the key of the voice service. Press Start Talking to see which settings are missing.',
};

const WHERE =
  'voicelived prints the token on the terminal where it was started. As a system service it keeps the token in /var/lib/voicelived/access-token. In a pairing link the token comes after “token=”.';

const TOKENS = {
  first: `This voicelived asks for an access token before it takes calls. ${WHERE}`,
  link: `The access token in this link is wrong, or the owner has changed it since. Ask for a new link, or enter the token. ${WHERE}`,
  typed: 'That access token is wrong. Check it and enter it again. Capital and small letters are different.',
  away: 'voicelived cannot be reached. Check that it is running and that this device is on its network.',
};

/** @param {'first'|'link'|'typed'|'away'} why the access token is asked for
 *  @returns {string} */
export function tokenWords(why) {
  return TOKENS[why];
}

/** @param {number} seconds until the next try
 *  @returns {string} */
export function slowedWords(seconds) {
  const minutes = Math.ceil(seconds / 60);
  const time = seconds > 90 ? `${minutes} minutes` : seconds === 1 ? 'a second' : `${seconds} seconds`;
  return `Too many wrong access tokens came from this network address. Try again in ${time}.`;
}

/** @param {number} code of the WebSocket close
 *  @returns {string} */
export function closeWords(code) {
  return CLOSED[code] ?? 'The connection was lost. Press Start Talking for a new call.';
}

/** A call that could not be taken up again. @param {string} [reason] the daemon's word for it
 *  @returns {string} */
export function anewWords(reason) {
  const why = reason === 'resume_late' ? 'too much of the answer was lost with it' : 'voicelived holds the call no more';
  return `The connection was lost, and ${why}. This is a new call, which knows nothing of the one before.`;
}

/** The daemon could not be reached again in time. @returns {Promise<string>} */
export async function lostWords() {
  return `The connection was lost. ${(await awayWords()) ?? 'Press Start Talking for a new call.'}`;
}

const UNTRUSTED =
  'The browser refused the connection for the call, although it showed this page. On an iPhone, an iPad or a Mac this is so when the warning about the certificate was only waved through. ' +
  'Tell this device once to trust the certificate of voicelived (the link below shows how). Then open the page again.';

const PASSED_ON =
  'If a proxy stands in front of voicelived, it has to pass WebSockets on, and VOICELIVED_ALLOWED_ORIGINS has to name the address of this page.';

const REFUSED = `voicelived is running, but the connection for the call was refused. Try again in a moment. ${PASSED_ON}`;

const DOUBTED =
  'The browser showed this page, but the connection for the call was refused. If you were warned about the certificate and went on, that may be why: an iPhone, an iPad or a Mac waves it through for pages only. ' +
  `Then this device has to trust the certificate, or the owner of voicelived has to give it another one. ${PASSED_ON}`;

/** A socket that never opened does not tell the reason. A plain request does. When that comes through and the socket
 *  does not, over HTTPS, the browser may take the certificate for pages only: Safari does so. With one of the daemon's
 *  own making that is the likely reason. Busy lines are no reason: the daemon says so over the socket.
 *  @returns {Promise<string>} */
export async function refusalWords() {
  const words = (await awayWords()) ?? (await strangerWords());
  if (words) return words;
  if (location.protocol !== 'https:') return REFUSED;
  return (await askHealth())?.ownAuthority ? UNTRUSTED : DOUBTED;
}

/** The audio code comes from the daemon. So if the daemon is gone, the browser is not the cause.
 *  @param {DOMException} error
 *  @returns {Promise<string>} */
export async function startWords(error) {
  if (isBlocked(error)) return `${await blockedWords(error)} Then press Start Talking again.`;
  const hint = PROBLEMS[error.name] === TAKEN ? systemWords() : '';
  return (error.name === 'WorkletError' && (await awayWords())) || `${problemWords(error.name)}${hint}`;
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
    words: HEALTH[(await reply.text().catch(() => '')).trim()],
    simulator: reply.headers.get('voicelived-service') === 'simulator',
    ownAuthority: reply.headers.get('voicelived-certificate') === 'local',
  };
}

async function strangerWords() {
  const reply = await fetch('pair', { cache: 'no-store' }).catch(() => null);
  if (reply?.status === 401) return 'The call needs an access token. Enter it below.';
  return reply?.status === 429 ? slowedWords(Number(reply.headers.get('retry-after'))) : null;
}

async function awayWords() {
  const health = await askHealth();
  if (!health) return 'voicelived cannot be reached. Check that it is running and that this device is on its network.';
  return health.draining ? (health.words ?? CLOSED[1001]) : null;
}
