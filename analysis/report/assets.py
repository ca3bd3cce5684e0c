"""Style and script of the report page, kept in the page itself so that it works offline and as one file."""

STYLE = """\
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #f3f4f6; --line: #c9ccd1; --link: #0b57a4;
  --good: #00674f; --bad: #a33a00; --open: #555; }
@media (prefers-color-scheme: dark) { :root { --ink: #e8e8e8; --paper: #16181c; --soft: #22252b; --line: #444a54;
  --link: #8ab8f0; --good: #5fd0ae; --bad: #ffa36b; --open: #b5b5b5; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 0 auto;
  padding: 1rem 1.5rem 4rem; max-width: 72rem; }
h1 { margin-bottom: 0; line-height: 1.2; overflow-wrap: anywhere; }
h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line); padding-bottom: .2rem; }
h3 { margin-top: 2rem; }
a { color: var(--link); }
p, li, figcaption { max-width: 48rem; overflow-wrap: break-word; }
.lead { font-size: 1.15rem; }
.skip { position: absolute; left: -999px; }
.skip:focus { left: 1rem; background: var(--paper); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; list-style: none; padding: 0; font-size: .9rem; }
.scroll { overflow-x: auto; margin: 1rem 0; }
.scroll:has(.full) { max-height: 40rem; overflow-y: auto; }
table { border-collapse: collapse; min-width: 26rem; font-size: .85rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .3rem 0; color: var(--open); max-width: 60rem; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th { background: var(--soft); position: sticky; top: 0; }
td { overflow-wrap: break-word; max-width: 28rem; }
.full td { white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
::placeholder { color: var(--open); opacity: 1; }
th button { text-align: left;
  font: inherit; font-weight: bold; color: inherit; background: none; border: 0; padding: 0; cursor: pointer; }
th[aria-sort=ascending] button::after { content: " ▲"; }
th[aria-sort=descending] button::after { content: " ▼"; }
td.robust { color: var(--good); font-weight: bold; white-space: nowrap; }
td.sensitive { color: var(--bad); font-weight: bold; white-space: nowrap; }
td.undetermined, td.not-rated { color: var(--open); font-weight: bold; white-space: nowrap; }
th button:hover { text-decoration: underline; }
input { font: inherit; padding: .2rem .4rem; max-width: 100%; color: inherit; background: var(--paper);
  border: 1px solid var(--open); border-radius: 3px; }
output { color: var(--open); font-size: .88rem; }
figure { margin: 1.2rem 0; }
.pan { overflow-x: auto; background: #fff; border-radius: 6px; padding: .3rem; width: fit-content; max-width: 100%; }
.pan img { display: block; max-width: 100%; height: auto; }
figcaption { font-size: .88rem; color: var(--open); margin-top: .3rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; font-size: .85rem; }
@media (max-width: 700px) { body { padding: 1rem 1rem 3rem; } caption { max-width: calc(100vw - 2rem); }
  .pan img { max-width: none; height: 17rem; width: auto; } }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
@media print { :root { color-scheme: light; --ink: #000; --paper: #fff; --soft: #f3f4f6; --line: #999; --link: #000;
  --good: #00503d; --bad: #8a3100; --open: #333; }
  body { max-width: none; font-size: 10pt; padding: 0; } nav, .skip, p:has(> label) { display: none; }
  tr[hidden] { display: table-row; } /* a filter on the screen leaves nothing out on paper */
  .scroll, .scroll:has(.full), pre, .pan { max-height: none; overflow: visible; } pre { white-space: pre-wrap; }
  table { font-size: 7.5pt; min-width: 0; } th { position: static; } th, td { padding: .15rem .3rem; }
  .full td { white-space: normal; overflow-wrap: anywhere; } .pan img { max-width: 100%; height: auto; }
  figure, tr { break-inside: avoid; } h2, h3 { break-after: avoid; } thead { display: table-header-group; } }
"""

SCRIPT = r"""for (const table of document.querySelectorAll("table.full")) {
  const body = table.tBodies[0];
  const rows = [...body.rows];
  const words = rows.map((row) => row.textContent.toLowerCase());
  table.tHead.addEventListener("click", (event) => {
    const head = event.target.closest("th");
    if (!head) return;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keys = new Map(rows.map((row) => [row, row.cells[head.cellIndex].textContent]));
    const compare = (a, b) => {
      const x = keys.get(a), y = keys.get(b), gap = Number(x) - Number(y);
      if (x === "–" || y === "–") return x === y ? 0 : x === "–" ? 1 : -1; // nothing measured comes last
      return (Number.isNaN(gap) ? x.localeCompare(y) : gap) * (down ? -1 : 1);
    };
    body.append(...[...rows].sort(compare));
  });
  const input = document.querySelector(`input[data-table="${table.id}"]`);
  const count = input.closest("p").querySelector("output");
  input.addEventListener("input", () => {
    const wanted = input.value.toLowerCase().split(/\s+/);
    let shown = 0;
    rows.forEach((row, i) => {
      row.hidden = !wanted.every((word) => words[i].includes(word));
      shown += row.hidden ? 0 : 1;
    });
    count.textContent = `${shown} of ${rows.length} rows`;
  });
}
// The Tab key stops at a box only where there is something to scroll.
const boxes = document.querySelectorAll(".scroll, .pan, pre");
const stops = () => {
  for (const box of boxes) {
    const needed = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
    if (needed) box.tabIndex = 0;
    else box.removeAttribute("tabindex");
  }
};
addEventListener("load", stops);
addEventListener("resize", stops);
"""
