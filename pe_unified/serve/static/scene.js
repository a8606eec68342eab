// The state of the reader's screen: the study, the position in it, its lesions, the decisions.

import { getJson } from "./api.js";
import { Mask } from "./marks.js";
import { greyTable } from "./volume.js";

const rgba = (r, g, b, a) => ((a << 24) | (b << 16) | (g << 8) | r) >>> 0;
// Colours that every eye can tell from grey and from each other (Okabe and Ito).
const MODEL = { line: "#f5a000", fill: rgba(245, 160, 0, 60) };
const OWN = { line: "#2fd6a5", fill: rgba(47, 214, 165, 70) };
const OTHER = { line: "#e58fc4", fill: 0 };
const BOX = "#6cc4f5";
const GREY = "#9aa4b0";

export class Scene {
  constructor(study, reader) {
    this.study = study;
    this.reader = reader;
    this.key = study.key;
    this.lesions = study.lesions.map((lesion) => ({ ...lesion, mask: null, redrawn: null }));
    this.at = { slice: 0, row: 0, col: 0 };
    this.measures = [];
    this.selected = null;
    this.compared = "";
    this.comparison = [];
    this.showMasks = this.showBoxes = this.showCrosshair = true;
    this.loadedVersion = this.marksVersion = 0;
    this.windowVersion = 0;
    this.trouble = "";
    this.views = [];
    this.setWindow(...study.windows.pe);
    this.masks = new Map();
    this.decide(study);
  }

  // Marks the first time that something is available, for measurements.
  mark(name) {
    if (!performance.getEntriesByName(name).length) performance.mark(name);
  }

