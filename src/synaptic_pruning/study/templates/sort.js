"use strict";
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[table.tHead.rows.length - 1].cells];
  const number = (cell) => {
    const value = parseFloat(cell.textContent.replace(/\u2212/g, "-").replace(/[\s,<+]/g, ""));
    return Number.isNaN(value) ? Infinity : value; // what is missing comes last
  };
  const words = new Intl.Collator("en", { numeric: true });
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
      const text = head.classList.contains("text");
      const compare = (a, b) => {
        const [x, y] = [a.cells[place], b.cells[place]];
        if (text) return sign * words.compare(x.textContent, y.textContent);
        const [m, n] = [number(x), number(y)];
        return m === n ? 0 : m === Infinity ? 1 : n === Infinity ? -1 : sign * (m - n);
      };
      table.tBodies[0].append(...[...table.tBodies[0].rows].sort(compare));
    });
  });
}
