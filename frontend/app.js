// The page: finds its elements, starts a call on a click, and shows what the call reports.

import { Entrance } from './access.js';
import { Assistants } from './assistants.js';
import { Awake } from './awake.js';
import { Call } from './call.js';
import { Captions } from './captions.js';
import { HandsOff } from './handsoff.js';
import { Hold } from './hold.js';
import { Keep } from './keep.js';
import { say, translate } from './language.js';
import { Kiosk, wishOf } from './kiosk.js';
import { Questions } from './questions.js';
import { leaveBehind, takeBack } from './reload.js';
import { Settings } from './settings.js';
import { styled } from './style.js';
import { TONE_MS, sound } from './tones.js';
import { Picture } from './visual.js';
import { askHealth, pageWords } from './words.js';

await Promise.all([translate(), styled]); // before anything is shown, and before a screen reader is told

const byId = (id) => document.getElementById(id);
const main = byId('talk');
const muteButton = byId('mute');
const holdButton = byId('hold');
const stopAnswer = byId('interrupt');
const typed = byId('typed');
const captions = new Captions(byId('log'));
const picture = new Picture(byId('picture'));
const awake = new Awake();
const settings = new Settings({
  mode: onMode,
  microphone: (device) => call?.useMicrophone(device),
  loudspeaker: (device) => call?.useLoudspeaker(device),
  closed: () => holdButton.hidden || holdButton.focus(),
});
const assistants = new Assistants(byId('choice'), settings.choices.assistant, (name) => settings.keep('assistant', name));
const entrance = new Entrance(byId('entrance'), onEntrance, (list) => assistants.offer(list));
const handsOff = new HandsOff(() => call && !pushing() && toggleMute(), () => call?.stop());
const keep = new Keep(byId('log'));
const questions = new Questions({
  answer: (id, allow) => call?.answer(id, allow),
  busy: () => hold.on || inDialog() || document.activeElement === byId('text'),
  done: () => (holdButton.hidden ? main : holdButton).focus(),
});
const hold = new Hold(holdButton, { ready: () => call !== null && pushing() && !inDialog(), changed: onHold });

const SETTLED_MS = 3000;

const STATUS = {
  idle: say('ready'),
  connecting: say('connecting'),
  listening: say('listening'),
  thinking: say('thinking'),
  speaking: say('speaking'),
  tool: say('working'),
  held: say('held'),
  ended: say('ended'),
  reconnecting: say('reconnecting'),
  error: say('out'),
};
// State changes that the user hears anyway. If a screen reader spoke them, it would talk over the assistant,
// and through a loudspeaker into the microphone.
const QUIET = ['thinking', 'speaking'];

/** @type {Call|null} */
let call = null;
/** @type {Kiosk|null} */
let kiosk = null;

function inDialog() {
  return settings.open || keep.open;
}

/** @param {import('./visual.js').Look} [look] the state more closely */
function showState(state, note = '', look = state) {
  const status = byId('status');
  const before = document.body.dataset.state;
  if (state === 'reconnecting' && !['idle', 'error', state].includes(before)) tone('lost'); // not after a reload
  const quiet = state !== 'reconnecting' && (QUIET.includes(state) || QUIET.includes(before) || (pushing() && state === before));
  status.ariaLive = quiet && call ? 'off' : 'polite';
  const words = state === 'listening' && pushing() && !hold.on ? say('holdToTalk') : STATUS[look];
  if (status.textContent !== words) status.textContent = words; // said once, however often it is shown
  byId('note').textContent = note;
  document.body.dataset.state = state;
  document.body.dataset.look = look;
  stopAnswer.ariaDisabled = String(!canStop());
  paint();
  kiosk?.state(state);
}

function paint() {
  const { look } = document.body.dataset;
  picture.state(look === 'listening' && muteButton.ariaPressed === 'true' ? 'muted' : look);
}

/** An answer may still be heard while a connection is made again. */
function canStop() {
  return document.body.dataset.state === 'speaking' || Boolean(call?.playing || call?.working);
}

