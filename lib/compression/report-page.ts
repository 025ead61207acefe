import { showBytes } from '../units.ts';
import { measuredPart } from './plan.ts';
import type { Report } from './report.ts';
import { barChart, escapeHtml, percent, scatter } from './report-plots.ts';

const worstShown = 20;
const namesShown = 100;

/** The report as one page: styles and plots inside, no script, nothing from the network. */
export function reportPage(report: Report): string {
  const { model, commit, method, config, bytesBefore, bytesAfter, relativeError, modules, left } = report;
  const worst = [...modules].sort((a, b) => b.relativeError - a.relativeError || (a.module < b.module ? -1 : 1)).slice(0, worstShown);
  const options = Object.keys(config).length === 0 ? '' : ` <code>${escapeHtml(JSON.stringify(config))}</code>`;
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>${escapeHtml(model)} ${escapeHtml(method)}</title>
<style>${styles}</style>
</head>
<body>
<main>
<header>
<h1>${escapeHtml(model)} <span>${escapeHtml(method)}</span></h1>
<p class="quiet">from commit <code>${escapeHtml(commit)}</code>${options}</p>
</header>
<section class="figures">
${figure(showBytes(bytesAfter), `of ${showBytes(bytesBefore)}: ${percent(bytesAfter / bytesBefore)} of its size`)}
${figure(percent(relativeError), 'relative error of the quantized weights')}
${figure(String(modules.length), `modules quantized, ${left.length} left as they are`)}
</section>
${sizeBar(bytesBefore, bytesAfter)}
<section>
<h2>Error by layer</h2>
<p class="quiet">How far weights moved: |w - q(w)| / |w|, in large tensors over one row of ${measuredPart}. Experts of a layer count as one.</p>
${scatter(report)}
</section>
<section>
<h2>Worst tensors</h2>
<p class="quiet">The ${worst.length} that moved most. A server's answers depend on more than this: evaluate the model before you serve it.</p>
${barChart(worst.map(({ module, relativeError: value, shape }) => ({ label: module, value, note: `[${shape.join(', ')}]` })))}
</section>
<section>
<h2>By kind</h2>
${kindTable(report)}
</section>
<section>
<h2>Left as they are, and why</h2>
${leftTable(report)}
<p class="quiet">In config.json as <code>ignore</code>: ${report.ignore.map((entry) => `<code>${escapeHtml(entry)}</code>`).join(' ')}</p>
${report.notKept.length > 0 ? `<p class="quiet">Not in the new model, as these are the old weights: ${report.notKept.map((path) => `<code>${escapeHtml(path)}</code>`).join(' ')}</p>` : ''}
</section>
</main>
</body>
</html>
`;
}

function figure(value: string, text: string): string {
  return `<div><strong>${escapeHtml(value)}</strong><span>${escapeHtml(text)}</span></div>`;
}

function sizeBar(before: number, after: number): string {
  const part = Math.min(100, (100 * after) / before).toFixed(2);
  return `<div class="size" role="img" aria-label="${part} percent of the size before"><div style="width:${part}%"></div></div>`;
}

function kindTable({ kinds }: Report): string {
  const rows = kinds.map(
    ({ kind, modules, bytesBefore, bytesAfter, relativeError }) =>
      `<tr><td><code>${escapeHtml(kind)}</code></td><td>${modules}</td><td>${showBytes(bytesBefore)}</td><td>${showBytes(bytesAfter)}</td><td>${percent(relativeError)}</td></tr>`,
  );
  return `<table><thead><tr><th>kind</th><th>modules</th><th>before</th><th>after</th><th>error</th></tr></thead><tbody>${rows.join('\n')}</tbody></table>`;
}

function leftTable({ left }: Report): string {
  const rows = [...Map.groupBy(left, ({ reason }) => reason)].map(([reason, modules]) => {
    const names = modules.slice(0, namesShown).map(({ module }) => `<code>${escapeHtml(module)}</code>`);
    const more = modules.length > namesShown ? ` and ${modules.length - namesShown} more (all are in report.json)` : '';
    const list = `${names.join(' ')}${more}`;
    const shown = modules.length > 4 ? `<details><summary>${modules.length} modules</summary>${list}</details>` : list;
    return `<tr><td>${escapeHtml(reason)}</td><td>${shown}</td></tr>`;
  });
  if (rows.length === 0) return '<p>None.</p>';
  return `<table class="left"><thead><tr><th>why</th><th>modules</th></tr></thead><tbody>${rows.join('\n')}</tbody></table>`;
}

const styles = `
:root { color-scheme: light dark; --ink: #1c2128; --quiet: #59636e; --paper: #fff; --line: #d8dee4; --mark: #0969da; --soft: #eaeef2; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --quiet: #9198a1; --paper: #0d1117; --line: #30363d; --mark: #4493f8; --soft: #212830; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 24px; margin: 0; overflow-wrap: anywhere; }
h1 span { font-weight: 400; color: var(--quiet); }
h2 { font-size: 17px; margin: 40px 0 4px; }
p { margin: 4px 0 12px; }
.quiet, .figures span { color: var(--quiet); font-size: 13px; }
code { font: 12.5px ui-monospace, monospace; overflow-wrap: anywhere; }
.figures { display: flex; flex-wrap: wrap; gap: 16px 48px; margin: 24px 0 12px; }
.figures div { display: flex; flex-direction: column; }
.figures strong { font-size: 26px; font-weight: 600; }
.size { height: 10px; border-radius: 5px; background: var(--soft); overflow: hidden; }
.size div { height: 100%; background: var(--mark); }
svg { display: block; width: 100%; height: auto; }
svg text { fill: var(--ink); font: 12px system-ui, sans-serif; }
svg .quiet-text { fill: var(--quiet); }
svg .grid { stroke: var(--line); stroke-width: 1; }
table { border-collapse: collapse; width: 100%; font-size: 13.5px; }
th { text-align: left; color: var(--quiet); font-weight: 500; }
th, td { padding: 6px 12px 6px 0; border-bottom: 1px solid var(--line); vertical-align: top; }
.left td:first-child { width: 40%; }
td:not(:first-child) { font-variant-numeric: tabular-nums; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; font-size: 13px; margin-top: 4px; }
.legend i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 6px; }
`;
