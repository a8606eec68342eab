// The probability of embolism along the body: head at the top, one line per slice; also a slider.

const CURVE = "#5cb3ff";
const LISTED = "#f5a000";
const CANDIDATE = "#7d8794";

export class Curve {
  // scene: see reader.js; go(slice): called when a slice is selected.
  constructor(canvas, scene, go) {
    Object.assign(this, { canvas, scene, go });
    new ResizeObserver(() => this.draw()).observe(canvas);
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      this.choose(event);
    });
    canvas.addEventListener("pointermove", (event) => event.buttons && this.choose(event));
    canvas.addEventListener("keydown", (event) => {
      const step = { ArrowUp: 1, ArrowRight: 1, ArrowDown: -1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      event.stopPropagation();
      this.go(this.scene.at.slice + step);
    });
  }

  choose(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = (event.clientY - box.top) / box.height;
    this.go(Math.floor((1 - share) * this.scene.study.slices.length));
  }

  draw() {
    const { canvas, scene } = this;
    const box = canvas.getBoundingClientRect();
    if (!box.width) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(box.width * ratio);
    canvas.height = Math.round(box.height * ratio);
    const ctx = canvas.getContext("2d");
    ctx.scale(ratio, ratio);
    const { slices, thresholds } = scene.study;
    const each = box.height / slices.length;
    const top = (slice) => box.height - (slice + 1) * each;
    const right = box.width - 9;
    ctx.fillStyle = "#0a0c10";
    ctx.fillRect(0, 0, box.width, box.height);
    ctx.beginPath();
    // Straight lines between the slices that were looked at.
    const known = slices.filter(({ probability }) => probability !== null);
    const middle = ({ index }) => top(index) + each / 2;
    if (known.length) ctx.moveTo(0, middle(known[0]));
    for (const slice of known) ctx.lineTo(slice.probability * right, middle(slice));
    if (known.length) ctx.lineTo(0, middle(known.at(-1)));
    ctx.fillStyle = "rgba(92, 179, 255, 0.22)";
    ctx.fill();
    ctx.strokeStyle = CURVE;
    ctx.lineWidth = 1;
    ctx.stroke();
    if (thresholds.exam !== null) {
      ctx.strokeStyle = "#8b95a3";
      ctx.setLineDash([2, 3]);
      ctx.beginPath();
      ctx.moveTo(thresholds.exam * right, 0);
      ctx.lineTo(thresholds.exam * right, box.height);
      ctx.stroke();
      ctx.setLineDash([]);
    }
    for (const lesion of scene.lesions) {
      const listed = lesion.called !== false;
      ctx.fillStyle = listed ? LISTED : CANDIDATE;
      const high = Math.max(2, (lesion.last_slice - lesion.first_slice + 1) * each);
      ctx.fillRect(right + (listed ? 1 : 5), top(lesion.last_slice), listed ? 6 : 3, high);
    }
    const y = top(scene.at.slice) + each / 2;
    ctx.fillStyle = "#fff";
    ctx.fillRect(0, y - 1, box.width, 2);
    const now = slices[scene.at.slice];
    canvas.setAttribute("aria-valuenow", scene.at.slice);
    const told = now.probability === null ? "not looked at" : `probability ${now.probability}`;
    canvas.setAttribute("aria-valuetext", `slice ${scene.at.slice}, ${told}`);
  }
}
