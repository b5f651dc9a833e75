// The arithmetic of the player: moments, clock, curves, sizes. Nothing here touches the page.

export const SHORTEST = 4; // seconds that a replay takes at least at speed 1, and at most
export const LONGEST = 20;
const MARGIN = 5; // dB below which the axis of the curve does not reach without need
export const HIGHEST = 100; // dB from which values are drawn as one, in a band of their own above the axis
const BAND = 0.35; // share of the height that this band takes where there is one
const AS_LONG = 1.2; // factor up to which a replay counts as neither faster nor slower than the attack
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600];

// The place of the last moment that is not later than `t`, the first one before that.
export function frameAt(frames, t) {
  let low = 0, high = frames.length - 1;
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (frames[middle].t <= t + 1e-9) low = middle; else high = middle - 1;
  }
  return low;
}

// Attack seconds that pass in one second of the replay at speed 1.
export function rateOf(span) {
  return span > 0 ? span / Math.min(LONGEST, Math.max(SHORTEST, span)) : 1;
}

// How long the attack took, and its replay of `span` attack seconds where that is clearly another time.
export function scaleWords(seconds, span, rate, speed) {
  const factor = rate * speed, played = span / factor, attack = `${secondsText(seconds)} attack`;
  if (Math.abs(factor - 1) < 0.05) return `${attack} in real time`;
  if ([factor, seconds / played].some((times) => times <= AS_LONG && times >= 1 / AS_LONG)) return attack;
  return `${attack}, played in ${secondsText(played)}`;
}

export function secondsText(seconds) {
  return `${seconds < 99.95 ? seconds.toFixed(1) : seconds.toFixed(0)} s`;
}

export function decibels(value) {
  return `${value.toFixed(1)} dB`;
}

export function signed(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(1)} dB`;
}

// Empty where an attack has diverged, so that its residual is no number.
export function notMatched(residual) {
  return residual == null ? "" : `${percent(residual)} not matched`;
}

export function percent(share) {
  const value = 100 * share;
  if (value > 100) return "over 100%";
  return `${value >= 9.95 ? value.toFixed(0) : value >= 0.05 ? value.toFixed(1) : "under 0.1"}%`;
}

// Quality over attack seconds: mean PSNR where every moment has one, else -log10 of the residual, where it is a number.
export function curveOf(frames) {
  const scored = frames.every((frame) => frame.mean != null);
  return frames.filter((frame) => scored || frame.residual != null).map((frame) => [frame.t, scored ? frame.mean : -Math.log10(Math.max(frame.residual, 1e-12))]);
}

// The range of the quality axis that holds every curve and the baseline, and its ticks. Exact copies have up to 120 dB:
// values from `HIGHEST` on stand in a band above it, so that they leave the others room (`banded`).
export function axisOf(curves, baseline, scored) {
  const values = curves.flatMap((points) => points.map((point) => point[1]));
  if (baseline != null) values.push(baseline);
  if (!scored) return { ...span(0, Math.max(2, Math.ceil(Math.max(...values, 0))), 3), banded: false };
  const measured = values.filter((value) => value < HIGHEST), banded = measured.length < values.length;
  const low = Math.min(...measured, 10), high = Math.max(...measured, 25);
  return { ...span(Math.floor((low - 1) / MARGIN) * MARGIN, Math.ceil((high + 1) / MARGIN) * MARGIN, banded ? 2 : 3), banded };
}

// How high a value stands, as a share of the height of the axis.
export function shareOf({ low, high, banded }, value) {
  if (banded && value >= HIGHEST) return 1;
  return (banded ? 1 - BAND : 1) * Math.min(1, Math.max(0, (value - low) / (high - low)));
}

function span(low, high, most) {
  const step = [1, 2, 5, 10, 20, 30, 50].find((size) => (high - low) / size <= most) ?? 100;
  const ticks = [];
  for (let tick = Math.ceil(low / step) * step; tick <= high; tick += step) if (tick > low) ticks.push(tick);
  return { low, high, ticks };
}

// The end of the time axis of a run that goes on: it moves rarely, in steps, so that the curve does not shrink always.
export function roundedUp(seconds) {
  return STEPS.find((step) => seconds <= step) ?? seconds * 1.2;
}

export function stageAt(stages, t) {
  return stages.findLast((stage) => stage.t <= t + 1e-9);
}

// The room that grids of pictures take, null for what is none: that of the smallest for all grids of as many pictures, so
// that they have the same rows and columns, in one size.
export function opposite(rooms) {
  return rooms.map((room) => {
    const alike = rooms.filter((other) => other && other.count === room?.count);
    return room && { ...room, width: Math.min(...alike.map((one) => one.width)), height: Math.min(...alike.map((one) => one.height)) };
  });
}

// Columns and side in pixels of the largest square pictures that fit; `caption` is the height below each.
export function fit(count, width, height, gap, caption) {
  let best = { columns: 1, side: 0 };
  for (let columns = 1; columns <= count; columns++) {
    const rows = Math.ceil(count / columns);
    const side = Math.min((width - (columns - 1) * gap) / columns, (height - (rows - 1) * gap) / rows - caption);
    if (side > best.side + 0.5) best = { columns, side };
  }
  return { columns: best.columns, side: Math.max(16, Math.floor(best.side)) };
}

// The same where height is free: rows of about the same number of pictures, none larger than `largest`.
export function fitWidth(count, width, gap, columns, largest) {
  const used = Math.max(1, Math.min(count, columns));
  return { columns: used, side: Math.floor(Math.min(largest, (width - (used - 1) * gap) / used)) };
}

// Places that share a label: one list for each label that occurs more than once.
export function repeated(labels) {
  const places = new Map();
  labels.forEach((label, place) => places.set(label, [...(places.get(label) ?? []), place]));
  return [...places.values()].filter((list) => list.length > 1);
}

export function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) sum += (a[i] - b[i]) ** 2;
  return Math.min(120, -10 * Math.log10(Math.max(sum / a.length, 1e-12)));
}

export function meanOf(vectors) {
  const mean = new Float32Array(vectors[0].length);
  for (const vector of vectors) for (let i = 0; i < mean.length; i++) mean[i] += vector[i] / vectors.length;
  return mean;
}

// Each vector moved the `share` of the way to the mean of those with its label.
export function blended(vectors, labels, share) {
  const out = [...vectors];
  for (const places of repeated(labels)) {
    const mean = meanOf(places.map((place) => vectors[place]));
    for (const place of places) out[place] = vectors[place].map((value, i) => value + share * (mean[i] - value));
  }
  return out;
}
