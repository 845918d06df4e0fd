// Arrays as pixels, by the rules of gfield.pictures: fields in greys, depth in colours of one scale, holes hatched.

const EDGE_COLOUR = [255, 62, 150]; // of a field laid over something else: nothing in rooms or in the map is like it
const FAINTEST = 110; // an edge of one pixel is to be seen on whatever it lies on
export const SHIFT = 12;

// The value of every pattern of 16 bits as a half float; fields are never negative.
export const HALVES = new Float32Array(1 << 15);
for (let bits = 0, step = 2 ** -24; bits < HALVES.length; bits++) {
  if (bits >= 2048 && bits % 1024 === 0) step *= 2; // 1024 values for each power of two; the first lie as the second
  HALVES[bits] = bits < 1024 ? bits * step : (1024 + (bits & 1023)) * step;
}
HALVES.fill(NaN, 31 << 10);

let colours = new Uint32Array(256);
let hatch = [0, 0, 8, 2];

export function useColours(hex, stripes) {
  colours = colours.map((_, i) => packed(...[0, 2, 4].map((at) => parseInt(hex.slice(6 * i + at, 6 * i + at + 2), 16))));
  hatch = stripes;
}

export function colourAt(place) {
  const [red, green, blue] = new Uint8Array(colours.buffer, 4 * Math.round(place * 255), 3);
  return `rgb(${red} ${green} ${blue})`;
}

function packed(red, green, blue, alpha = 255) {
  return ((alpha << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}

// Kept in memory: pixels are only ever put there.
const context = (canvas) => canvas.getContext("2d", { willReadFrequently: true });

function put(canvas, width, height, pixels) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  context(canvas).putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
}

export function clear(canvas) {
  context(canvas).clearRect(0, 0, canvas.width, canvas.height);
}

// The loops over pixels call nothing: a page's first frame is drawn before they are compiled.
export function drawRgb(canvas, rgb, width, height) {
  const pixels = new Uint32Array(width * height);
  const count = pixels.length;
  for (let i = 0, at = 0; i < count; i++, at += 3) {
    pixels[i] = 0xff000000 | (rgb[at + 2] << 16) | (rgb[at + 1] << 8) | rgb[at];
  }
  put(canvas, width, height, pixels);
}

// Greys up to `white`; or, to be laid over something, one colour that is the more opaque the stronger the field.
export function drawField(canvas, bits, width, height, white, over = false) {
  const tint = packed(...EDGE_COLOUR, 0);
  const shades = new Uint32Array(1 << 15).fill(over ? tint | 0xff000000 : 0xffffffff);
  for (let i = 0; i < shades.length && HALVES[i] < white; i++) {
    const grey = Math.round(Math.fround(Math.sqrt(Math.fround(HALVES[i] / white))) * 255);
    if (!over) shades[i] = 0xff000000 | (grey * 0x010101);
    else shades[i] = grey ? tint | ((FAINTEST + grey * (1 - FAINTEST / 255)) << 24) : 0;
  }
  const pixels = new Uint32Array(width * height);
  const count = pixels.length;
  for (let i = 0; i < count; i++) pixels[i] = shades[bits[i]];
  put(canvas, width, height, pixels);
}

export function isDepth(metres) {
  return metres > 0 && metres < Infinity;
}

export const INFINITE = 0x7f800000; // the bits of the least float that is no depth; those of 0 are 0

// What a function has for a depth, found by the depth's leading bits instead: those tell depths apart to 1 in 2048.
export function byLeadingBits(near, far, valueOf) {
  const word = new Uint32Array(1);
  const metres = new Float32Array(word.buffer);
  const key = (depth) => ((metres[0] = depth), word[0] >>> SHIFT);
  const [first, last] = [key(near), key(far)];
  const values = new Uint32Array(last - first + 1);
  for (let i = 0; i < values.length; i++) {
    word[0] = ((first + i) << SHIFT) | (1 << (SHIFT - 1)); // the middle of those that begin so
    values[i] = valueOf(metres[0]);
  }
  return { first, last, values };
}

export function drawDepth(canvas, depth, width, height, scale) {
  const [ground, line, period, lineWidth] = hatch;
  const [groundPixel, linePixel] = [packed(ground, ground, ground), packed(line, line, line)];
  const pixels = new Uint32Array(width * height);
  const bits = new Uint32Array(depth.buffer);
  const { near, far } = scale ?? { near: 1, far: 2 };
  const steps = 255 / Math.log(far / near);
  const { first, last, values } = byLeadingBits(near, far, (metres) => {
    const step = Math.round(Math.log(metres / near) * steps);
    return colours[step < 0 ? 0 : step > 255 ? 255 : step];
  });
  const end = scale ? INFINITE : 0;
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      const seen = bits[i];
      if (seen !== 0 && seen < end) {
        const at = seen >>> SHIFT;
        pixels[i] = values[at < first ? 0 : at > last ? last - first : at - first];
      } else {
        pixels[i] = (x + y) % period < lineWidth ? linePixel : groundPixel;
      }
    }
  }
  put(canvas, width, height, pixels);
}
