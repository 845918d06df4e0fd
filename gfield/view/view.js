// The page of `gfield view`: what is shown, of which frame, and how its parts hear of each other.

import { ask, askArray, askJson, latest, pageOf } from "./ask.js";
import { countDepth, countField, depthChart, fieldChart } from "./charts.js";
import { useColours } from "./draw.js";
import * as frames from "./frames.js";
import { setMix, setOverlay, setPlane, setSize } from "./panels.js";
import * as thresholds from "./thresholds.js";

const byId = (id) => document.getElementById(id);
const percent = (share) => `${(100 * share).toFixed(share < 0.0995 ? 1 : 0)} %`;
const main = byId("frame");
let store = null;
let level = null;
let sample = null;
let depth = null; // of the frame that is shown: counts, range, array
let field = null; // likewise: counts, share, level
let naming = 0;
let sampled = ""; // the level of which a sample has been asked for
let drawn = ""; // which frame, level and array of depth

function trouble(error) {
  byId("trouble").hidden = false;
  byId("trouble").firstElementChild.textContent = error.message ?? String(error);
  document.body.classList.toggle("stale", Boolean(error.gone));
  main.setAttribute("aria-busy", "false");
}

// One array for its panel. What is damaged is told there; what concerns the whole store, above.
async function plane(name, query, made) {
  try {
    const array = await askArray(name, query);
    return () => made(array);
  } catch (error) {
    if (error.gone) throw error;
    return () => lack(name, error.message);
  }
}

function lack(name, line) {
  if (name === "field") field = null;
  if (name === "depth") depth = null;
  byId(`${name}-chart`)?.replaceChildren();
  setPlane(name, { trouble: line }, "");
}

// Whatever has changed, one at a time: the frame with all its arrays, or its field alone where only thresholds have.
const show = latest(async () => {
  const frame = frames.current();
  const at = level;
  if (!frame || frame.reason) {
    drawn = "";
    head(frame);
    return finish(frame, at, {});
  }
  const asked = thresholds.asked();
  const array = byId("depths").value;
  const query = { row: frame.row, level: at };
  const wanted = [plane("field", { ...query, ...asked }, (answer) => showField(answer, at))];
  const whole = [frame.row, at, array].join(" ");
  if (whole !== drawn) {
    main.setAttribute("aria-busy", "true");
    wanted.push(plane("rgb", query, (answer) => showRgb(answer, at)));
    if (array) wanted.push(plane("depth", { ...query, array }, (answer) => showDepth(answer, at, array)));
  }
  try {
    const ready = await Promise.all(wanted);
    if (whole !== drawn) {
      // All at once, so that no picture ever stands below another frame's name.
      head(frame);
      setSize(store.levels[at].width, store.levels[at].height);
      drawn = whole;
    }
    for (const draw of ready) draw();
    byId("trouble").hidden = true;
    document.body.classList.remove("stale");
    finish(frame, at, asked);
  } catch (error) {
    trouble(error);
  }
});

function showRgb({ bytes }, at) {
  const { width, height } = store.levels[at];
  setPlane("rgb", { data: new Uint8Array(bytes), width, height }, `${width} \u00d7 ${height}`);
}

function showField({ bytes, told }, at) {
  const { width, height } = store.levels[at];
  const data = new Uint16Array(bytes);
  field = { ...countField(data, store.field_bins), level: at };
  setPlane("field", { data, width, height, white: told("Gfield-White") }, `${percent(field.share)} on edges`);
  thresholds.found(told("Gfield-Low"), told("Gfield-High"));
  tellField();
}

function tellField() {
  const ground = sample?.level === field.level ? sample : null;
  const ofStore = ground ? `; ${percent(ground.edges)} of the store's, by its own thresholds` : "";
  byId("effect").textContent = `${percent(field.share)} of this frame's pixels are on edges${ofStore}.`;
  fieldChart(byId("field-chart"), field.counts, ground?.field_counts, store.field_bins);
}

function showDepth({ bytes, told }, at, array) {
  const [height, width] = store.levels[at].depths[array];
  const near = told("Gfield-Near");
  depth = { data: new Float32Array(bytes), width, height, own: near === null ? null : { near, far: told("Gfield-Far") } };
  depth.facts = countDepth(depth.data, store.depth_bins);
  drawDepthBy();
}

function drawDepthBy() {
  if (!depth) return;
  const ofStore = byId("scale").value === "store" && sample?.near;
  const scale = ofStore ? { near: sample.near, far: sample.far } : depth.own;
  const { least, most, holes } = depth.facts;
  const range = depth.own ? `${least.toFixed(2)} to ${most.toFixed(2)} m` : "none";
  setPlane("depth", { ...depth, scale }, range + (holes ? `, ${percent(holes)} without` : ""));
  if (scale) depthChart(byId("depth-chart"), depth.facts, sample?.depth_counts, scale, store.depth_bins);
  else byId("depth-chart").replaceChildren();
}

