// What a screen reader is told of the page: the words of its live regions, and Chromium's tree of what there is.

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

const steady = (text) => text.replace(/\d+ ms/g, 'N ms');

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
