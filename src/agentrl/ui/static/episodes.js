// Keys of the pages of episodes. A key presses what is marked with it (data-key="j ArrowRight"), so everything that a
// key does a click does too. Keys are left alone while somebody types, with Ctrl, Alt or Meta, and where they scroll.
"use strict";

const TYPED_IN = "input, textarea, select, [contenteditable], dialog[open]";
const ARROWS_ARE_TAKEN = ".spelled, .scroll, [role=radiogroup], input[type=radio]";

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
  const at = event.target instanceof Element ? event.target : document.body;
  if (at.closest(".spelled") && moveInTokens(event, at)) return;
  if (at.closest(TYPED_IN)) return;
  if (event.key.startsWith("Arrow") && at.closest(ARROWS_ARE_TAKEN)) return;
  if ((event.key === "j" || event.key === "k") && moveInList(event.key === "j" ? 1 : -1)) {
    event.preventDefault();
    return;
  }
  const marked = [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key.split(" ").includes(event.key));
  if (!marked) return;
  event.preventDefault();
  if (marked.matches("input")) {
    marked.focus();
    marked.select();
  } else {
    marked.click();
  }
});

document.addEventListener("click", (event) => {
  if (event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  const pressed = event.target instanceof Element ? event.target.closest("[data-opens], [data-focus], [data-next-mark], [data-tokens], [data-turn-tokens]") : null;
  if (!pressed) return;
  if (pressed.dataset.opens) {
    document.getElementById(pressed.dataset.opens).showModal();
  } else if ("nextMark" in pressed.dataset) {
    moveInMarks();
  } else if (pressed.dataset.focus) {
    const field = document.getElementById(pressed.dataset.focus) || document.querySelector(pressed.hash);
    setTimeout(() => field.focus()); // after the link itself has moved there
  } else {
    event.preventDefault();
    if ("tokens" in pressed.dataset) toggleAllTokens(pressed);
    else if (pressed.closest(".strip")) loadTokens(pressed, pressed.closest("p"), true);
    else toggleTokens(pressed);
  }
});

// --- the list ---

function moveInList(by) {
  const rows = [...document.querySelectorAll("a.row")];
  if (!rows.length) return false;
  const at = rows.indexOf(document.activeElement);
  rows[Math.min(rows.length - 1, Math.max(0, at + (at < 0 && by < 0 ? 1 : by)))].focus();
  return true;
}

// --- what was looked for ---

let atMark = -1;

function moveInMarks() {
  const marks = [...document.querySelectorAll(".episode mark")];
  if (!marks.length) return;
  marks[atMark]?.classList.remove("now");
  atMark = (atMark + 1) % marks.length;
  marks[atMark].classList.add("now");
  marks[atMark].closest("details")?.setAttribute("open", "");
  marks[atMark].scrollIntoView({ block: "center" });
}

// --- tokens ---

// A long episode has more turns than anybody reads: those near the window are loaded, the others when they come near.
const nearby = new IntersectionObserver(
  (seen) => {
    for (const each of seen.filter((one) => one.isIntersecting)) {
      nearby.unobserve(each.target);
      const link = each.target.querySelector("[data-turn-tokens]");
      if (!stripOf(link).firstChild) toggleTokens(link);
    }
  },
  { rootMargin: "1500px 0px" },
);

function toggleAllTokens(button) {
  const wanted = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(wanted));
  nearby.disconnect();
  for (const link of document.querySelectorAll(".turn .head [data-turn-tokens]")) {
    if (wanted) nearby.observe(link.closest(".turn"));
    else if (stripOf(link).firstChild) toggleTokens(link);
  }
}

const stripOf = (link) => link.closest(".turn").querySelector(".strip");

async function toggleTokens(link) {
  const strip = stripOf(link);
  if (strip.firstChild) {
    strip.replaceChildren();
    link.setAttribute("aria-expanded", "false");
    return;
  }
  link.setAttribute("aria-expanded", "true");
  const place = document.createElement("p");
  strip.append(place);
  await loadTokens(link, place, false);
}

async function loadTokens(link, place, takesFocus) {
  place.textContent = "Loading…";
  try {
    const answer = await fetch(link.href, { headers: { "X-Fragment": "1" } });
    if (!answer.ok) throw new Error(`the server said ${answer.status}`);
    const holder = document.createElement("template");
    holder.innerHTML = await answer.text(); // our own server's markup, in which all text is escaped
    const found = holder.content.firstElementChild;
    place.replaceWith(holder.content);
    if (takesFocus) found.querySelector(".token[tabindex]")?.focus();
  } catch (error) {
    place.textContent = `The tokens could not be loaded: ${error.message}. Press the button once more.`;
    place.className = "problem";
  }
}

document.addEventListener("change", (event) => {
  const strip = event.target.closest(".tokens");
  if (strip && event.target.matches("input[type=radio]")) strip.className = `tokens by-${event.target.value}`;
  const form = event.target.closest("form[data-submits]");
  if (form) form.requestSubmit();
});

function read(token) {
  const out = token.closest(".tokens")?.querySelector(".pointed-at");
  if (out) out.textContent = `${JSON.stringify(token.textContent)} · ${token.title}`;
}

for (const kind of ["focusin", "mouseover"]) {
  document.addEventListener(kind, (event) => {
    if (event.target instanceof Element && event.target.matches(".spelled .token")) read(event.target);
  });
}

function moveInTokens(event, at) {
  const tokens = [...at.closest(".spelled").querySelectorAll(".token")];
  const steps = { ArrowRight: 1, ArrowLeft: -1, Home: -Infinity, End: Infinity };
  if (!(event.key in steps)) return false;
  const next = tokens[Math.min(tokens.length - 1, Math.max(0, tokens.indexOf(at) + steps[event.key]))];
  at.tabIndex = -1;
  next.tabIndex = 0;
  next.focus();
  event.preventDefault();
  return true;
}

// --- who labels is remembered on this machine ---

for (const field of document.querySelectorAll("[data-remember]")) {
  const name = `agentrl.${field.dataset.remember}`;
  try {
    field.value = localStorage.getItem(name) || field.value;
    field.form.addEventListener("submit", () => localStorage.setItem(name, field.value));
  } catch {
    // a browser that keeps nothing: the server's guess stays
  }
}
