// Histograms of a frame, as bars, and of a sample of the store, as a line.

import { HALVES, INFINITE, SHIFT, byLeadingBits, colourAt } from "./draw.js";

const WIDTH = 360;
const TOP = 6;
const FLOOR = 96;
const LABELS = 124;
const MOST_BARS = 90;

export function countField(bits, [low, high, bins]) {
  const ofPattern = new Uint32Array(1 << 15);
  const count = bits.length;
  for (let i = 0; i < count; i++) ofPattern[bits[i]]++;
  const counts = new Array(bins).fill(0);
  for (let i = 1; i < ofPattern.length; i++) {
    if (ofPattern[i]) counts[Math.min(bins - 1, Math.floor(((HALVES[i] - low) / (high - low)) * bins))] += ofPattern[i];
  }
  return { counts, share: 1 - ofPattern[0] / count };
}

let table = null;

function depthBins([near, far, bins]) {
  const perBin = bins / Math.log(far / near);
  return byLeadingBits(near, far, (metres) => Math.min(bins - 1, Math.max(0, Math.floor(Math.log(metres / near) * perBin))));
}

export function countDepth(depth, among) {
  table ??= depthBins(among); // the same for all frames
  const { first, last, values } = table;
  const bits = new Uint32Array(depth.buffer);
  const counts = new Uint32Array(among[2]);
  let [holes, least, most] = [0, 0xffffffff, 0]; // of floats that are not negative, bits are in the floats' order
  const count = bits.length;
  for (let i = 0; i < count; i++) {
    const seen = bits[i];
    if (seen === 0 || seen >= INFINITE) {
      holes++;
      continue;
    }
    if (seen < least) least = seen;
    if (seen > most) most = seen;
    const at = seen >>> SHIFT;
    counts[values[at < first ? 0 : at > last ? last - first : at - first]]++;
  }
  const [nearest, farthest] = new Float32Array(Uint32Array.of(least, most).buffer);
  return { counts: Array.from(counts), holes: holes / depth.length, least: nearest, most: farthest };
}

export function fieldChart(svg, counts, stored, [, top]) {
  const step = top > 500 ? 200 : 50;
  const ticks = [];
  for (let value = 0; value <= top; value += step) ticks.push([value / top, String(value)]);
  draw(svg, counts, stored, ticks, null);
}

// From the nearest to the farthest depth of the frame and of the colours; what the store has beyond is left out.
export function depthChart(svg, facts, stored, scale, [near, far, bins]) {
  const place = (metres) => (Math.log(metres / near) / Math.log(far / near)) * bins;
  const first = Math.max(0, Math.floor(place(Math.min(scale.near, facts.least))));
  const last = Math.min(bins, Math.max(first + 8, Math.ceil(place(Math.max(scale.far, facts.most)))));
  const among = (metres) => (place(metres) - first) / (last - first);
  const metresAt = (bin) => near * (far / near) ** (bin / bins);
  const ticks = roundMetres(metresAt(first), metresAt(last)).map((metres) => [among(metres), `${metres} m`]);
  const colour = (at) => {
    const metres = metresAt(first + at * (last - first));
    return colourAt(Math.min(1, Math.max(0, Math.log(metres / scale.near) / Math.log(scale.far / scale.near))));
  };
  draw(svg, facts.counts.slice(first, last), stored?.slice(first, last), ticks, colour);
}

export function roundMetres(near, far) {
  for (const series of [[1, 2, 5], [1, 2, 3, 4, 5, 6, 7, 8, 9], Array.from({ length: 90 }, (_, i) => 1 + i / 10)]) {
    const found = [];
    for (let decade = -2; decade < 4; decade++) {
      for (const step of series) found.push(Number((step * 10 ** decade).toPrecision(3)));
    }
    const inside = found.filter((metres) => metres >= near && metres <= far);
    if (inside.length >= 3 || (inside.length >= 2 && series.length > 3)) return thinned(inside, near, far);
  }
  return [];
}

function thinned(metres, near, far) {
  let last = -1;
  return metres.filter((one) => {
    const place = Math.log(one / near) / Math.log(far / near);
    if (place - last < 0.11) return false;
    last = place;
    return true;
  });
}

function merged(counts) {
  const width = Math.ceil(counts.length / MOST_BARS);
  const found = [];
  for (let i = 0; i < counts.length; i += width) {
    const some = counts.slice(i, i + width);
    found.push(some.reduce((sum, one) => sum + one, 0) / some.length);
  }
  return found;
}

function shares(counts) {
  const all = counts.reduce((sum, one) => sum + one, 0) || 1;
  return merged(counts).map((one) => Math.sqrt(one / all));
}

function draw(svg, counts, stored, ticks, colour) {
  const bars = shares(counts);
  const line = stored ? shares(stored) : [];
  const most = Math.max(...bars, ...line) || 1;
  const x = (place) => place * WIDTH;
  const y = (share) => FLOOR - (share / most) * (FLOOR - TOP);
  const parts = bars.map((share, i) => {
    const bar = node("rect", { x: x(i / bars.length), width: WIDTH / bars.length - 0.6, y: y(share), height: FLOOR - y(share) });
    if (colour) bar.setAttribute("fill", colour((i + 0.5) / bars.length));
    return bar;
  });
  if (line.length) {
    const d = line.map((share, i) => `${i ? "" : `M0 ${y(share)}`}V${y(share)}H${x((i + 1) / line.length)}`).join("");
    parts.push(node("path", { class: "line", d }));
  }
  parts.push(node("path", { class: "floor", d: `M0 ${FLOOR}H${WIDTH}` }));
  if (colour) {
    for (let i = 0; i < 90; i++) {
      parts.push(node("rect", { x: (i * WIDTH) / 90, width: WIDTH / 90 + 0.4, y: FLOOR + 3, height: 7, fill: colour((i + 0.5) / 90) }));
    }
  }
  for (const [place, text] of ticks) {
    const anchor = place < 0.04 ? "start" : place > 0.96 ? "end" : "middle";
    parts.push(node("path", { class: "floor", d: `M${x(place)} ${FLOOR}v12` }));
    parts.push(Object.assign(node("text", { x: x(place), y: LABELS, "text-anchor": anchor }), { textContent: text }));
  }
  svg.replaceChildren(...parts);
}

function node(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}