function head(frame) {
  byId("frame-name").textContent = frame?.name ?? "No such frame";
  byId("frame-split").textContent = frame?.split ?? "";
  byId("frame-split").dataset.split = frame?.split ?? "";
  byId("frame-scene").textContent = frame ? [frame.scene, `row ${frame.row}`].filter(Boolean).join(" \u00b7 ") : "";
  const without = !frame || frame.reason;
  byId("reason").hidden = !frame?.reason;
  byId("reason").textContent = frame?.reason ? `Left empty by the build: ${frame.reason}` : "";
  for (const id of ["panels", "cards"]) byId(id).hidden = Boolean(without);
  clearTimeout(naming);
  // Not for each frame that a held key passes: browsers allow only so many.
  if (frame) naming = setTimeout(() => history.replaceState(null, "", place(frame)), 200);
}

function place(frame) {
  return `#${new URLSearchParams({ row: frame.row, level, layout: layout() })}`;
}

// What tests and benchmarks wait for: that this is on the screen.
function finish(frame, at, asked) {
  main.setAttribute("aria-busy", "false");
  main.dataset.shown = [frame?.row ?? "none", at, Object.values(asked).join("-")].join(" ");
  thresholds.order();
  if (sampled !== level) askSample();
}

// A sample of the store at the level that is shown, as a ground for its charts.
const askSample = latest(async () => {
  sampled = level;
  try {
    sample = { level, ...(await askJson("sample", { level })) };
  } catch (error) {
    if (error.gone) trouble(error);
    else byId("field-key").textContent = `Of the store as a whole nothing is shown: ${error.message}`;
    return;
  }
  byId("field-key").textContent = `Bars: this frame. Line: ${sample.frames} frames over the store. Heights by square root.`;
  byId("depth-key").textContent = sample.holes ? `${percent(sample.holes)} of the store's pixels have no depth.` : "";
  if (field) tellField();
  drawDepthBy();
});

const layout = () => document.querySelector("input[name=layout]:checked").value;

function arrange() {
  const over = layout() === "over";
  byId("mixing").hidden = !over;
  const [under, upper] = [byId("under"), byId("over")];
  for (const option of upper.options) option.disabled = option.value === under.value;
  if (upper.value === under.value) upper.value = "field";
  byId("mix-value").value = `${byId("mix").value} %`;
  setOverlay(over ? { under: under.value, over: upper.value, mix: byId("mix").valueAsNumber } : null, hasDepth());
}

const hasDepth = () => Object.keys(store.levels[level].depths).length > 0;

function choices(fieldset, name, values, chosen) {
  for (const value of values) {
    const label = document.createElement("label");
    const radio = Object.assign(document.createElement("input"), { type: "radio", name, value, checked: value === chosen });
    label.append(radio, Object.assign(document.createElement("span"), { textContent: value.replace("x", " \u00d7 ") }));
    fieldset.append(label);
  }
}

function setUp(wanted) {
  document.title = `${store.name} \u2013 gfield view`;
  byId("store").textContent = store.name;
  const { operator, frames: count } = store;
  const by = operator.auto ? "auto thresholds" : `thresholds ${operator.low} and ${operator.high}`;
  byId("facts").textContent = [
    store.title, `${count.toLocaleString("en")} frames`, `field ${operator.variant}, ${by}${operator.l2_gradient ? ", L2" : ""}`,
    `codec ${store.codec}`,
  ].join(" \u00b7 ");
  const names = Object.keys(store.levels);
  level = names.includes(wanted.get("level")) ? wanted.get("level") : names[0];
  choices(byId("levels"), "level", names, level);
  if (wanted.get("layout") === "over") document.querySelector("input[name=layout][value=over]").checked = true;
  const depths = Object.keys(store.levels[level].depths);
  const called = { depth: "depth", raw_depth: "raw depth", depth_native: "the sensor's own grid" };
  byId("depths").replaceChildren(...depths.map((name) => new Option(called[name], name)));
  byId("depths-label").hidden = depths.length < 2;
  byId("depth-card").hidden = depths.length === 0;
  if (!depths.length) for (const id of ["under", "over"]) byId(id).querySelector("[value=depth]").remove();
  useColours(store.depth_colours, store.hatch);
  arrange();
}

function listen() {
  byId("levels").addEventListener("change", (event) => {
    level = event.target.value;
    show();
  });
  byId("layouts").addEventListener("change", () => {
    arrange();
    head(frames.current());
  });
  for (const id of ["under", "over"]) byId(id).addEventListener("change", arrange);
  byId("mix").addEventListener("input", () => {
    byId("mix-value").value = `${byId("mix").value} %`;
    setMix(byId("mix").valueAsNumber);
  });
  byId("depths").addEventListener("change", show);
  byId("scale").addEventListener("change", drawDepthBy);
  document.addEventListener("keydown", (event) => {
    if (event.target.matches("input, select, pre, .stage") || event.ctrlKey || event.altKey || event.metaKey) return;
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by) return;
    event.preventDefault();
    frames.step(by);
  });
  addEventListener("focus", () => ask("still").catch(trouble));
}

byId("reload").addEventListener("click", () => location.reload());
try {
  const wanted = new URLSearchParams(location.hash.slice(1));
  const row = Number(wanted.get("row"));
  store = await askJson("store"); // is on its way already, see page.html
  pageOf(store.root);
  setUp(wanted);
  listen();
  thresholds.begin(store.operator, store.most_threshold, { onChange: show, onTrouble: trouble });
  frames.begin(store, row, { onFrame: show, onTrouble: trouble });
} catch (error) {
  trouble(error);
}
