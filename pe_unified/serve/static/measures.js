// Distances in mm and mean HU: drawing and values.

const INK = "#ffe066";

// A measure: {kind: "ruler" | "region", plane, index, from: [u, v], to: [u, v]}, in pixels.
export function lengthOf(measure, plane) {
  const [du, dv] = [measure.to[0] - measure.from[0], measure.to[1] - measure.from[1]];
  return Math.hypot(du * plane.uMm, dv * plane.vMm);
}

// Mean, deviation, extremes and area of the HU in the ellipse between two corners.
export function regionOf(measure, plane, volume) {
  const [u0, u1] = [measure.from[0], measure.to[0]].sort((a, b) => a - b);
  const [v0, v1] = [measure.from[1], measure.to[1]].sort((a, b) => a - b);
  const [cu, cv, ru, rv] = [(u0 + u1) / 2, (v0 + v1) / 2, (u1 - u0) / 2, (v1 - v0) / 2];
  let [count, sum, squares, low, high] = [0, 0, 0, Infinity, -Infinity];
  for (let v = Math.max(0, Math.floor(v0)); v < Math.min(plane.height, Math.ceil(v1)); v += 1) {
    for (let u = Math.max(0, Math.floor(u0)); u < Math.min(plane.width, Math.ceil(u1)); u += 1) {
      if (((u + 0.5 - cu) / ru) ** 2 + ((v + 0.5 - cv) / rv) ** 2 > 1) continue;
      const at = plane.voxel(u, v, measure.index);
      if (!volume.has(at.slice)) continue;
      const hu = volume.at(at.slice, at.row, at.col);
      count += 1;
      sum += hu;
      squares += hu * hu;
      low = Math.min(low, hu);
      high = Math.max(high, hu);
    }
  }
  if (!count) return null;
  const mean = sum / count;
  const deviation = Math.sqrt(Math.max(0, squares / count - mean * mean));
  return { count, mean, deviation, low, high, area: count * plane.uMm * plane.vMm };
}

export function drawMeasure(ctx, measure, view, volume) {
  const [x0, y0] = view.toScreen(...measure.from);
  const [x1, y1] = view.toScreen(...measure.to);
  ctx.strokeStyle = INK;
  ctx.lineWidth = 1.5;
  ctx.setLineDash([]);
  ctx.beginPath();
  let lines;
  if (measure.kind === "ruler") {
    ctx.moveTo(x0, y0);
    ctx.lineTo(x1, y1);
    for (const [x, y] of [[x0, y0], [x1, y1]]) ctx.rect(x - 2, y - 2, 4, 4);
    lines = [`${lengthOf(measure, view.plane).toFixed(1)} mm`];
  } else {
    ctx.ellipse((x0 + x1) / 2, (y0 + y1) / 2, Math.abs(x1 - x0) / 2, Math.abs(y1 - y0) / 2, 0, 0, 7);
    const found = regionOf(measure, view.plane, volume);
    lines = found
      ? [
          `${found.mean.toFixed(0)} ± ${found.deviation.toFixed(0)} HU`,
          `${found.low} to ${found.high}, ${found.area.toFixed(1)} mm²`,
        ]
      : [];
  }
  ctx.stroke();
  lines.forEach((line, number) => {
    const [x, y] = [Math.max(x0, x1) + 6, Math.max(y0, y1) + 14 + 15 * number];
    written(ctx, line, x, y, INK);
  });
}

// Text that is readable on any grey.
export function written(ctx, text, x, y, colour) {
  ctx.lineWidth = 3;
  ctx.lineJoin = "round";
  ctx.strokeStyle = "rgba(0, 0, 0, 0.85)";
  ctx.strokeText(text, x, y);
  ctx.fillStyle = colour;
  ctx.fillText(text, x, y);
}
