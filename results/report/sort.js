"use strict";
// A click on a heading, or Enter, sorts its table: figures before words, the highest figure first.

function sortBy(head) {
  const table = head.closest("table");
  const column = [...head.parentElement.children].indexOf(head);
  const text = (row) => row.children[column].textContent.trim();
  const figure = (row) => Number.parseFloat(text(row).replace("−", "-"));
  const down = head.ariaSort !== "descending";
  for (const other of table.tHead.querySelectorAll("th")) other.ariaSort = "none";
  head.ariaSort = down ? "descending" : "ascending";
  const numeric = column > 0 && [...table.tBodies[0].rows].every((row) => !text(row) || text(row) === "–" || !Number.isNaN(figure(row)));
  const before = numeric
    ? (a, b) => (Number.isNaN(figure(b)) ? -Infinity : figure(b)) - (Number.isNaN(figure(a)) ? -Infinity : figure(a)) || 0
    : (a, b) => text(b).localeCompare(text(a), "en", { numeric: true });
  const rows = [...table.tBodies[0].rows].sort(before);
  table.tBodies[0].append(...(down ? rows : rows.reverse()));
}

for (const head of document.querySelectorAll("thead th:not(.picture)")) {
  head.tabIndex = 0;
  head.title = "sort";
  head.addEventListener("click", () => sortBy(head));
  head.addEventListener("keydown", ({ key }) => {
    if (key === "Enter") sortBy(head);
  });
}
