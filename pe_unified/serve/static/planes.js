// The three planes through a volume: which voxel an image pixel shows.
//
// A plane has an image of `width` x `height` pixels (u to the right, v down) at `index` along its
// axis. In coronal and sagittal images the head is up, so v counts slices from the last.

export function makePlanes(shape, spacing, towards) {
  const [slices, rows, cols] = shape;
  const [rowMm, colMm, sliceMm] = spacing;
  const [right, front, up] = towards;
  const against = { L: "R", R: "L", P: "A", A: "P", H: "F", F: "H", "?": "?" };
  return {
    axial: {
      name: "axial", axis: "slice", count: slices,
      width: cols, height: rows, uMm: colMm, vMm: rowMm,
      letters: [against[right], right, against[front], front],
      voxel: (u, v, index) => ({ slice: index, row: v, col: u }),
      pixel: (at) => [at.col, at.row],
    },
    coronal: {
      name: "coronal", axis: "row", count: rows,
      width: cols, height: slices, uMm: colMm, vMm: sliceMm,
      letters: [against[right], right, up, against[up]],
      voxel: (u, v, index) => ({ slice: slices - 1 - v, row: index, col: u }),
      pixel: (at) => [at.col, slices - 1 - at.slice],
    },
    sagittal: {
      name: "sagittal", axis: "col", count: cols,
      width: rows, height: slices, uMm: rowMm, vMm: sliceMm,
      letters: [against[front], front, up, against[up]],
      voxel: (u, v, index) => ({ slice: slices - 1 - v, row: u, col: index }),
      pixel: (at) => [at.row, slices - 1 - at.slice],
    },
  };
}

// Fill an image (Uint32Array) with the plane's voxels, through a table of greys.
export function fillPlane(out, volume, plane, index, table) {
  const { raw, size, cols, rows, slices } = volume;
  if (plane === "axial") {
    const start = index * size;
    for (let i = 0; i < size; i += 1) out[i] = table[raw[start + i]];
    return;
  }
  const [width, step, first] = plane === "coronal" ? [cols, 1, index * cols] : [rows, cols, index];
  for (let slice = 0; slice < slices; slice += 1) {
    let to = (slices - 1 - slice) * width;
    const end = to + width;
    if (!volume.has(slice)) {
      out.fill(0xff000000, to, end);
      continue;
    }
    for (let from = slice * size + first; to < end; to += 1, from += step) {
      out[to] = table[raw[from]];
    }
  }
}
