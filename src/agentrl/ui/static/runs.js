// The list of runs: how many are selected; a selection outlives sorting and filtering. The first run ends the empty page.

const form = document.querySelector("[data-compare]");
const KEY = "agentrl.selected";

if (form) {
  const button = form.querySelector("button"), count = form.querySelector("[data-selected]");
  const chosen = new Set(JSON.parse(sessionStorage.getItem(KEY) || "[]"));

  const boxes = () => form.querySelectorAll("input[name=runs]");

  function show() {
    const seen = new Set([...boxes()].map((box) => box.value));
    const hidden = [...chosen].filter((name) => !seen.has(name)).length;
    button.disabled = chosen.size < 2;
    count.textContent = chosen.size ? `${chosen.size} selected${hidden ? `, ${hidden} of them filtered out` : ""}` : "";
    sessionStorage.setItem(KEY, JSON.stringify([...chosen]));
  }

  function mark() {
    for (const box of boxes()) box.checked = chosen.has(box.value);
    show();
  }

  form.addEventListener("change", (event) => {
    if (event.target.name !== "runs") return;
    if (event.target.checked) chosen.add(event.target.value);
    else chosen.delete(event.target.value);
    show();
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const query = new URLSearchParams();
    for (const name of chosen) query.append("runs", name);
    sessionStorage.removeItem(KEY);
    location.assign(`/compare?${query}`);
  });
  form.addEventListener("swapped", mark);
  mark();
} else {
  // there was no run, and so nothing to filter or to compare: with the first one the page is another
  document.addEventListener("swapped", () => document.querySelector("table.runs") && location.reload());
}
