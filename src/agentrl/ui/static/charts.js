// Charts: the values under the pointer or the arrow keys, and a PNG of what is shown. The drawing is the server's.

const SVG = "http://www.w3.org/2000/svg";
const INLINED = ["fill", "fill-opacity", "stroke", "stroke-opacity", "stroke-width", "stroke-dasharray",
  "stroke-linejoin", "stroke-linecap", "font-family", "font-size", "font-weight", "opacity"];
const SCALE = 2, WIDTH = 560, MARGIN = 16, LINE = 20;

// --- values

function curvesOf(plot) {
  return [...plot.querySelectorAll(".curve")].map((curve) => ({
    label: curve.dataset.label,
    points: curve.dataset.points.split(" ").map((pair) => pair.split(",").map(Number)),
  }));
}

function short(value) {
  const size = Math.abs(value);
  return value !== 0 && (size >= 1e5 || size < 1e-3) ? value.toExponential(2) : String(Number(value.toPrecision(4)));
}

function nearest(points, x) {
  let low = 0, high = points.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle][0] < x) low = middle + 1;
    else high = middle;
  }
  return low > 0 && x - points[low - 1][0] < points[low][0] - x ? points[low - 1] : points[low];
}

function show(plot, x) {
  const figure = plot.closest("figure"), data = plot.dataset, curves = curvesOf(plot);
  const places = curves.map((curve) => nearest(curve.points, x));
  const at = places.reduce((best, place) => (Math.abs(place[0] - x) < Math.abs(best[0] - x) ? place : best))[0];
  const [first, last, left, right] = [data.first, data.last, data.left, data.right].map(Number);
  const share = last > first ? (at - first) / (last - first) : 0.5;
  const line = document.createElementNS(SVG, "line"), place = left + share * (right - left);
  for (const [key, value] of Object.entries({ x1: place, x2: place, y1: data.top, y2: data.floor })) {
    line.setAttribute(key, value);
  }
  plot.querySelector(".cross").replaceChildren(line);
  const readout = figure.querySelector(".readout");
  readout.replaceChildren(...[`${data.x} ${short(at)}`, ...curves.flatMap((curve, n) => {
    const label = curves.length > 1 ? `${curve.label}: ` : "";
    return places[n][0] === at ? [label + short(places[n][1])] : [];
  })].map((words) => Object.assign(document.createElement("span"), { textContent: words })));
  readout.classList.toggle("left", share > 0.5);
  plot.at = at;
  latest = { figure: figure.id, x: at };
}

// A figure that was swapped shows what the old one showed.
let latest = { figure: "", x: 0 };

document.addEventListener("swapped", (event) => {
  const plot = latest.figure && event.target.querySelector(`#${CSS.escape(latest.figure)} svg.plot`);
  if (plot && plot.at === undefined) {
    plot.classList.add("shown");
    show(plot, latest.x);
  }
});

function clear(plot) {
  const readout = plot.closest("figure").querySelector(".readout");
  readout.replaceChildren();
  readout.removeAttribute("aria-live");
  plot.querySelector(".cross").replaceChildren();
  plot.at = undefined;
  latest = { figure: "", x: 0 };
}

function point(event) {
  const plot = event.target.closest?.("svg.plot");
  for (const other of document.querySelectorAll("svg.plot.shown")) {
    if (other !== plot && other !== document.activeElement) {
      other.classList.remove("shown");
      clear(other);
    }
  }
  if (!plot) return;
  const box = plot.getBoundingClientRect(), data = plot.dataset;
  const inside = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
  const share = (inside - data.left) / (data.right - data.left);
  plot.classList.add("shown");
  show(plot, Number(data.first) + share * (data.last - data.first));
}

document.addEventListener("pointermove", point);
document.addEventListener("pointerdown", point);

