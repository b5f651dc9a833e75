// Pictures in the browser: decoded once, drawn on canvases pixel by pixel.

const TYPES = { iVBOR: "image/png", UklGR: "image/webp", "/9j/4": "image/jpeg" };

export async function decoded(text) {
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  return createImageBitmap(new Blob([bytes], { type: TYPES[text.slice(0, 5)] }));
}

// A strip is a row of square pictures.
export function countOf(strip) {
  return Math.max(1, Math.round(strip.width / strip.height));
}

export function drawPart(canvas, strip, place) {
  const width = strip.width / countOf(strip), height = strip.height;
  const context = sized(canvas, width, height);
  context.clearRect(0, 0, width, height);
  context.drawImage(strip, place * width, 0, width, height, 0, 0, width, height);
}

// Noise stands for a picture that nobody knows yet; drawn from one seed, it does not flicker.
export function drawNoise(canvas, seed) {
  const context = sized(canvas, 24, 24), image = context.createImageData(24, 24);
  let state = seed * 7919 + 17;
  for (let i = 0; i < image.data.length; i += 4) {
    state = (state * 1103515245 + 12345) % 2147483648;
    image.data.fill(128, i, i + 3);
    image.data[i + 3] = 18 + (state >> 16) % 44;
  }
  context.putImageData(image, 0, 0);
}

// The colours of one picture of a strip, 0 to 1, red, green and blue of each pixel.
export function colours(strip, place) {
  const width = strip.width / countOf(strip), height = strip.height;
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(strip, place * width, 0, width, height, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height), values = new Float32Array((data.length / 4) * 3);
  for (let from = 0, to = 0; from < data.length; from++) if (from % 4 < 3) values[to++] = data[from] / 255;
  return values;
}

export function drawColours(canvas, values, width, height) {
  const context = sized(canvas, width, height), image = context.createImageData(width, height);
  for (let from = 0, to = 0; to < image.data.length; to++) image.data[to] = to % 4 < 3 ? values[from++] * 255 : 255;
  context.putImageData(image, 0, 0);
}

// Setting a canvas's size clears it, which would flicker: only where it changes.
function sized(canvas, width, height) {
  if (canvas.width !== width || canvas.height !== height) {
    canvas.width = width;
    canvas.height = height;
  }
  return canvas.getContext("2d");
}
