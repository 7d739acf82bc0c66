// Keeps a page living: fetches it again and swaps the parts that changed. Without it the page stands
// as it was loaded.
"use strict";

const SECOND = 1;
const UNITS = [
  ["day", 86400],
  ["hour", 3600],
  ["minute", 60],
  ["second", SECOND],
];
const words = new Intl.RelativeTimeFormat("en", { numeric: "always", style: "long" });
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });
const every = Number(document.body.dataset.live) * 1000;

let tag = "";
let failures = 0;
let timer = 0;

function ago(seconds) {
  if (Math.abs(seconds) < 5) return "just now";
  const [unit, length] = UNITS.find(([, long]) => Math.abs(seconds) >= long);
  return words.format(Math.trunc(seconds / length), unit);
}

function tellTimes(root) {
  for (const told of root.querySelectorAll("time")) {
    const at = new Date(told.dateTime);
    const text = ago((at - Date.now()) / 1000);
    if (told.textContent !== text) told.textContent = text;
    if (!told.title) told.title = exact.format(at);
  }
}

function say(state, text) {
  const lamp = document.getElementById("state");
  if (!lamp || lamp.dataset.state === state) return;
  lamp.dataset.state = state;
  document.getElementById("said").textContent = text;
}

function isSelecting(part) {
  const chosen = window.getSelection();
  return chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode);
}

function swap(fresh) {
  for (const part of document.querySelectorAll("[data-part]")) {
    const next = fresh.querySelector(`[data-part="${part.dataset.part}"]`);
    if (!next || next.innerHTML === part.dataset.html || isSelecting(part)) continue;
    const focused = part.contains(document.activeElement) ? document.activeElement : null;
    const key = focused && (focused.id || focused.getAttribute("href"));
    part.dataset.html = next.innerHTML;
    part.replaceChildren(...next.childNodes);
    tellTimes(part);
    if (key) {
      const found = [...part.querySelectorAll("[id], a")];
      const again = found.find((one) => one.id === key || one.getAttribute("href") === key);
      if (again) again.focus({ preventScroll: true });
    }
  }
  document.title = fresh.title;
}

async function look() {
  const headers = { "Reefleet-Live": "1" };
  if (tag) headers["If-None-Match"] = tag;
  const answer = await fetch(location.href, { headers, cache: "no-store", redirect: "manual" });
  if (answer.status === 401) {
    location.assign("/login");
    return;
  }
  if (answer.status !== 304) {
    if (!answer.ok) throw new Error(String(answer.status));
    swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    tag = answer.headers.get("ETag") || "";
  }
}

async function turn() {
  clearTimeout(timer);
  if (document.hidden) {
    say("paused", "Paused");
    return;
  }
  try {
    await look();
    failures = 0;
    say("live", "Live");
  } catch {
    failures += 1;
    if (failures > 1) say("lost", "No connection, trying again");
  }
  timer = setTimeout(turn, every * Math.min(8, 1 + failures));
}

for (const part of document.querySelectorAll("[data-part]")) part.dataset.html = part.innerHTML;
tellTimes(document);
setInterval(() => tellTimes(document), 1000);
if (every > 0) {
  document.addEventListener("visibilitychange", turn);
  turn();
}
