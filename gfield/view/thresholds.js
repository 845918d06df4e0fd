// Canny's thresholds: sliders, what they come to, and the command that applies them to the whole store.

import { askJson, latest } from "./ask.js";

const byId = (id) => document.getElementById(id);
const numbers = { low: byId("low"), high: byId("high") };
const slides = { low: byId("low-slide"), high: byId("high-slide") };
const boxes = { auto: byId("auto"), l2: byId("l2") };
let own = null;
let values = null;
let onChange = () => {};
let onTrouble = () => {};

export function begin(operator, most, callbacks) {
  ({ onChange, onTrouble } = callbacks);
  own = { low: operator.low, high: operator.high, auto: operator.auto, l2: operator.l2_gradient };
  byId("auto-label").hidden = operator.variant === "grmc";
  const reach = own.high > 800 ? most : 800;
  for (const slide of Object.values(slides)) slide.max = reach;
  for (const number of Object.values(numbers)) number.max = most;
  const kept = own.auto ? "auto" : `${own.low}, ${own.high}`;
  byId("reset").textContent = `Reset to the store's (${kept}${own.l2 ? ", L2" : ""})`;
  set({ ...own });
}

// The query of a field by these thresholds; nothing where they are the store's own.
export function asked() {
  return isOwn() ? {} : query();
}

export function isOwn() {
  return Object.keys(own).every((name) => own[name] === values[name]);
}

// What `auto` found for the frame that is shown.
export function found(low, high) {
  if (!values.auto || low === null) return;
  show({ low, high });
}

function query() {
  const { low, high, auto, l2 } = values;
  return { low, high, auto: Number(auto), l2: Number(l2) };
}

function set(next) {
  values = next;
  boxes.auto.checked = values.auto;
  boxes.l2.checked = values.l2;
  for (const name of ["low", "high"]) numbers[name].disabled = slides[name].disabled = values.auto;
  show(values);
  byId("reset").disabled = isOwn();
}

function show({ low, high }) {
  [numbers.low.value, numbers.high.value] = [low, high];
  [slides.low.value, slides.high.value] = [low, high];
}

function change(name, value) {
  if (!Number.isInteger(value) || value < 0 || value > Number(numbers[name].max)) return;
  const next = { ...values, [name]: value };
  // One pushes the other along.
  if (next.low > next.high) next[name === "low" ? "high" : "low"] = value;
  set(next);
  onChange();
}

// The command, asked for once the field is on the screen.
let ordered = "";
export const order = latest(async () => {
  const by = JSON.stringify(query());
  if (by === ordered) return;
  try {
    const { text, note, same } = await askJson("command", query());
    ordered = by;
    byId("command").replaceChildren(...words(text));
    byId("note").textContent = same ? "The store's fields were made with these." : note;
  } catch (error) {
    onTrouble(error);
  }
});

// A line may end between options and behind a slash, and not inside an option.
function words(text) {
  return text.split(/( --[\w-]+(?: [^-\s]\S{0,24}(?!\S))?)/).flatMap((part, i) => {
    if (i % 2) return Object.assign(document.createElement("span"), { textContent: part });
    return part.split(/(?<=\/)/).flatMap((piece) => [piece, document.createElement("wbr")]);
  });
}

for (const name of ["low", "high"]) {
  slides[name].addEventListener("input", () => change(name, slides[name].valueAsNumber));
  numbers[name].addEventListener("input", () => change(name, numbers[name].valueAsNumber));
  numbers[name].addEventListener("change", () => show(values));
}
boxes.auto.addEventListener("change", () => {
  const { low, high } = own.auto ? { low: 50, high: 200 } : own;
  set({ ...values, ...(boxes.auto.checked ? {} : { low, high }), auto: boxes.auto.checked });
  onChange();
});
boxes.l2.addEventListener("change", () => {
  set({ ...values, l2: boxes.l2.checked });
  onChange();
});
byId("reset").addEventListener("click", () => {
  set({ ...own });
  onChange();
});
byId("copy").addEventListener("click", async () => {
  const command = byId("command");
  try {
    await navigator.clipboard.writeText(command.textContent);
    byId("copy").textContent = "Copied";
    setTimeout(() => (byId("copy").textContent = "Copy command"), 1500);
  } catch {
    getSelection().selectAllChildren(command); // for the reader's own copying
  }
});