  // Request a frame that draws whatever has changed.
  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => {
      this.waiting = false;
      for (const view of this.views) view.draw();
    });
  }

  touch() {
    for (const view of this.views) view.dirty = true;
    this.redraw();
  }

  marksChanged() {
    this.marksVersion += 1;
    this.touch();
  }

  setWindow(level, width) {
    this.window = [Math.round(level), Math.max(1, Math.round(width))];
    this.table = greyTable(...this.window);
    this.windowVersion += 1;
    this.windowed?.();
    this.touch();
  }

  windowWords() {
    const [level, width] = this.window;
    const name = Object.entries(this.study.windows).find(([, each]) => each[0] === level && each[1] === width);
    return `${name ? `${name[0]} ` : ""}L ${level}  W ${width}`;
  }

  caption(plane, index, width) {
    if (plane.name !== "axial") return `${plane.name} ${index}`;
    const { z_mm: z, probability } = this.study.slices[index];
    if (width < 480) return `slice ${index}`;
    const place = z === null ? "" : `   z ${z.toFixed(1)} mm`;
    const told = probability === null ? "" : `   p ${probability.toFixed(3)}`;
    return `slice ${index} of ${plane.count - 1}${place}${told}`;
  }

  // The decisions, as sent by the server.
  decide({ newest, decisions, undoable, others }) {
    Object.assign(this, { newest, undoable, others });
    const decided = { verdicts: new Map(), labels: new Map(), added: [], comments: [], done: false };
    const redraws = new Map();
    for (const each of decisions) {
      if (each.kind === "relabel") decided.labels.set(each.lesion, each.value.label);
      else if (each.kind === "comment") decided.comments.push(each);
      else if (each.kind === "add") decided.added.push(this.added(each));
      else if (each.kind !== "done") decided.verdicts.set(each.lesion, each.kind);
      if (each.kind === "redraw") redraws.set(each.lesion, each);
    }
    decided.done = decisions.findLast((each) => each.kind !== "comment")?.kind === "done";
    this.decided = decided;
    this.othersAdded = Object.entries(others).flatMap(([by, said]) =>
      said.filter((each) => each.kind === "add").map((each) => ({ ...this.added(each), by })),
    );
    for (const lesion of this.lesions) {
      const redraw = redraws.get(lesion.number);
      lesion.redrawnBox = redraw?.value.box ? { ...redraw.value } : null;
      lesion.redrawn = redraw && !lesion.redrawnBox ? this.maskOf(redraw.number) : null;
    }
    if (this.selected && !this.selected.number) {
      const added = [...decided.added, ...this.othersAdded];
      this.selected = added.find((each) => each.decision === this.selected.decision) ?? null;
    }
    if (this.compared) this.compare(this.compared);
    this.marksChanged();
  }

  added(decision) {
    const { box, slice } = decision.value;
    const mask = box ? null : this.maskOf(decision.number);
    const key_slice = slice ?? (mask ? [...mask.slices.keys()][0] : undefined);
    return { decision: decision.number, key_slice, box: box ?? null, mask };
  }

  // The mask of a decision; null until it has arrived.
  maskOf(number) {
    if (this.masks.has(number)) return this.masks.get(number);
    this.masks.set(number, null);
    getJson(`/api/studies/${this.key}/masks/${number}`)
      .then((runs) => {
        const { rows, cols } = this.study.input;
        this.masks.set(number, Mask.ofRuns(runs, rows, cols).get(1) ?? null);
        this.maskCame?.();
      })
      .catch((error) => {
        this.masks.delete(number); // asked for again after the next decision
        this.failed?.(error);
      });
    return null;
  }

  compare(name) {
    this.compared = this.others[name] ? name : "";
    this.comparison = (this.others[this.compared] ?? [])
      .filter((each) => ["redraw", "add"].includes(each.kind))
      .map((each) => ({
        box: each.value.box ? { ...each.value } : null,
        mask: each.value.box ? null : this.maskOf(each.number),
      }));
    this.marksChanged();
  }

  // Masks from bottom to top: {mask, fill, line, dashed, wide}.
  layers() {
    const { verdicts, added } = this.decided;
    const layers = [];
    for (const lesion of this.lesions) {
      const isDraft = this.drawing?.target === lesion;
      const mask = isDraft ? this.drawing.mask : (lesion.redrawn ?? lesion.mask);
      if (!mask) continue;
      const rejected = verdicts.get(lesion.number) === "reject" && !isDraft;
      const style = isDraft || lesion.redrawn ? OWN : MODEL;
      layers.push({
        mask,
        fill: rejected ? 0 : style.fill,
        line: rejected ? GREY : style.line,
        dashed: rejected,
        wide: this.selected === lesion,
      });
    }
    for (const each of added) {
      if (each.mask) layers.push({ mask: each.mask, ...OWN, wide: this.selected === each });
    }
    if (this.drawing?.target === "new") layers.push({ mask: this.drawing.mask, ...OWN, wide: true });
    for (const { mask } of this.comparison) if (mask) layers.push({ mask, ...OTHER, dashed: true });
    return layers;
  }

  // Boxes on an axial slice.
  boxes(slice) {
    const boxes = [];
    if (this.showBoxes) {
      for (const { box, score, lesion } of this.study.slices[slice].boxes) {
        const [x0, y0, x1, y1] = box;
        const rejected = this.decided.verdicts.get(lesion) === "reject";
        const isListed = this.lesions.find((each) => each.number === lesion)?.called !== false;
        const line = rejected || !isListed ? GREY : BOX;
        const words = `${lesion}  ${score.toFixed(2)}`;
        boxes.push({ x: x0, y: y0, w: x1 - x0, h: y1 - y0, line, words, dashed: true });
      }
    }
    const drawn = (told, line, words) => {
      const [x, y, w, h] = told.box;
      if (told.slice === slice) boxes.push({ x, y, w, h, line, words });
    };
    for (const lesion of this.lesions) {
      if (lesion.redrawnBox) drawn(lesion.redrawnBox, OWN.line, `${lesion.number}, yours`);
    }
    for (const each of this.decided.added) {
      if (each.box) drawn({ box: each.box, slice: each.key_slice }, OWN.line, "yours");
    }
    for (const { box } of this.comparison) if (box) drawn(box, OTHER.line, this.compared);
    if (this.drawing?.box?.slice === slice) boxes.push({ ...this.drawing.box, line: OWN.line });
    return boxes;
  }

  // Whether a lesion's mask is requested but not yet here: a drawing made now would replace it.
  isComing(lesion) {
    if (lesion.redrawnBox || lesion.redrawn) return false;
    const isRedrawn = this.decided.verdicts.get(lesion.number) === "redraw";
    return isRedrawn || Boolean(this.awaited && !lesion.mask);
  }

  brush() {
    return ["brush", "eraser"].includes(this.tool) ? this.drawing.radius : 0;
  }

  // Masks of the report have arrived: lesion number to mask.
  setMasks(masks) {
    for (const lesion of this.lesions) lesion.mask = masks.get(lesion.number) ?? null;
    this.marksChanged();
  }

  // Position of a lesion on its key slice: {row, col}; empty if only its own mask could give it.
  middleOf({ number, key_slice, box }) {
    if (!box) return {};
    if (!number) return { row: Math.floor(box[1] + box[3] / 2), col: Math.floor(box[0] + box[2] / 2) };
    const here = this.study.slices[key_slice].boxes.find((each) => each.lesion === number);
    const [x0, y0, x1, y1] = here?.box ?? box;
    return { row: Math.floor((y0 + y1) / 2), col: Math.floor((x0 + x1) / 2) };
  }

  // The lesion whose mask or box covers a pixel of a slice.
  lesionAt(slice, u, v) {
    const pixel = Math.floor(v) * this.study.input.cols + Math.floor(u);
    const hit = this.lesions.find((each) => (each.redrawn ?? each.mask)?.slices.get(slice)?.[pixel]);
    if (hit) return hit;
    const box = this.study.slices[slice].boxes.find(
      ({ box: [x0, y0, x1, y1] }) => u >= x0 && u <= x1 && v >= y0 && v <= y1,
    );
    return box && this.lesions.find((each) => each.number === box.lesion);
  }
}
