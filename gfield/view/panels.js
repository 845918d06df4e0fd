// The pictures of one frame, side by side or one over the other, and what lies under the pointer.

import { HALVES, clear, drawDepth, drawField, drawRgb, isDepth } from "./draw.js";

const NAMES = ["rgb", "field", "depth"];
const panels = Object.fromEntries([...NAMES, "over"].map((name) => {
  const figure = document.getElementById(`${name}-panel`);
  const [canvas, upper] = figure.querySelectorAll("canvas");
  return [name, { figure, canvas, upper, stage: figure.querySelector(".stage"), told: figure.querySelector("output") }];
}));
const spoken = document.getElementById("spoken");
const planes = { rgb: null, field: null, depth: null };
const summaries = { rgb: "", field: "", depth: "", over: "" };
let size = { width: 4, height: 3 };
let pointer = null; // in pixels of the level
let overlay = null;

// A plane is { data, width, height } and what else its drawing needs, or { trouble } where it cannot be had.
export function setPlane(name, plane, summary) {
  planes[name] = plane;
  summaries[name] = summary;
  if (!overlay) draw(name, panels[name].canvas, false);
  else if (overlay.under === name || overlay.over === name) drawOverlay();
  say(name, plane?.trouble);
  tell();
}

export function setSize(width, height) {
  size = { width, height };
  for (const { stage } of Object.values(panels)) {
    stage.style.setProperty("--ratio", width / height);
    stage.style.aspectRatio = `${width} / ${height}`;
  }
  if (pointer) point(pointer.x, pointer.y);
}

// `over` is { under, over, mix } or null for side by side.
export function setOverlay(over, hasDepth) {
  overlay = over;
  for (const name of NAMES) panels[name].figure.hidden = Boolean(over) || (name === "depth" && !hasDepth);
  panels.over.figure.hidden = !over;
  document.getElementById("panels").dataset.count = over ? 1 : hasDepth ? 3 : 2;
  if (over) drawOverlay();
  else for (const name of NAMES) draw(name, panels[name].canvas, false);
  tell();
}

export function setMix(mix) {
  if (overlay) overlay.mix = mix;
  panels.over.upper.style.opacity = mix / 100;
}

function drawOverlay() {
  draw(overlay.under, panels.over.canvas, false);
  draw(overlay.over, panels.over.upper, overlay.over === "field");
  setMix(overlay.mix);
  say("over", planes[overlay.under]?.trouble ?? planes[overlay.over]?.trouble);
}

function draw(name, canvas, over) {
  const plane = planes[name];
  if (!plane?.data) return clear(canvas);
  const { data, width, height } = plane;
  // What is enlarged shows its pixels: no values between them are made up.
  canvas.classList.toggle("coarse", width < canvas.clientWidth);
  if (name === "rgb") drawRgb(canvas, data, width, height);
  else if (name === "field") drawField(canvas, data, width, height, plane.white, over);
  else drawDepth(canvas, data, width, height, plane.scale);
}

function say(name, trouble) {
  const { stage } = panels[name];
  stage.querySelector(".why")?.remove();
  if (!trouble) return;
  const why = Object.assign(document.createElement("p"), { className: "why", textContent: trouble });
  stage.append(why);
}

function point(x, y, aloud = false) {
  pointer = { x: Math.min(size.width - 1, Math.max(0, x)), y: Math.min(size.height - 1, Math.max(0, y)) };
  tell();
  if (aloud) spoken.textContent = `${pointer.x}, ${pointer.y}: ${everything()}`;
}

function unpoint() {
  pointer = null;
  tell();
}

function valueAt(name) {
  const plane = planes[name];
  if (!plane?.data || !pointer) return "";
  const x = Math.floor(((pointer.x + 0.5) * plane.width) / size.width);
  const y = Math.floor(((pointer.y + 0.5) * plane.height) / size.height);
  const at = y * plane.width + x;
  if (name === "rgb") return [...plane.data.subarray(3 * at, 3 * at + 3)].join(" ");
  if (name === "field") return HALVES[plane.data[at]].toFixed(1);
  return isDepth(plane.data[at]) ? `${plane.data[at].toFixed(3)} m` : "no depth";
}

function everything() {
  const parts = [`RGB ${valueAt("rgb")}`, `field ${valueAt("field")}`];
  if (planes.depth) parts.push(planes.depth.data && !isDepthText() ? "no depth" : `depth ${valueAt("depth")}`);
  return parts.join(" \u00b7 ");
}

function isDepthText() {
  return valueAt("depth") !== "no depth";
}

function tell() {
  for (const [name, { figure, stage, told }] of Object.entries(panels)) {
    figure.classList.toggle("pointed", Boolean(pointer));
    if (pointer) {
      stage.style.setProperty("--x", `${((pointer.x + 0.5) / size.width) * 100}%`);
      stage.style.setProperty("--y", `${((pointer.y + 0.5) / size.height) * 100}%`);
    }
    const where = pointer && (name === "rgb" || name === "over") ? `(${pointer.x}, ${pointer.y})\u2002` : "";
    told.textContent = where + (pointer ? (name === "over" ? everything() : valueAt(name)) : summaries[name]);
  }
}

const STEPS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

function onKey(event) {
  if (event.key === "Escape" && pointer) return unpoint();
  const step = STEPS[event.key];
  if (!step || event.ctrlKey || event.altKey || event.metaKey) return;
  event.preventDefault();
  event.stopPropagation();
  const far = event.shiftKey ? 10 : 1;
  const from = pointer ?? { x: size.width >> 1, y: size.height >> 1 };
  point(from.x + step[0] * far, from.y + step[1] * far, true);
}

for (const { stage } of Object.values(panels)) {
  const follow = (event) => {
    const box = stage.getBoundingClientRect();
    const [x, y] = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    point(Math.floor(x * size.width), Math.floor(y * size.height));
  };
  stage.addEventListener("pointermove", follow);
  stage.addEventListener("pointerdown", follow);
  stage.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && unpoint());
  stage.addEventListener("blur", unpoint);
  stage.addEventListener("keydown", onKey);
}