/** @param {string} words @param {'settings'} [remedy] what may mend it */
function showProblem(words, remedy) {
  byId('problem').textContent = words;
  byId('choose').hidden = remedy !== 'settings';
}

function onMessage(message) {
  if (message.type === 'call_state' && message.service === 'simulator') byId('simulator').hidden = false;
  questions.message(message);
  captions.message(message);
}

/** One line; the parts of the way, and the call's other answers, when the user asks for them. */
function showDelay(delay) {
  byId('answered').textContent = say('answered', { ms: Math.round(delay.total) });
  for (const [part, ms] of Object.entries(delay)) if (part !== 'total') byId(`delay-${part}`).textContent = `${Math.round(ms)} ms`;
  byId('latency').hidden = false;
}

function showLevel(side, level) {
  picture.level(side, level);
  if (side === 'in') kiosk?.heard(level);
}

/** @param {'begin'|'end'|'lost'} name */
function tone(name) {
  if (!settings.choices.tones) return;
  sound(name);
  call?.deafen(TONE_MS);
}

/** @param {import('./reload.js').Held} [held] the call to be taken up, in place of a new one */
function start(held) {
  if (call) return;
  const reason = pageWords();
  if (reason) return showProblem(reason);
  showProblem('');
  if (!held) captions.begin();
  call = new Call({
    state: showState,
    message: onMessage,
    interrupted: () => captions.interrupted(),
    anew: onAnew,
    problem: showProblem,
    manual: onManual,
    answered: showDelay,
    level: showLevel,
    over: onOver,
  });
  main.textContent = say('stop');
  showControls(true);
  call.start(new URL('ws', location.href.replace(/^http/, 'ws')).href, settings.choices, assistants.chosen, held);
  awake.keep(true);
  if (!held) tone('begin');
  kiosk?.begin();
}

/** The log keeps what was said in the call that is lost. */
function onAnew() {
  questions.clear();
  captions.end();
  captions.begin();
}

/** Nobody can tell a page that is loaded again from one that is closed. So the call is held in either case. */
function onLeave() {
  const held = call?.leave();
  if (held) leaveBehind({ held, log: captions.kept() });
}

function onOver(words, fault) {
  questions.clear();
  hold.end();
  call = null;
  tone(fault ? 'lost' : 'end');
  main.textContent = say('start');
  showControls(false);
  captions.end();
  if (fault) showState('error');
  else showState('idle', words ?? '', 'ended');
  showProblem(fault ? words : '');
  if (fault) entrance.check();
  awake.keep(false);
  kiosk?.rest();
  if (kiosk?.wakes) byId('status').textContent = say('speakOrTap');
}

/** While the access token is asked for, the form takes the button's place. */
function onEntrance(wanted) {
  const typing = byId('entrance').contains(document.activeElement) || document.activeElement === document.body;
  byId('buttons').hidden = wanted;
  if (wanted) {
    byId('status').textContent = say('tokenNeeded');
    return byId('token').focus();
  }
  showProblem('');
  showState('idle');
  if (typing) main.focus();
}

/** The button keeps its place. When the focused element disappears, the button gets the focus. */
function showControls(on) {
  const focused = document.activeElement;
  for (const element of [stopAnswer, typed]) element.hidden = !on;
  muteButton.hidden = !on || pushing();
  holdButton.hidden = !on || !pushing();
  if (focused !== document.body && focused.closest('[hidden]')) main.focus();
  document.body.classList.toggle('push', on && pushing());
  showMute(false);
  assistants.allow(!on);
  if (!on) byId('latency').hidden = true;
}

function pushing() {
  return settings.choices.mode === 'push' || Boolean(call?.manual);
}

/** The service waits for the end of each turn: this call is push-to-talk, whatever the user has chosen. */
function onManual() {
  showControls(true);
}

/** Push-to-talk needs no mute button. */
function onMode(mode) {
  hold.end();
  if (!call) return;
  call.mute(false);
  call.listen(mode);
  showControls(true);
  showState(document.body.dataset.state, byId('note').textContent, document.body.dataset.look);
}

