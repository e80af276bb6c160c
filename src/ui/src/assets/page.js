// Refreshes a page, shows times in the reader's time zone, and shows the values of plots.
"use strict";

const offline = document.querySelector(".offline");

function showTimes(root) {
  for (const time of root.querySelectorAll("time[datetime]")) {
    const date = new Date(time.dateTime);
    if (isNaN(date)) continue;
    time.title = time.dateTime;
    const year = date.getFullYear() === new Date().getFullYear() ? {} : { year: "numeric" };
    const shown = { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", ...year };
    time.textContent = date.toLocaleString(undefined, shown);
  }
}

// Returns true if the reader has selected, pointed at or focused something in this part: a refresh
// would lose that.
function isInUse(part) {
  const selection = getSelection();
  const isSelected = !selection.isCollapsed && part.contains(selection.anchorNode);
  return isSelected || part.querySelector("svg:hover") !== null || (part.contains(document.activeElement) && part !== document.activeElement);
}

async function refresh() {
  const answer = await fetch(location.href, { cache: "no-store" });
  if (!answer.ok) throw new Error(answer.statusText);
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  showTimes(fresh);
  for (const part of document.querySelectorAll("[data-live]")) {
    const newer = fresh.getElementById(part.id);
    if (!newer || isInUse(part)) continue;
    // Folds that the reader opened or closed stay so, if the new part has as many as the old one.
    const old = part.querySelectorAll("details");
    const now = newer.querySelectorAll("details");
    if (old.length === now.length) old.forEach((details, at) => { now[at].open = details.open; });
    const logs = [...part.querySelectorAll("pre.log")].map((log) => log.scrollTop + log.clientHeight >= log.scrollHeight - 4);
    if (newer.innerHTML !== part.innerHTML) {
      part.replaceChildren(...document.importNode(newer, true).childNodes);
      part.querySelectorAll("pre.log").forEach((log, at) => { if (logs[at] !== false) log.scrollTop = log.scrollHeight; });
    }
  }
  return Number(fresh.body.dataset.refresh);
}

async function keepFresh(wait) {
  while (wait > 0) {
    await new Promise((done) => setTimeout(done, wait));
    if (document.hidden) await new Promise((done) => document.addEventListener("visibilitychange", done, { once: true }));
    try {
      wait = await refresh();
      offline.textContent = "";
    } catch {
      offline.textContent = "vexact ui does not answer: is it running?";
      wait = 3000;
    }
  }
}

// The value of the point next to the pointer.
function showPoint(event) {
  const svg = event.target.closest("svg[data-points]");
  if (!svg) return;
  const box = svg.getBoundingClientRect();
  const at = (event.clientX - box.left) * svg.viewBox.baseVal.width / box.width;
  const points = svg.dataset.points.split(";").map((point) => point.split("|"));
  const near = points.reduce((a, b) => (Math.abs(b[0] - at) < Math.abs(a[0] - at) ? b : a));
  const cursor = svg.querySelector(".cursor");
  cursor.setAttribute("x1", near[0]);
  cursor.setAttribute("x2", near[0]);
  svg.closest("figure").querySelector("output").textContent = `${near[2].trim()} at ${near[3]}`;
}

function hidePoint(event) {
  const figure = event.target.closest("figure.plot");
  if (!figure || figure.contains(event.relatedTarget)) return;
  const output = figure.querySelector("output");
  output.textContent = output.dataset.newest;
}

showTimes(document);
document.querySelectorAll("pre.log").forEach((log) => { log.scrollTop = log.scrollHeight; });
document.addEventListener("pointermove", showPoint);
document.addEventListener("pointerout", hidePoint);
document.querySelectorAll(".filters select").forEach((select) => select.addEventListener("change", () => select.form.requestSubmit()));
keepFresh(Number(document.body.dataset.refresh));
