// Sort a table by the column whose head is clicked; nothing else on the page needs a script.
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  [...table.tHead.rows[0].cells].forEach((head, column) => {
    head.tabIndex = 0;
    const sort = () => {
      const falling = head.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", falling ? "descending" : "ascending");
      const value = (row) => row.cells[column].textContent;
      const order = (a, b) => value(a).localeCompare(value(b), "en", { numeric: false });
      const numbers = (a, b) => parseFloat(value(a)) - parseFloat(value(b));
      const rows = [...body.rows].sort(head.classList.contains("num") ? numbers : order);
      body.append(...(falling ? rows.reverse() : rows));
    };
    head.addEventListener("click", sort);
    head.addEventListener("keydown", (event) => { if (event.key === "Enter") sort(); });
  });
}
