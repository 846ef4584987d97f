// Which microphones and loudspeakers there are, and a choice among them as a list to select from.

import { say } from './language.js';

/** The page has its own entry for the system's choice. So the browser's entries for it are left out.
 *  @param {'audioinput'|'audiooutput'} kind
 *  @returns {Promise<MediaDeviceInfo[]>} without id and name before the microphone was ever allowed */
export async function listDevices(kind) {
  const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  return all.filter((device) => device.kind === kind && !['default', 'communications'].includes(device.deviceId));
}

/** @param {MediaDeviceInfo[]} list @param {import('./choices.js').Device|null} wish
 *  @returns {MediaDeviceInfo|undefined} the one that is meant, by its id or else by its name */
export function find(list, wish) {
  if (!wish) return undefined;
  return list.find(({ deviceId }) => deviceId === wish.id) ?? list.find(({ label }) => label !== '' && label === wish.label);
}

/** A `select` with the devices of one kind. */
export class Chooser {
  #select;
  #kind;
  #wish;
  #shown = '';
  named = true; // the browser tells the devices' names

  /** @param {HTMLSelectElement} select @param {'audioinput'|'audiooutput'} kind
   *  @param {import('./choices.js').Device|null} wish
   *  @param {(device: import('./choices.js').Device|null) => void} changed */
  constructor(select, kind, wish, changed) {
    this.#select = select;
    this.#kind = kind;
    this.#wish = wish;
    select.addEventListener('change', () => {
      const { value, selectedOptions } = select;
      this.#wish = value ? { id: value, label: selectedOptions[0].dataset.label } : null;
      changed(this.#wish);
    });
  }

  /** @param {import('./choices.js').Device} wish chosen elsewhere */
  async choose(wish) {
    this.#wish = wish;
    await this.refresh();
  }

  /** The devices have changed, or may have. */
  async refresh() {
    const all = await listDevices(this.#kind);
    const list = all.filter(({ deviceId, label }) => deviceId && label);
    this.named = all.length === list.length;
    this.#show(list);
  }

  /** Does not touch an unchanged list, because the user may be reading it. */
  #show(list) {
    const chosen = find(list, this.#wish);
    const entries = [['', say('systemChoice')], ...list.map(({ deviceId, label }) => [deviceId, label, label])];
    if (this.#wish && !chosen) {
      const { id, label } = this.#wish;
      entries.push([id, this.named ? say('absent', { name: label }) : label, label]);
    }
    const value = chosen?.deviceId ?? this.#wish?.id ?? '';
    const shown = JSON.stringify([entries, value]);
    if (shown !== this.#shown) this.#fill(entries, value);
    this.#shown = shown;
  }

  #fill(entries, value) {
    this.#select.replaceChildren(...entries.map(([id, text, label]) => option(id, text, label)));
    this.#select.value = value;
  }
}

function option(id, text, label = '') {
  const element = new Option(text, id);
  element.dataset.label = label;
  return element;
}
