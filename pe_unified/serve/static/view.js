// One image of the volume: windowed, zoomed, with marks and measures on it.

import { drawMeasure, written } from "./measures.js";
import { fillPlane } from "./planes.js";

const QUIET = "#aab4c0";
const LARGEST_ZOOM = 20;

export class View {
  // scene: what is shown, see reader.js; the canvas has the plane's name in data-plane.
  constructor(canvas, plane, scene) {
    Object.assign(this, { canvas, plane, scene });
    this.ctx = canvas.getContext("2d", { alpha: false });
    this.picture = new OffscreenCanvas(plane.width, plane.height);
    this.marks = new OffscreenCanvas(plane.width, plane.height);
    this.image = new ImageData(plane.width, plane.height);
    this.pixels = new Uint32Array(this.image.data.buffer);
    this.markImage = new ImageData(plane.width, plane.height);
    this.markPixels = new Uint32Array(this.markImage.data.buffer);
    this.zoom = 1;
    this.pan = [0, 0];
    this.shown = this.marked = "";
    this.dirty = true;
    this.cursor = null;
    new ResizeObserver(() => this.resize()).observe(canvas);
    this.resize();
  }

  get index() {
    return this.scene.at[this.plane.axis];
  }

  resize() {
    const box = this.canvas.getBoundingClientRect();
    this.ratio = window.devicePixelRatio || 1;
    this.width = Math.max(1, box.width);
    this.height = Math.max(1, box.height);
    this.canvas.width = Math.round(this.width * this.ratio);
    this.canvas.height = Math.round(this.height * this.ratio);
    this.dirty = true;
    this.scene.redraw();
  }

  // Screen pixels per image pixel, horizontally and vertically.
  get scales() {
    const { width, height, uMm, vMm } = this.plane;
    const perMm = Math.min(this.width / (width * uMm), this.height / (height * vMm)) * this.zoom;
    return [perMm * uMm, perMm * vMm];
  }

  // Position of the image's upper left corner.
  get corner() {
    const [su, sv] = this.scales;
    return [
      (this.width - this.plane.width * su) / 2 + this.pan[0],
      (this.height - this.plane.height * sv) / 2 + this.pan[1],
    ];
  }

  toScreen(u, v) {
    const [[x, y], [su, sv]] = [this.corner, this.scales];
    return [x + u * su, y + v * sv];
  }

  toPicture(x, y) {
    const [[x0, y0], [su, sv]] = [this.corner, this.scales];
    return [(x - x0) / su, (y - y0) / sv];
  }

  isInside(u, v) {
    return u >= 0 && v >= 0 && u < this.plane.width && v < this.plane.height;
  }

  // Zoom by a factor so that the point under (x, y) stays in place.
  zoomBy(factor, x = this.width / 2, y = this.height / 2) {
    const before = this.toPicture(x, y);
    this.zoom = Math.max(0.5, Math.min(LARGEST_ZOOM, this.zoom * factor));
    const after = this.toScreen(...before);
    this.pan = [this.pan[0] + x - after[0], this.pan[1] + y - after[1]];
    this.touch();
  }

  panBy(dx, dy) {
    this.pan = [this.pan[0] + dx, this.pan[1] + dy];
    this.touch();
  }

  reset() {
    this.zoom = 1;
    this.pan = [0, 0];
    this.touch();
  }

  // Show a point of the volume if zooming has moved it out of sight.
  reveal(at) {
    const [x, y] = this.toScreen(...this.plane.pixel(at).map((value) => value + 0.5));
    if (x > 0 && y > 0 && x < this.width && y < this.height) return;
    this.panBy(this.width / 2 - x, this.height / 2 - y);
  }

  touch() {
    this.dirty = true;
    this.scene.redraw();
  }

  draw() {
    const { scene, ctx, plane } = this;
    if (!this.dirty || this.canvas.offsetParent === null) return;
    this.dirty = false;
    ctx.setTransform(this.ratio, 0, 0, this.ratio, 0, 0);
    ctx.fillStyle = "#000";
    ctx.fillRect(0, 0, this.width, this.height);
    const ready = plane.name !== "axial" || scene.volume.has(this.index);
    if (ready) this.drawPicture();
    if (ready && plane.name === "axial") scene.mark("first slice");
    this.drawMarks();
    this.drawCrosshair();
    ctx.font = "13px system-ui, sans-serif";
    for (const measure of scene.measures) {
      if (measure.plane === plane.name && measure.index === this.index) {
        drawMeasure(ctx, measure, this, scene.volume);
      }
    }
    this.drawTexts(ready);
  }

  drawPicture() {
    const { scene, plane, ctx } = this;
    const version = plane.name === "axial" ? 0 : scene.loadedVersion;
    const now = `${this.index} ${scene.windowVersion} ${version}`;
    if (this.shown !== now) {
      fillPlane(this.pixels, scene.volume, plane.name, this.index, scene.table);
      this.picture.getContext("2d").putImageData(this.image, 0, 0);
      this.shown = now;
    }
    const [[x, y], [su, sv]] = [this.corner, this.scales];
    ctx.imageSmoothingEnabled = su < 6;
    ctx.drawImage(this.picture, x, y, plane.width * su, plane.height * sv);
  }

