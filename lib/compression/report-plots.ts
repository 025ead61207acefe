import type { Report } from './report.ts';

/** Told apart also without red and green (Okabe and Ito's palette, without black); kinds beyond them share the last. */
const colors = ['#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8f7bd6', '#8c8c8c'];
const width = 950;

/** One point for each layer and kind of module: the layers from left to right, the error upwards. */
export function scatter({ layers, kinds, cells }: Pick<Report, 'layers' | 'kinds' | 'cells'>): string {
  const [height, left, bottom, top] = [320, 56, 36, 12];
  const limit = niceLimit(Math.max(...cells.map(({ relativeError }) => relativeError), 0));
  const position = new Map(layers.map(({ layer }, index) => [layer, index]));
  const slot = (width - left - 12) / Math.max(1, layers.length);
  const x = (layer: string) => left + ((position.get(layer) ?? 0) + 0.5) * slot;
  // Side by side within their layer: equal errors would hide one another.
  const order = new Map(kinds.map(({ kind }, index) => [kind, index - (kinds.length - 1) / 2]));
  const aside = (kind: string) => (order.get(kind) ?? 0) * Math.min(14, (0.7 * slot) / kinds.length);
  const y = (value: number) => top + (height - top - bottom) * (1 - value / limit);
  const colorOf = new Map(kinds.map(({ kind }, index) => [kind, colors[Math.min(index, colors.length - 1)] ?? '']));
  const grid = [0, 0.25, 0.5, 0.75, 1].map((part) => {
    const at = y(part * limit).toFixed(1);
    return `<line class="grid" x1="${left}" x2="${width - 12}" y1="${at}" y2="${at}"/><text class="quiet-text" x="${left - 8}" y="${Number(at) + 4}" text-anchor="end">${percent(part * limit)}</text>`;
  });
  const points = cells.map(({ layer, kind, relativeError }) => {
    const title = `${layer} ${kind}: ${percent(relativeError)}`;
    return `<circle cx="${(x(layer) + aside(kind)).toFixed(1)}" cy="${y(relativeError).toFixed(1)}" r="4" fill="${colorOf.get(kind)}" fill-opacity="0.85"><title>${escapeHtml(title)}</title></circle>`;
  });
  const every = Math.ceil(layers.length / 20);
  const ticks = layers.map(({ layer }, index) => {
    if (index % every !== 0) return '';
    const label = /\.(\d+)$/.exec(layer)?.[1] ?? layer;
    return `<text class="quiet-text" x="${x(layer).toFixed(1)}" y="${height - 14}" text-anchor="middle">${escapeHtml(shortened(label, 16))}</text>`;
  });
  const legend = kinds.map(({ kind }) => `<span><i style="background:${colorOf.get(kind)}"></i>${escapeHtml(kind)}</span>`);
  const svg = `<svg viewBox="0 0 ${width} ${height}" role="img" aria-label="Relative error of each kind of module by layer">${[...grid, ...points, ...ticks].join('\n')}</svg>`;
  return `${svg}\n<div class="legend">${legend.join('')}</div>`;
}

/** Bars to the right, in the order given. */
export function barChart(rows: readonly { label: string; value: number; note: string }[]): string {
  const [rowHeight, left, right] = [24, 400, 150];
  const limit = Math.max(...rows.map(({ value }) => value), Number.MIN_VALUE);
  const bars = rows.map(({ label, value, note }, index) => {
    const y = index * rowHeight;
    const length = (value / limit) * (width - left - right);
    return `<text x="${left - 10}" y="${y + 16}" text-anchor="end">${escapeHtml(shortened(label, 58))}<title>${escapeHtml(label)}</title></text>
<rect x="${left}" y="${y + 4}" width="${Math.max(1, length).toFixed(1)}" height="${rowHeight - 8}" rx="2" fill="${colors[0]}"/>
<text x="${(left + length + 8).toFixed(1)}" y="${y + 16}">${percent(value)} <tspan class="quiet-text">${escapeHtml(note)}</tspan></text>`;
  });
  return `<svg viewBox="0 0 ${width} ${Math.max(1, rows.length) * rowHeight}" role="img" aria-label="The tensors with the largest relative error">${bars.join('\n')}</svg>`;
}

/** A part as people read it: `2.69 %`. */
export function percent(part: number): string {
  const value = part * 100;
  return `${value >= 9.995 ? value.toFixed(1) : value.toFixed(2)} %`;
}

/** Names come from the model: they are text, never markup. */
export function escapeHtml(text: string): string {
  return text.replace(/[&<>"']/g, (char) => `&#${char.charCodeAt(0)};`);
}

/** The end of a name tells more than its beginning. */
function shortened(text: string, length: number): string {
  return text.length <= length ? text : `…${text.slice(text.length - length + 1)}`;
}

/** 1, 2 or 4 of a power of ten, or their quarter steps, not below the value. */
function niceLimit(value: number): number {
  if (!(value > 0)) return 0.01;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10].map((step) => step * power).find((limit) => limit >= value) ?? 10 * power;
}
