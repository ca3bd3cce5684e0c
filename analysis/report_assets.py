"""Style and script of the report page, kept in the page itself so that it works offline and as one file."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #f3f4f6; --line: #c9ccd1; --link: #0b57a4;
  --good: #00674f; --bad: #a33a00; --open: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --soft: #22252b; --line: #444a54;
  --link: #8ab8f0; --good: #5fd0ae; --bad: #ffa36b; --open: #b5b5b5; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 1rem 1.5rem 4rem; max-width: 72rem; }
h1 { margin-bottom: 0; line-height: 1.2; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
a { color: var(--link); }
p, li { max-width: 48rem; }
.lead { font-size: 1.15rem; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; background: var(--paper); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; font-size: .9rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:has(.full) { max-height: 40rem; overflow-y: auto; }
table { border-collapse: collapse; min-width: 26rem; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; color: var(--open); }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { background: var(--soft); position: sticky; top: 0; }
td { overflow-wrap: break-word; max-width: 28rem; }
.full td { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
th button { font: inherit; font-weight: bold; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
td.robust { color: var(--good); font-weight: bold; white-space: nowrap; }
td.sensitive { color: var(--bad); font-weight: bold; white-space: nowrap; }
td.undetermined, td.not-rated { color: var(--open); font-weight: bold; white-space: nowrap; }
input { font: inherit; padding: .2rem .4rem; }
figure { margin: 1.2rem 0; }
figure img { max-width: 100%; height: auto; background: #fff; border-radius: 4px; }
figcaption { font-size: .88rem; color: var(--open); max-width: 48rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .85rem; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media print { body { max-width: none; font-size: 10pt; } nav, .skip, input, label { display: none; }
  .scroll, .scroll:has(.full) { max-height: none; overflow: visible; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; } }
"""

SCRIPT = r"""for (const table of document.querySelectorAll("table.full")) {
  const body = table.tBodies[0];
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const key = (row) => row.cells[head.cellIndex].textContent;
    const compare = (a, b) => {
      const x = key(a), y = key(b), gap = Number(x) - Number(y);
      if (x === "–" || y === "–") return x === y ? 0 : x === "–" ? 1 : -1; // nothing measured comes last
      return (Number.isNaN(gap) ? x.localeCompare(y) : gap) * (down ? -1 : 1);
    };
    body.append(...[...body.rows].sort(compare));
  });
  const input = document.querySelector(`input[data-table="${table.id}"]`);
  const count = input.closest("p").querySelector("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    for (const row of body.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += row.hidden ? 0 : 1;
    }
    count.textContent = `${shown} of ${body.rows.length} rows`;
  });
}
"""
