const $ = id => document.getElementById(id);
const SVG = 'http://www.w3.org/2000/svg';
const el = (name, attributes = {}, parent) => {
  const node = document.createElementNS(SVG, name);
  for (const key in attributes) node.setAttribute(key, attributes[key]);
  if (parent) parent.append(node);
  return node;
};
const set = (node, attributes) => { for (const key in attributes) node.setAttribute(key, attributes[key]); };
const HUES = [248, 168, 38, 330, 205, 95, 285, 12];
const hue = index => HUES[index % HUES.length];
const ink = index => `hsl(${hue(index)} var(--org-sat) var(--org-light))`;
const word = index => `hsl(${hue(index)} var(--org-sat) var(--org-word))`;
const wash = (index, alpha) => `hsl(${hue(index)} var(--org-sat) var(--org-light) / ${alpha})`;
const bytes = n => {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let unit = 0;
  while (n >= 1000 && unit < units.length - 1) { n /= 1000; unit += 1; }
  return [unit === 0 || n >= 100 ? n.toFixed(0) : n.toFixed(1), units[unit]];
};
const plain = n => { const [digits, unit] = bytes(n); return `${digits} ${unit}`; };
const count = n => n.toLocaleString('en').replace(/,/g, '\u202f');
