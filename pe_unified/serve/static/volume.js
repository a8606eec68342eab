// The slices of a study as they arrive: those in view first, then outwards.

import { getBytes } from "./api.js";

const CHUNK = 8;
const AT_ONCE = 2;

export class Volume {
  // changed(index, count): slices have arrived; failed(error): they will not.
  constructor(key, shape, changed, failed) {
    [this.slices, this.rows, this.cols] = shape;
    this.size = this.rows * this.cols;
    // Read as unsigned: an index into a table of all 16-bit values.
    this.raw = new Uint16Array(this.slices * this.size);
    this.hu = new Int16Array(this.raw.buffer);
    this.loaded = new Uint8Array(this.slices);
    this.asked = new Uint8Array(this.slices);
    this.path = `/api/studies/${key}/slices`;
    this.changed = changed;
    this.failed = failed;
    this.running = 0;
    this.middle = 0;
    this.absent = this.broken = this.paused = false;
  }

  get missing() {
    return this.loaded.reduce((left, has) => left - has, this.slices);
  }

  has(slice) {
    return this.loaded[slice] === 1;
  }

  // The slice in view; the others are loaded outwards from it.
  want(slice) {
    if (this.absent) return;
    this.middle = slice;
    if (this.paused) {
      // The server did not answer, or asked to wait: the next look tries again.
      this.paused = this.broken = false;
    }
    if (!this.asked[slice]) this.fetch(slice, 1);
    this.go();
  }

  go() {
    while (this.running < AT_ONCE && !this.broken) {
      const first = this.nearest();
      if (first < 0) return;
      let count = 1;
      const down = first < this.middle ? -1 : 1;
      let at = first;
      while (count < CHUNK && this.isMissing(at + down)) {
        at += down;
        count += 1;
      }
      this.fetch(Math.min(first, at), count);
    }
  }

  isMissing(slice) {
    return slice >= 0 && slice < this.slices && !this.asked[slice];
  }

  nearest() {
    for (let away = 0; away < this.slices; away += 1) {
      if (this.isMissing(this.middle + away)) return this.middle + away;
      if (this.isMissing(this.middle - away)) return this.middle - away;
    }
    return -1;
  }

  async fetch(first, count) {
    this.asked.fill(1, first, first + count);
    this.running += 1;
    try {
      const bytes = await getBytes(`${this.path}/${first}/${count}`);
      this.hu.set(new Int16Array(bytes), first * this.size);
      this.loaded.fill(1, first, first + count);
      this.changed(first, count);
    } catch (error) {
      this.asked.fill(0, first, first + count);
      this.broken = true;
      this.paused = [0, 429].includes(error.status);
      this.failed(error);
    } finally {
      this.running -= 1;
    }
    this.go();
  }

  at(slice, row, col) {
    return this.hu[slice * this.size + row * this.cols + col];
  }
}

// RGBA of every 16-bit value through a window; level and width in HU.
export function greyTable(level, width) {
  const table = new Uint32Array(65536);
  const low = level - width / 2;
  for (let raw = 0; raw < 65536; raw += 1) {
    const hu = raw < 32768 ? raw : raw - 65536;
    const grey = Math.max(0, Math.min(255, Math.round(((hu - low) / width) * 255)));
    table[raw] = 0xff000000 | (grey << 16) | (grey << 8) | grey;
  }
  return table;
}
