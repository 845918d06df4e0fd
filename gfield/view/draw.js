// Arrays as pixels, by the rules of gfield.pictures: fields in greys, depth in colours of one scale, holes hatched.

const EDGE_COLOUR = [255, 62, 150]; // of a field laid over something else: nothing in rooms or in the map is like it
const FAINTEST = 110; // an edge of one pixel is to be seen on whatever it lies on
export const SHIFT = 12;

// The value of every pattern of 16 bits as a half float; fields are never negative.
export const HALVES = (() => {
  const values = new Float32Array(1 << 15);
  for (let bits = 0; bits < values.length; bits++) {
    const exponent = bits >> 10;
    const fraction = (bits & 1023) / 1024;
    values[bits] = exponent === 0 ? fraction * 2 ** -14 : exponent === 31 ? NaN : (1 + fraction) * 2 ** (exponent - 15);
  }
  return values;
})();

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

function put(canvas, width, height, pixels) {
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), width, height), 0, 0);
}

export function clear(canvas) {
  canvas.getContext("2d").clearRect(0, 0, canvas.width, canvas.height);
}

export function drawRgb(canvas, rgb, width, height) {
  const pixels = new Uint32Array(width * height);
  for (let i = 0, at = 0; i < pixels.length; i++, at += 3) pixels[i] = packed(rgb[at], rgb[at + 1], rgb[at + 2]);
  put(canvas, width, height, pixels);
}

// Greys up to `white`; or, to be laid over something, one colour that is the more opaque the stronger the field.
export function drawField(canvas, bits, width, height, white, over = false) {
  const shades = new Uint32Array(1 << 15);
  for (let i = 0; i < shades.length; i++) {
    const grey = Math.round(Math.fround(Math.sqrt(Math.min(1, Math.fround(HALVES[i] / white)))) * 255);
    shades[i] = !over ? packed(grey, grey, grey) : grey ? packed(...EDGE_COLOUR, FAINTEST + grey * (1 - FAINTEST / 255)) : 0;
  }
  const pixels = new Uint32Array(width * height);
  for (let i = 0; i < pixels.length; i++) pixels[i] = shades[bits[i]];
  put(canvas, width, height, pixels);
}

export function isDepth(metres) {
  return metres > 0 && metres < Infinity;
}

// The same of a float's bits.
export function isDepthBits(bits) {
  return bits !== 0 && bits < 0x7f800000;
}

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
  const place = (metres) => Math.min(1, Math.max(0, Math.log(metres / near) / Math.log(far / near)));
  const { first, last, values } = byLeadingBits(near, far, (metres) => colours[Math.round(place(metres) * 255)]);
  for (let y = 0, i = 0; y < height; y++) {
    for (let x = 0; x < width; x++, i++) {
      if (scale && isDepthBits(bits[i])) {
        const at = bits[i] >>> SHIFT;
        pixels[i] = values[at < first ? 0 : at > last ? last - first : at - first];
      } else {
        pixels[i] = (x + y) % period < lineWidth ? linePixel : groundPixel;
      }
    }
  }
  put(canvas, width, height, pixels);
}
