// What a screen reader is told of the page: the words of its live regions, and Chromium's tree of what there is. The trees
// of each state are compared with the record in trees.txt, and axe-core looks with all its rules.
//
//   RECORD_TREES=1 node --test reader.test.mjs states.test.mjs    # writes the record anew; look at what has changed

import assert from 'node:assert/strict';
import fs from 'node:fs';
import { fileURLToPath } from 'node:url';

import axe from 'axe-core';

const RECORD = fileURLToPath(new URL('trees.txt', import.meta.url));

/** From now on `spoken` has what a screen reader says by itself, in order. */
export function listen(talk) {
  return talk.page.evaluate(() => {
    window.spoken = [];
    const words = (element) => [...(element.children.length ? element.children : [element])].map((part) => part.textContent.trim()).join(' ');
    const isShown = (element) => !element.closest('[hidden], [aria-hidden=true]');
    const nodes = (records) => [...new Set(records.flatMap(({ addedNodes }) => [...addedNodes]))]; // one that is moved is told once
    const added = (records) => nodes(records).filter((node) => node instanceof HTMLElement && node.isConnected);
    for (const region of document.querySelectorAll('[role=status], [role=alert], [role=log], [aria-live]')) {
      const onChange = (records) => {
        if (region.ariaLive === 'off' || !isShown(region)) return;
        const told = region.role === 'log' ? added(records).filter(isShown).map(words) : [region.textContent.trim()];
        window.spoken.push(...told.filter(Boolean));
      };
      new MutationObserver(onChange).observe(region, { childList: true, characterData: true, subtree: true });
    }
  });
}

/** @returns {Promise<string[]>} without figures that differ each time */
export async function spoken(talk) {
  return (await talk.page.evaluate(() => window.spoken)).map(steady);
}

const steady = (text) => text.replace(/\d+ ms/g, 'N ms').replace(/\d+ s left/g, 'N s left');

const SILENT = ['none', 'generic', 'InlineTextBox', 'LineBreak'];
const TOLD = ['pressed', 'checked', 'disabled', 'expanded', 'hasPopup', 'modal', 'live', 'keyshortcuts', 'focused', 'invalid', 'required', 'readonly'];

/** Chromium's accessibility tree, a line for each thing that is there. @returns {Promise<string>} */
export async function tree(talk) {
  const session = await talk.page.context().newCDPSession(talk.page);
  const { nodes } = await session.send('Accessibility.getFullAXTree');
  await session.detach();
  const byId = new Map(nodes.map((node) => [node.nodeId, node]));
  const lines = [];
  const walk = (node, depth, above) => {
    const name = node.name?.value ?? '';
    const role = node.role?.value;
    const counts = !node.ignored && !SILENT.includes(role) && !(role === 'StaticText' && name === above);
    if (counts) lines.push('  '.repeat(depth) + line(node, role, name));
    for (const id of node.childIds ?? []) walk(byId.get(id), depth + (counts ? 1 : 0), counts ? name : above);
  };
  walk(nodes[0], 0, '');
  return steady(lines.join('\n'));
}

function line({ value, description, properties = [] }, role, name) {
  const told = properties.filter(({ name, value: { value } }) => TOLD.includes(name) && ![false, 'false', ''].includes(value) && !(name === 'live' && value === 'off' && role !== 'status'));
  const more = told.map(({ name, value }) => (value.value === true ? name : `${name}=${value.value}`)).sort();
  return [role, JSON.stringify(name), value?.value && `= ${JSON.stringify(value.value)}`, description?.value && `(${description.value})`, more.length > 0 && `[${more.join(' ')}]`]
    .filter(Boolean)
    .join(' ');
}

/** The states of a test, by their trees and by axe-core. */
export class Trees {
  #talk;
  #test;
  #trees = [];

  /** @param {object} talk @param {string} test stands before the name of each of its states in the record */
  constructor(talk, test) {
    this.#talk = talk;
    this.#test = test;
  }

  /** The state as it is now. @param {string} state */
  async look(state) {
    this.#trees.push(`${this.#test}: ${state}\n${await tree(this.#talk)}\n`);
    await this.#talk.page.evaluate(axe.source);
    const found = await this.#talk.page.evaluate(async () => {
      const all = Object.fromEntries(window.axe.getRules().map(({ ruleId }) => [ruleId, { enabled: true }]));
      const { violations } = await window.axe.run({ rules: all });
      return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html, failureSummary }) => html + failureSummary).join(' ')}`);
    });
    assert.deepEqual(found, [], state);
  }

  /** The trees are as recorded: no more of them, no fewer, and in this order. */
  compare() {
    const recorded = fs.readFileSync(RECORD, 'utf8').split(/^== /m).slice(1);
    const ours = (tree) => tree.startsWith(`${this.#test}: `);
    if (process.env.RECORD_TREES) {
      const others = recorded.filter((tree) => !ours(tree)).map((tree) => `${tree.trimEnd()}\n`);
      fs.writeFileSync(RECORD, [...others, ...this.#trees].sort(bySource).map((tree) => `== ${tree}`).join('\n'));
      return;
    }
    const lines = (trees) => trees.flatMap((tree) => tree.trimEnd().split('\n'));
    assert.deepEqual(lines(this.#trees), lines(recorded.filter(ours)));
  }
}

/** Tests in the order of their names, each with its states in their own order. */
const bySource = (one, other) => one.split(': ')[0].localeCompare(other.split(': ')[0]);
