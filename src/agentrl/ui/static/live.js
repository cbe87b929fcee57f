// Follows a page: asks its address for new parts, swaps those that changed, and says how old they are.
// Scroll and focus stay; hidden tabs do not ask; when the server is away, it is asked less and less often.

const LIVE_MS = 2000, IDLE_MS = 15000, AWAY_MS = 30000, SAY_MS = 10000;
const url = document.querySelector("script[data-live]").dataset.live;
const bar = document.querySelector("[data-live-state]");
const text = bar.querySelector("[data-live-text]");
const said = document.querySelector("[data-said]");

let etag = "", failures = 0, timer = 0;
let isLive = "isLive" in bar.dataset;
let writtenAt = "age" in bar.dataset ? Date.now() - 1000 * bar.dataset.age : null;
let progress = bar.dataset.progress;
let lastSaid = said.dataset.said, saidAt = 0;

function ago(ms) {
  const seconds = Math.max(0, Math.round(ms / 1000));
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 172800) return `${Math.floor(seconds / 3600)} h ago`;
  return `${Math.floor(seconds / 86400)} days ago`;
}

function tell() {
  const state = failures ? "away" : document.hidden ? "paused" : isLive ? "live" : "idle";
  bar.dataset.liveState = state;
  const far = progress ? `, ${progress}` : "";
  const age = writtenAt === null ? "" : `, updated ${ago(Date.now() - writtenAt)}`;
  const words = { away: "the server does not answer; trying again", paused: "paused", live: "live", idle: bar.dataset.idle };
  const now = words[state] + (state === "away" ? "" : far + age);
  if (text.textContent !== now) text.textContent = now;
}

// For whoever does not see the page; not more often than one can listen to.
function say(words, isUrgent = false) {
  if (words === lastSaid || (!isUrgent && Date.now() - saidAt < SAY_MS)) return;
  [lastSaid, saidAt] = [words, Date.now()];
  said.textContent = words;
}

function selectorOf(element) {
  if (element.id) return `#${CSS.escape(element.id)}`;
  const around = element.closest("figure[id], details[id]");
  const kind = element.matches("svg") ? "svg.plot" : element.localName;
  return around ? `#${CSS.escape(around.id)} ${kind}` : "";
}

function swap(part, html) {
  const fresh = document.createElement("template");
  fresh.innerHTML = html;  // escaped by the server, which is ours
  const focused = part.contains(document.activeElement) ? selectorOf(document.activeElement) : "";
  // figures that did not change stay, with what the pointer shows in them
  for (const figure of fresh.content.querySelectorAll("figure[data-digest]")) {
    const old = document.getElementById(figure.id);
    if (old && old.dataset.digest === figure.dataset.digest && part.contains(old)) figure.replaceWith(old);
  }
  const checked = new Set([...part.querySelectorAll("input:checked")].map((input) => `${input.name}=${input.value}`));
  const opened = new Set([...part.querySelectorAll("details[open]")].map((details) => details.id));
  const scrolled = new Map([...part.querySelectorAll(".wide, pre")].map((box, n) => [n, [box.scrollLeft, box.scrollTop]]));
  part.replaceChildren(fresh.content);
  for (const input of part.querySelectorAll("input[type=checkbox]")) {
    input.checked = checked.has(`${input.name}=${input.value}`);
  }
  for (const details of part.querySelectorAll("details")) details.open = opened.has(details.id);
  part.querySelectorAll(".wide, pre").forEach((box, n) => {
    if (scrolled.has(n)) [box.scrollLeft, box.scrollTop] = scrolled.get(n);
  });
  if (focused) document.querySelector(focused)?.focus({ preventScroll: true });
  part.dispatchEvent(new CustomEvent("swapped", { bubbles: true }));
}

function isSelectedIn(part) {
  const selection = getSelection();
  return !selection.isCollapsed && selection.containsNode(part, true);
}

// Whether all was taken: what somebody is marking to copy stays until they are done.
function take(answer) {
  let isWhole = true;
  for (const part of document.querySelectorAll("[data-part]")) {
    const name = part.dataset.part, fresh = answer.parts[name];
    if (!fresh || part.dataset.digest === fresh.digest) continue;
    if (isSelectedIn(part)) {
      isWhole = false;
    } else {
      swap(part, fresh.html);
      part.dataset.digest = fresh.digest;
    }
  }
  isLive = answer.is_live;
  progress = answer.progress;
  writtenAt = answer.age_seconds === null ? null : Date.now() - 1000 * answer.age_seconds;
  if (answer.said) say(answer.said, !isLive);
  return isWhole;
}

async function look() {
  clearTimeout(timer);
  if (!document.hidden) {
    try {
      const reply = await fetch(url, { headers: etag ? { "If-None-Match": etag } : {}, cache: "no-store" });
      if (reply.status === 200) {
        etag = take(await reply.json()) ? reply.headers.get("ETag") : "";
      } else if (reply.status === 404) {
        location.reload();  // it is gone; the page says so
        return;
      } else if (reply.status !== 304) {
        throw new Error(`status ${reply.status}`);
      }
      if (failures) say("The server answers again.", true);
      failures = 0;
    } catch {
      failures += 1;
      if (failures === 2) say("The server does not answer; trying again.", true);
    }
    const wait = failures ? Math.min(AWAY_MS, LIVE_MS * 2 ** (failures - 1)) : isLive ? LIVE_MS : IDLE_MS;
    clearTimeout(timer);  // another look may have begun meanwhile
    timer = setTimeout(look, wait);
  }
  tell();
}

document.addEventListener("visibilitychange", look);
window.addEventListener("online", look);
setInterval(tell, 1000);
tell();
timer = setTimeout(look, LIVE_MS);