function onHold(on) {
  document.body.classList.toggle('holding', on);
  call?.hold(on);
  if (call) showState(document.body.dataset.state, byId('note').textContent, document.body.dataset.look);
}

function showMute(on) {
  handsOff.show(call !== null, on);
  muteButton.ariaPressed = String(on);
  document.body.classList.toggle('muted', on);
  byId('muted').textContent = '';
  paint();
}

function toggleMute() {
  const on = muteButton.ariaPressed !== 'true';
  showMute(on);
  call.mute(on);
  // By a key or a headset: a screen reader tells of a button only where the focus is.
  if (document.activeElement !== muteButton) byId('muted').textContent = say(on ? 'muted' : 'unmuted');
}

let saying = null; // the field as it was sent; not taken yet
let again = false; // the user has sent the next turn meanwhile

/** Only what the daemon has taken is shown as said. The rest stays in the field, also beyond the call's end. */
async function submit(event) {
  event?.preventDefault();
  const field = byId('text');
  const written = field.value;
  const text = written.trim();
  if (saying !== null) return void (again = written !== saying);
  if (!text || !call) return;
  saying = written;
  const place = captions.place();
  const said = await call.say(text);
  saying = null;
  if (said) captions.typed(text, place);
  else place.remove();
  // The user may have gone on typing meanwhile.
  if (said && field.value.startsWith(written)) field.value = field.value.slice(written.length);
  if (again && said) submit();
  again = false;
}

function onKey(event) {
  call?.resume(true);
  if (!call || inDialog() || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape' && questions.open) questions.refuse();
  else if (event.key === 'Escape') call.stop();
  else if (event.key.toLowerCase() === 'm' && event.target !== byId('text') && !event.repeat && !pushing()) toggleMute();
}

async function askDaemon() {
  const health = await askHealth();
  if (health?.simulator) byId('simulator').hidden = false;
  if (health?.ownAuthority) byId('certificate').hidden = false;
  if (health?.words && !call) showProblem(health.words);
}

main.addEventListener('click', () => (call ? call.stop() : start()));
byId('picture').addEventListener('click', () => byId('buttons').hidden || start()); // it looks like a button
muteButton.addEventListener('click', toggleMute);
stopAnswer.addEventListener('click', () => canStop() && call.interrupt());
byId('choose').addEventListener('click', () => settings.show());
typed.addEventListener('submit', submit);
document.addEventListener('keydown', onKey);
document.addEventListener('pointerdown', () => call?.resume(true));
document.addEventListener('visibilitychange', () => document.hidden || (call?.resume(), call?.doubt()));
for (const change of ['online', 'offline']) addEventListener(change, () => call?.doubt());
navigator.connection?.addEventListener?.('change', () => call?.doubt());
addEventListener('hashchange', () => call || entrance.open()); // a pairing link opened in this tab
addEventListener('beforeunload', () => call?.prepare()); // Firefox closes sockets before `pagehide`
addEventListener('pagehide', onLeave);
addEventListener('pageshow', ({ persisted }) => persisted && location.reload()); // its call is held

byId('status').dataset.muted = say('muted'); // style.css shows it
const reason = pageWords();
showState(reason ? 'error' : 'idle');
showProblem(reason ?? '');
askDaemon();
if (!reason) entrance.open();
const wish = reason ? null : wishOf(location.search);
if (wish) kiosk = new Kiosk(wish, start, () => call?.stop());
if (kiosk?.wakes) byId('status').textContent = say('speakOrTap');
const left = reason ? null : takeBack();
if (left) {
  captions.restore(left.log);
  start(left.held);
}

// What "add to home screen" asks for. Browsers fetch it before the page's own code, so it is named once all is there.
setTimeout(() => document.head.append(Object.assign(document.createElement('link'), { rel: 'manifest', href: 'manifest.webmanifest' })), SETTLED_MS);