  drawMarks() {
    const { scene, plane, ctx } = this;
    const [[x, y], [su, sv]] = [this.corner, this.scales];
    const layers = scene.showMasks ? scene.layers() : [];
    const now = `${this.index} ${scene.marksVersion}`;
    if (this.marked !== now) {
      this.markPixels.fill(0);
      for (const layer of layers) {
        if (layer.fill) {
          layer.mask.colour(this.markPixels, plane.name, this.index, scene.volume.slices, layer.fill);
        }
      }
      this.marks.getContext("2d").putImageData(this.markImage, 0, 0);
      this.marked = now;
    }
    if (layers.length) {
      ctx.imageSmoothingEnabled = false;
      ctx.drawImage(this.marks, x, y, plane.width * su, plane.height * sv);
    }
    if (plane.name !== "axial") return;
    ctx.save();
    ctx.translate(x, y);
    ctx.scale(su, sv);
    for (const { mask, line, dashed, wide } of layers) {
      const path = mask.outline(this.index);
      if (!path) continue;
      ctx.strokeStyle = line;
      ctx.lineWidth = (wide ? 2.4 : 1.4) / su;
      ctx.setLineDash(dashed ? [4 / su, 3 / su] : []);
      ctx.stroke(path);
    }
    ctx.restore();
    for (const box of scene.boxes(this.index)) this.drawBox(box);
  }

  drawBox({ x, y, w, h, line, words, dashed }) {
    const { ctx } = this;
    const [[x0, y0], [x1, y1]] = [this.toScreen(x, y), this.toScreen(x + w, y + h)];
    ctx.strokeStyle = line;
    ctx.lineWidth = 1.4;
    ctx.setLineDash(dashed ? [5, 3] : []);
    ctx.strokeRect(x0 - 2, y0 - 2, x1 - x0 + 4, y1 - y0 + 4);
    ctx.setLineDash([]);
    ctx.font = "12px system-ui, sans-serif";
    if (words) written(ctx, words, x0 - 2, y0 - 6, line);
  }

  drawCrosshair() {
    const { scene, ctx } = this;
    if (!scene.showCrosshair) return;
    const [x, y] = this.toScreen(...this.plane.pixel(scene.at).map((value) => value + 0.5));
    const gap = 14;
    ctx.strokeStyle = "rgba(92, 179, 255, 0.55)";
    ctx.lineWidth = 1;
    ctx.setLineDash([]);
    ctx.beginPath();
    for (const [a, b] of [[0, x - gap], [x + gap, this.width]]) {
      ctx.moveTo(a, y);
      ctx.lineTo(b, y);
    }
    for (const [a, b] of [[0, y - gap], [y + gap, this.height]]) {
      ctx.moveTo(x, a);
      ctx.lineTo(x, b);
    }
    ctx.stroke();
  }

  drawTexts(ready) {
    const { ctx, plane, scene } = this;
    ctx.font = "13px system-ui, sans-serif";
    ctx.textAlign = "left";
    const small = plane.name !== "axial";
    written(ctx, scene.caption(plane, this.index, this.width), 10, 20, "#e6e9ee");
    if (!small) written(ctx, scene.windowWords(), 10, 38, QUIET);
    if (!ready) written(ctx, scene.trouble || "loading ...", 10, 60, "#ffb454");
    if (this.cursor && ready) written(ctx, this.cursorWords(), 10, this.height - 12, "#e6e9ee");
    const [left, right, top, foot] = plane.letters;
    ctx.font = "600 14px system-ui, sans-serif";
    ctx.textAlign = "center";
    written(ctx, left, 14, this.height / 2 + 5, QUIET);
    written(ctx, right, this.width - 14, this.height / 2 + 5, QUIET);
    written(ctx, top, this.width / 2, 18, QUIET);
    written(ctx, foot, this.width / 2, this.height - 8, QUIET);
    ctx.textAlign = "left";
    this.drawScale();
    const brush = scene.brush();
    if (brush && this.cursor && !small) {
      ctx.strokeStyle = "#fff";
      ctx.lineWidth = 1;
      ctx.beginPath();
      ctx.ellipse(...this.cursor, brush * this.scales[0], brush * this.scales[1], 0, 0, 7);
      ctx.stroke();
    }
  }

  cursorWords() {
    const [u, v] = this.toPicture(...this.cursor).map(Math.floor);
    if (!this.isInside(u, v)) return "";
    const at = this.plane.voxel(u, v, this.index);
    if (!this.scene.volume.has(at.slice)) return "";
    return `${this.scene.volume.at(at.slice, at.row, at.col)} HU  (col ${at.col}, row ${at.row})`;
  }

  // A scale bar of round length, so that sizes can be estimated without measuring.
  drawScale() {
    const { ctx, plane } = this;
    const perMm = this.scales[0] / plane.uMm;
    const mm = [100, 50, 20, 10, 5, 2].find((each) => each * perMm < this.width / 4) ?? 1;
    const [x, y] = [this.width - 16, this.height - 12];
    ctx.strokeStyle = QUIET;
    ctx.lineWidth = 1.5;
    ctx.beginPath();
    ctx.moveTo(x, y);
    ctx.lineTo(x - mm * perMm, y);
    ctx.stroke();
    ctx.font = "12px system-ui, sans-serif";
    ctx.textAlign = "right";
    written(ctx, `${mm} mm`, x, y - 5, QUIET);
    ctx.textAlign = "left";
  }
}
