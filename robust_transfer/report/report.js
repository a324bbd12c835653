"use strict";
// The page says everything without this: here tables are sorted, one budget is chosen, and points say their values.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  for (const head of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const column = head.cellIndex, down = head.getAttribute("aria-sort") === "ascending";
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent;
      const order = (a, b) => {
        const [x, y] = [value(a), value(b)], number = Number(x) - Number(y);
        return Number.isNaN(number) ? x.localeCompare(y, undefined, { numeric: true }) : number;
      };
      const rows = [...body.rows].sort((a, b) => (down ? order(b, a) : order(a, b)));
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      body.append(...rows);
    });
  }
}
for (const select of document.querySelectorAll(".choose select")) {
  const parts = document.querySelectorAll(`[data-run="${select.dataset.for}"] [data-level]`);
  const choose = () => { for (const part of parts) part.hidden = part.dataset.level !== select.value; };
  select.closest(".choose").hidden = false;
  select.addEventListener("change", choose);
  choose();
}
for (const figure of document.querySelectorAll("svg.figure")) {
  const tip = figure.parentElement.querySelector(".tip"), marks = [...figure.querySelectorAll("[data-words]")];
  if (!marks.length) continue;
  tip.hidden = false;
  const show = (event) => {
    const away = (mark) => { const box = mark.getBoundingClientRect(); return Math.hypot(box.x + box.width / 2 - event.clientX, box.y + box.height / 2 - event.clientY); };
    const near = marks.reduce((best, mark) => (away(mark) < away(best) ? mark : best));
    tip.textContent = away(near) < 40 ? near.dataset.words : "";
  };
  figure.addEventListener("pointermove", show);
  figure.addEventListener("pointerdown", show);
}
