// Sortable tables: a button in each header cell of tables with at least three rows and one header row.
for (const table of document.querySelectorAll("table")) {
  const rows = [...table.tBodies[0].rows], heads = table.tHead ? [...table.tHead.rows] : [];
  if (rows.length < 3 || heads.length !== 1 || table.querySelector("tbody [rowspan], tbody [colspan]")) continue;
  [...heads[0].cells].forEach((head, column) => {
    if (!head.textContent.trim()) return;
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      for (const other of heads[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const key = row => row.cells[column].textContent.trim();
      const number = row => parseFloat(key(row).replaceAll(",", ""));
      const numeric = rows.some(row => !isNaN(number(row)));
      const compare = (a, b) => numeric
        ? (isNaN(number(a)) - isNaN(number(b))) || (number(a) - number(b)) * (down ? -1 : 1)
        : key(a).localeCompare(key(b)) * (down ? -1 : 1);
      table.tBodies[0].append(...[...rows].sort(compare));
    });
  });
}
