// Drawing a lesion's mask or box: a draft that can be undone, and is stored when it is saved.

import { Mask } from "./marks.js";

const MOST_UNDONE = 50;
// Range of HU that can be clot; the same rule as for the verdict.
const CLOT = [-50, 150];

export class Drawing {
  // changed(): called when the draft has changed.
  constructor(volume, changed) {
    Object.assign(this, { volume, changed });
    this.radius = 3;
    this.clotOnly = false;
    this.isLocked = false; // while it is saved
    this.clear();
  }

  get isOpen() {
    return this.target !== null;
  }

  get hasChanges() {
    const painted = () => this.strokes.some((each) => each.slice !== undefined);
    return this.isOpen && (this.isOld || painted() || this.box !== null);
  }

  // Start on a lesion, or on a new one with lesion = null.
  begin(lesion) {
    const before = lesion?.redrawn ?? lesion?.mask;
    this.target = lesion ?? "new";
    this.mask = before ? before.copy() : new Mask(this.volume.rows, this.volume.cols);
    this.strokes = [];
    this.isOld = false; // has strokes that can no longer be undone
    this.box = null;
    this.changed();
  }

  clear() {
    Object.assign(this, { target: null, mask: null, strokes: [], box: null, last: null });
  }

  drop() {
    this.clear();
    this.changed();
  }

  // The pointer goes down at (u, v) of a slice, to paint or to erase.
  press(slice, u, v, paints) {
    if (this.isLocked) return;
    const before = this.mask.slices.get(slice)?.slice() ?? null;
    this.remember({ slice, before });
    this.box = null;
    this.last = [u, v];
    this.paint(slice, u, v, paints);
  }

  // A step that can be undone: a stroke with its slice, or a box.
  remember(step) {
    this.strokes.push({ ...step, box: this.box });
    if (this.strokes.length > MOST_UNDONE) this.isOld ||= this.strokes.shift().slice !== undefined;
  }

  move(slice, u, v, paints) {
    if (this.isLocked || !this.last) return;
    const [u0, v0] = this.last;
    const steps = Math.ceil(Math.hypot(u - u0, v - v0) / Math.max(0.5, this.radius / 2));
    for (let step = 1; step <= steps; step += 1) {
      const share = step / steps;
      this.paint(slice, u0 + (u - u0) * share, v0 + (v - v0) * share, paints);
    }
    this.last = [u, v];
  }

  paint(slice, u, v, paints) {
    const start = slice * this.volume.size;
    const isClot = (index) => {
      const hu = this.volume.hu[start + index];
      return hu >= CLOT[0] && hu <= CLOT[1];
    };
    const may = paints && this.clotOnly ? isClot : undefined;
    this.mask.disc(slice, u, v, this.radius, paints ? 1 : 0, may);
    this.changed();
  }

  undo() {
    if (this.isLocked) return;
    const step = this.strokes.pop();
    if (!step) return;
    if (step.slice !== undefined) this.mask.replace(step.slice, step.before);
    this.box = step.box;
    this.last = null;
    this.changed();
  }

  // A box between two corners of a slice, in pixels; `begins` if it is the first of a drag.
  setBox(slice, from, to, begins) {
    if (this.isLocked) return;
    if (begins) this.remember({});
    const { cols, rows } = this.volume;
    const within = (value, most) => Math.max(0, Math.min(most, Math.round(value)));
    const [x0, x1] = [within(from[0], cols), within(to[0], cols)].sort((a, b) => a - b);
    const [y0, y1] = [within(from[1], rows), within(to[1], rows)].sort((a, b) => a - b);
    this.box = x1 > x0 && y1 > y0 ? { slice, x: x0, y: y0, w: x1 - x0, h: y1 - y0 } : null;
    this.changed();
  }

  // The decision that stores the draft.
  decision() {
    const isNew = this.target === "new";
    const about = { kind: isNew ? "add" : "redraw", lesion: isNew ? null : this.target.number };
    if (this.box) {
      const { slice, x, y, w, h } = this.box;
      return { ...about, value: { box: [x, y, w, h], slice } };
    }
    return { ...about, runs: this.mask.runs() };
  }
}
