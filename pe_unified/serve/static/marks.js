// Masks of lesions, slice by slice: converted from and to runs, painted, outlined.

export class Mask {
  constructor(rows, cols) {
    this.rows = rows;
    this.cols = cols;
    this.slices = new Map();
    this.outlines = new Map();
  }

  // From runs {slice: [start, length, value, ...]}: one mask per value.
  static ofRuns(runs, rows, cols) {
    const found = new Map();
    for (const [slice, told] of Object.entries(runs)) {
      for (let i = 0; i < told.length; i += 3) {
        const [start, length, value] = told.slice(i, i + 3);
        if (!found.has(value)) found.set(value, new Mask(rows, cols));
        found.get(value).plane(Number(slice)).fill(1, start, start + length);
      }
    }
    return found;
  }

  runs() {
    const found = {};
    for (const [slice, plane] of this.slices) {
      const told = [];
      for (let i = plane.indexOf(1); i >= 0; i = plane.indexOf(1, i)) {
        const end = plane.indexOf(0, i);
        const stop = end < 0 ? plane.length : end;
        told.push(i, stop - i, 1);
        i = stop;
        if (i >= plane.length) break;
      }
      if (told.length) found[slice] = told;
    }
    return found;
  }

  copy() {
    const copy = new Mask(this.rows, this.cols);
    for (const [slice, plane] of this.slices) copy.slices.set(slice, plane.slice());
    return copy;
  }

  plane(slice) {
    if (!this.slices.has(slice)) this.slices.set(slice, new Uint8Array(this.rows * this.cols));
    return this.slices.get(slice);
  }

  replace(slice, plane) {
    if (plane) this.slices.set(slice, plane);
    else this.slices.delete(slice);
    this.outlines.delete(slice);
  }

  // Paint (value 1) or erase (0) a disc; may(index) tells which pixels of the slice may change.
  disc(slice, u, v, radius, value, may = () => true) {
    if (!value && !this.slices.has(slice)) return;
    const plane = this.plane(slice);
    const [low, high] = [Math.max(0, Math.floor(v - radius)), Math.min(this.rows - 1, Math.ceil(v + radius))];
    const [left, right] = [Math.max(0, Math.floor(u - radius)), Math.min(this.cols - 1, Math.ceil(u + radius))];
    for (let row = low; row <= high; row += 1) {
      for (let col = left; col <= right; col += 1) {
        const away = Math.hypot(col + 0.5 - u, row + 0.5 - v);
        const index = row * this.cols + col;
        if ((away <= radius || away < 0.71 && radius < 1) && may(index)) plane[index] = value;
      }
    }
    this.outlines.delete(slice);
  }

  // The borders of its pixels on a slice, in image pixels; null if the slice has none.
  outline(slice) {
    const plane = this.slices.get(slice);
    if (!plane) return null;
    if (!this.outlines.has(slice)) this.outlines.set(slice, bordersOf(plane, this.cols));
    return this.outlines.get(slice);
  }

  // Colour the pixels of a plane's image (Uint32Array) that the mask covers.
  colour(out, plane, index, slices, rgba) {
    const { rows, cols } = this;
    if (plane === "axial") {
      const own = this.slices.get(index);
      if (own) for (let i = own.indexOf(1); i >= 0; i = own.indexOf(1, i + 1)) out[i] = rgba;
      return;
    }
    const [width, step, first] = plane === "coronal" ? [cols, 1, index * cols] : [rows, cols, index];
    for (const [slice, own] of this.slices) {
      const line = (slices - 1 - slice) * width;
      for (let u = 0; u < width; u += 1) if (own[first + u * step]) out[line + u] = rgba;
    }
  }
}

function bordersOf(plane, cols) {
  const path = new Path2D();
  const line = (x0, y0, x1, y1) => {
    path.moveTo(x0, y0);
    path.lineTo(x1, y1);
  };
  for (let i = plane.indexOf(1); i >= 0; i = plane.indexOf(1, i + 1)) {
    const col = i % cols;
    const row = (i - col) / cols;
    if (!plane[i - cols]) line(col, row, col + 1, row);
    if (!plane[i + cols]) line(col, row + 1, col + 1, row + 1);
    if (!col || !plane[i - 1]) line(col, row, col, row + 1);
    if (col === cols - 1 || !plane[i + 1]) line(col + 1, row, col + 1, row + 1);
  }
  return path;
}