document.addEventListener("keydown", (event) => {
  const plot = document.activeElement;
  if (!plot?.matches?.("svg.plot") || event.ctrlKey || event.metaKey || event.altKey) return;
  const places = [...new Set(curvesOf(plot).flatMap((curve) => curve.points.map((point) => point[0])))].sort((a, b) => a - b);
  const now = places.indexOf(plot.at);
  const next = { ArrowRight: now + 1, ArrowLeft: now < 0 ? places.length - 1 : now - 1, Home: 0, End: places.length - 1 }[event.key];
  if (event.key === "Escape") clear(plot);
  if (next === undefined) return;
  event.preventDefault();
  plot.closest("figure").querySelector(".readout").setAttribute("aria-live", "polite");
  plot.classList.add("shown");
  show(plot, places[Math.min(Math.max(next, 0), places.length - 1)]);
});

// --- PNG

// A copy that looks the same without the page's style sheets.
function inlined(svg) {
  const copy = svg.cloneNode(true);
  const originals = [svg, ...svg.querySelectorAll("*")], copies = [copy, ...copy.querySelectorAll("*")];
  originals.forEach((original, n) => {
    const style = getComputedStyle(original);
    for (const name of INLINED) copies[n].setAttribute(name, style.getPropertyValue(name));
  });
  copy.querySelector(".cross")?.remove();
  copy.setAttribute("xmlns", SVG);
  return copy;
}

function picture(svg, width, height) {
  svg.setAttribute("width", width);
  svg.setAttribute("height", height);
  const image = new Image(width, height);
  image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(new XMLSerializer().serializeToString(svg))}`;
  return image.decode().then(() => image);
}

async function png(figure) {
  const plot = figure.querySelector("svg.plot"), view = plot.viewBox.baseVal;
  const style = getComputedStyle(document.body), colour = (name) => style.getPropertyValue(name).trim();
  const width = WIDTH - 2 * MARGIN, height = (width * view.height) / view.width;
  const canvas = document.createElement("canvas"), pen = canvas.getContext("2d");
  pen.font = `13px ${style.fontFamily}`;
  const keys = [...figure.querySelectorAll(".legend .key")].map((key) => ({
    sample: key.querySelector("svg"), label: key.querySelector("span").textContent,
  }));
  const subject = [figure.querySelector("[data-png]").dataset.subject].filter(Boolean);
  const notes = [...figure.querySelectorAll(".note")].map((note) => note.textContent);
  let x = 0, row = 0;
  for (const key of keys) {  // as many beside each other as there is room for
    const room = 34 + pen.measureText(key.label).width + 18;
    if (x > 0 && x + room > width) [x, row] = [0, row + 1];
    [key.x, key.y] = [MARGIN + x, MARGIN + 22 + subject.length * LINE + row * LINE];
    x += room;
  }
  const top = MARGIN + 26 + subject.length * LINE + (keys.length ? (row + 1) * LINE : 0);
  const whole = top + height + notes.length * LINE + MARGIN;
  canvas.width = WIDTH * SCALE;
  canvas.height = whole * SCALE;
  pen.scale(SCALE, SCALE);
  pen.fillStyle = colour("--page");
  pen.fillRect(0, 0, WIDTH, whole);
  pen.fillStyle = colour("--text");
  pen.font = `600 16px ${style.fontFamily}`;
  pen.textBaseline = "middle";
  pen.fillText(figure.querySelector("figcaption").textContent, MARGIN, MARGIN + 6, width);
  pen.font = `13px ${style.fontFamily}`;
  pen.fillStyle = colour("--quiet");
  subject.forEach((words) => pen.fillText(words, MARGIN, MARGIN + 6 + LINE, width));
  notes.forEach((words, n) => pen.fillText(words, MARGIN, top + height + (n + 0.5) * LINE, width));
  pen.fillStyle = colour("--text");
  for (const key of keys) {
    pen.drawImage(await picture(inlined(key.sample), 26, 10), key.x, key.y + 5);
    pen.fillText(key.label, key.x + 34, key.y + 10, width - 34);
  }
  pen.drawImage(await picture(inlined(plot), width, height), MARGIN, top, width, height);
  return new Promise((resolve) => { canvas.toBlob(resolve, "image/png"); });
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest?.("[data-png]");
  if (!button) return;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(await png(button.closest("figure")));
  link.download = `${button.dataset.png}.png`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
});
