const body = document.querySelector("tbody"), rows = [...body.rows];
const task = document.getElementById("task"), words = document.getElementById("words");
const large = document.getElementById("large"), count = document.getElementById("count");

function filter() {
  const wanted = words.value.toLowerCase();
  let shown = 0;
  for (const row of rows) {
    const cells = row.cells;
    row.hidden = !((!task.value || cells[0].textContent === task.value)
      && (!large.checked || cells[3].textContent === "yes")
      && row.textContent.toLowerCase().includes(wanted));
    shown += !row.hidden;
  }
  count.textContent = shown + " of " + rows.length + " rows";
}

const order = new Intl.Collator("en", { numeric: true });
document.querySelectorAll("th").forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
  const up = head.getAttribute("aria-sort") !== "ascending";
  document.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
  head.setAttribute("aria-sort", up ? "ascending" : "descending");
  rows.sort((a, b) => (up ? 1 : -1) * order.compare(a.cells[column].textContent, b.cells[column].textContent));
  body.append(...rows);
}));

[task, words, large].forEach((input) => input.addEventListener("input", filter));
filter();
