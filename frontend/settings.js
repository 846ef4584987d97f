// The dialog of settings: which devices, and when the microphone listens. Works before a call and in one.

import { recall, remember } from './choices.js';
import { Chooser } from './devices.js';
import { aimingEchoes, canAim } from './outlet.js';
import { startWords } from './words.js';

const byId = (id) => document.getElementById(id);

/** @typedef {object} SettingsEvents what has been chosen
 *  @property {(mode: import('./gate.js').Mode) => void} mode
 *  @property {(device: import('./choices.js').Device|null) => void} microphone
 *  @property {(device: import('./choices.js').Device|null) => void} loudspeaker
 *  @property {() => void} closed */

export class Settings {
  #dialog = byId('settings');
  #events;
  #microphones;
  #loudspeakers;
  choices = recall();

  /** @param {SettingsEvents} events */
  constructor(events) {
    this.#events = events;
    const { microphone, loudspeaker, mode } = this.choices;
    this.#microphones = new Chooser(byId('microphone'), 'audioinput', microphone, (device) => this.#choose('microphone', device));
    this.#loudspeakers = new Chooser(byId('loudspeaker'), 'audiooutput', loudspeaker, (device) => this.#choose('loudspeaker', device));
    byId(`mode-${mode}`).checked = true;
    byId('tones').checked = this.choices.tones;
    byId('tones').addEventListener('change', ({ target }) => this.keep('tones', target.checked));
    byId('home').hidden = navigator.standalone !== false; // Apple's phones and tablets: in the browser, not on the home screen
    byId('aim').hidden = !canAim;
    byId('echoes').hidden = !aimingEchoes;
    if (!aimingEchoes) byId('loudspeaker').removeAttribute('aria-describedby'); // it would be read out hidden too
    byId('pick').hidden = !canAim || !navigator.mediaDevices?.selectAudioOutput;
    this.#listen();
  }

  get open() {
    return this.#dialog.open;
  }

  /** Opens the dialog. */
  show() {
    this.#show();
  }

  /** Updates the lists, because permissions and devices change. */
  async refresh() {
    if (!navigator.mediaDevices) return;
    await Promise.all([this.#microphones.refresh(), this.#loudspeakers.refresh()]);
    byId('unnamed').hidden = this.#microphones.named;
  }

  #listen() {
    byId('set').addEventListener('click', () => this.#show());
    byId('done').addEventListener('click', () => this.#dialog.close());
    byId('name').addEventListener('click', () => this.#name());
    byId('pick').addEventListener('click', () => this.#pick());
    this.#dialog.addEventListener('close', () => this.#events.closed());
    this.#dialog.addEventListener('click', ({ target }) => target === this.#dialog && this.#dialog.close()); // beside it
    this.#dialog.addEventListener('change', ({ target }) => target.name === 'mode' && this.#choose('mode', target.value));
    navigator.mediaDevices?.addEventListener('devicechange', () => this.refresh());
  }

  #show() {
    byId('trouble').textContent = '';
    this.#dialog.showModal();
    this.refresh();
  }

  #choose(what, value) {
    this.keep(what, value);
    this.#events[what](value);
  }

  /** Remembers a choice. @param {keyof import('./choices.js').Choices} what */
  keep(what, value) {
    this.choices = { ...this.choices, [what]: value };
    remember(this.choices);
  }

  /** Opens the microphone for a moment, because browsers tell the devices' names only then. */
  async #name() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia({ audio: true });
      await this.refresh();
      for (const track of stream.getTracks()) track.stop();
    } catch (error) {
      byId('trouble').textContent = await startWords(error);
    }
    if (byId('unnamed').hidden && this.open) byId('microphone').focus();
  }

  /** Some browsers list only loudspeakers that the user has picked in the browser's own window. */
  async #pick() {
    const picked = await navigator.mediaDevices.selectAudioOutput().catch(() => null); // closed without a choice
    if (!picked) return;
    const device = { id: picked.deviceId, label: picked.label };
    await this.#loudspeakers.choose(device);
    this.#choose('loudspeaker', device);
  }
}
