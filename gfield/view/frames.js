// Which frames there are, by split, scene and name, a page of them at a time; and which one is shown.

import { address, askJson } from "./ask.js";

const byId = (id) => document.getElementById(id);
const list = byId("list");
const filters = { split: byId("split"), scene: byId("scene"), name: byId("name") };
const TYPING_MS = 150;
const ENDING = 10;
let page = { total: 0, first: 0, page: 48, frames: [] };
let place = 0;
let onFrame = () => {};
let onTrouble = () => {};
let turns = 0;

export function current() {
  return page.frames[place - page.first] ?? null;
}

export function begin(store, row, callbacks) {
  ({ onFrame, onTrouble } = callbacks);
  for (const [split, count] of Object.entries(store.splits)) {
    filters.split.add(new Option(`${split} (${count.toLocaleString("en")})`, split));
  }
  filters.scene.placeholder = store.scenes ? `any of ${store.scenes.toLocaleString("en")}` : "none known";
  filters.scene.disabled = !store.scenes;
  const here = store.first_page.frames.some((frame) => frame.row === row);
  if (row && !here) fetchPage({ row });
  else turn({ ...store.first_page, place: here ? row : 0 });
}

export const step = (by) => go(place + by);

export async function go(to) {
  const wanted = Math.min(page.total - 1, Math.max(0, to));
  if (wanted === place || page.total === 0) return;
  if (wanted >= page.first && wanted < page.first + page.frames.length) {
    place = wanted;
    mark();
    onFrame(current());
  } else {
    await fetchPage({ place: wanted });
  }
}

async function fetchPage(which) {
  const mine = ++turns;
  const choice = Object.fromEntries(Object.entries(filters).map(([name, field]) => [name, field.value.trim()]));
  try {
    const found = await askJson("frames", { ...choice, ...which });
    if (mine === turns) await turn(found);
  } catch (error) {
    onTrouble(error);
  }
}

async function turn(to) {
  page = to;
  place = page.place;
  await onFrame(current()); // the frame first, then the list
  if (page !== to) return;
  fill();
  mark();
}

function mark() {
  const { total } = page;
  for (const item of list.children) {
    const now = Number(item.dataset.place) === place;
    if (!now) item.firstChild.removeAttribute("aria-current");
    else {
      item.firstChild.setAttribute("aria-current", "true");
      intoSight(item);
    }
  }
  byId("scrub").max = Math.max(0, total - 1);
  byId("scrub").value = place;
  byId("scrub").disabled = total < 2;
  byId("back").disabled = place <= 0;
  byId("on").disabled = place >= total - 1;
  byId("place").textContent = total ? `${(place + 1).toLocaleString("en")} of ${total.toLocaleString("en")}` : "";
}

// Scrolls the list alone: the page stays where it is.
function intoSight(item) {
  const [box, room] = [item.getBoundingClientRect(), list.getBoundingClientRect()];
  if (box.top < room.top) list.scrollTop -= room.top - box.top;
  if (box.bottom > room.bottom) list.scrollTop += box.bottom - room.bottom;
  if (box.left < room.left) list.scrollLeft -= room.left - box.left + 16;
  if (box.right > room.right) list.scrollLeft += box.right - room.right + 16;
}

function fill() {
  const { total, first, frames } = page;
  byId("found").textContent = total === 1 ? "1 frame" : `${total.toLocaleString("en") || "No"} frames`;
  list.replaceChildren(...frames.map((frame, i) => entry(frame, first + i)));
  list.scrollTop = 0;
  list.scrollLeft = 0;
  const last = first + frames.length;
  byId("page").textContent = total ? `${(first + 1).toLocaleString("en")}\u2013${last.toLocaleString("en")}` : "";
  byId("page-back").disabled = first === 0;
  byId("page-on").disabled = last >= total;
  byId("pager").hidden = total <= page.page;
}

function entry(frame, at) {
  const item = document.createElement("li");
  item.dataset.place = at;
  const button = Object.assign(document.createElement("button"), { type: "button" });
  const thumb = document.createElement(frame.reason ? "span" : "img");
  thumb.className = "thumb";
  if (!frame.reason) {
    Object.assign(thumb, { alt: "", loading: "lazy", decoding: "async", fetchPriority: "low" });
    thumb.src = address("thumb", { row: frame.row });
  }
  const name = Object.assign(document.createElement("span"), { className: "name" });
  // Names differ at their ends: where there is no room, the middle is left out.
  for (const part of [frame.name.slice(0, -ENDING), frame.name.slice(-ENDING)]) {
    name.append(Object.assign(document.createElement("span"), { textContent: part }));
  }
  const rest = Object.assign(document.createElement("small"), { textContent: [frame.split, frame.scene].filter(Boolean).join(" \u00b7 ") });
  button.append(thumb, name, rest);
  button.title = frame.name;
  button.addEventListener("click", () => go(at));
  item.append(button);
  return item;
}

async function offerScenes() {
  const { scenes } = await askJson("scenes", { split: filters.split.value, scene: filters.scene.value.trim() });
  byId("scenes").replaceChildren(...scenes.map(([scene, count]) => new Option(`${count} frames`, scene)));
}

let typing = 0;
function choose() {
  clearTimeout(typing);
  typing = setTimeout(() => fetchPage({ place: 0 }), TYPING_MS);
}

filters.split.addEventListener("change", choose);
filters.name.addEventListener("input", choose);
filters.scene.addEventListener("input", () => {
  choose();
  offerScenes().catch(onTrouble);
});
filters.scene.addEventListener("focus", () => offerScenes().catch(onTrouble));
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("page-back").addEventListener("click", () => go(page.first - page.page));
byId("page-on").addEventListener("click", () => go(page.first + page.page));
byId("back").addEventListener("click", () => step(-1));
byId("on").addEventListener("click", () => step(1));
byId("scrub").addEventListener("input", (event) => go(event.target.valueAsNumber));
