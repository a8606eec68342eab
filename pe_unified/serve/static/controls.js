// Mouse and keyboard control of the images.

const CTRL_STEP = 1.15;

// Position of the pointer on a canvas, CSS pixels.
const placeOf = (event) => [event.offsetX, event.offsetY];

export function wirePictures(scene, act) {
  for (const view of scene.views) {
    const { canvas } = view;
    let gesture = null;
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("wheel", (event) => onWheel(event, view, scene, act), { passive: false });
    canvas.addEventListener("dblclick", () => scene.tool === "look" && act.alone(view));
    canvas.addEventListener("pointerdown", (event) => {
      canvas.focus({ preventScroll: true });
      canvas.setPointerCapture(event.pointerId);
      gesture = begin(event, view, scene, act);
      event.preventDefault();
    });
    canvas.addEventListener("pointermove", (event) => {
      view.cursor = placeOf(event);
      if (!event.buttons) gesture = null; // a dialog has taken the release
      gesture?.move(event);
      view.touch();
    });
    canvas.addEventListener("pointerup", (event) => {
      gesture?.end?.(event);
      gesture = null;
    });
    canvas.addEventListener("pointercancel", () => (gesture = null));
    canvas.addEventListener("pointerleave", () => {
      view.cursor = null;
      view.touch();
    });
  }
}

let turned = 0;

function onWheel(event, view, scene, act) {
  event.preventDefault();
  if (event.ctrlKey || event.metaKey) {
    view.zoomBy(event.deltaY < 0 ? CTRL_STEP : 1 / CTRL_STEP, ...placeOf(event));
    return;
  }
  // A notch of a wheel is one slice; a touchpad scrolls in small steps.
  const pixels = event.deltaMode === 1 ? event.deltaY * 33 : event.deltaY;
  turned += Math.sign(pixels) * Math.min(100, Math.abs(pixels));
  const steps = Math.abs(pixels) >= 50 ? Math.sign(pixels) : Math.trunc(turned / 30);
  if (!steps) return;
  turned = 0;
  act.step(view.plane, -steps);
}

function begin(event, view, scene, act) {
  const start = placeOf(event);
  const last = { at: start };
  const moved = (now) => {
    const by = [now[0] - last.at[0], now[1] - last.at[1]];
    last.at = now;
    return by;
  };
  const windowing = {
    move: (each) => {
      const [dx, dy] = moved(placeOf(each));
      const [level, width] = scene.window;
      const step = Math.max(1, width / 400);
      scene.setWindow(level - dy * step, width + dx * step);
    },
  };
  const panning = { move: (each) => view.panBy(...moved(placeOf(each))) };
  if (event.button === 2) return windowing;
  if (event.button === 1 || event.shiftKey) return panning;
  if (event.button !== 0) return null;
  const picture = () => view.toPicture(...last.at);
  const isAxial = view.plane.name === "axial";
  if (scene.tool === "pan") return panning;
  if (scene.tool === "ruler" || scene.tool === "region") {
    const from = view.toPicture(...start);
    const measure = { kind: scene.tool, plane: view.plane.name, index: view.index, from, to: from };
    scene.measures.push(measure);
    return {
      move: (each) => (measure.to = view.toPicture(...placeOf(each))),
      end: (each) => {
        const [x, y] = placeOf(each);
        if (Math.hypot(x - start[0], y - start[1]) < 3) scene.measures.pop();
        view.touch();
      },
    };
  }
  const paints = scene.tool === "brush";
  if ((paints || scene.tool === "eraser") && isAxial) {
    if (!act.draft()) return null;
    const slice = scene.at.slice;
    scene.drawing.press(slice, ...view.toPicture(...start), paints);
    return { move: (each) => scene.drawing.move(slice, ...view.toPicture(...placeOf(each)), paints) };
  }
  if (scene.tool === "box" && isAxial) {
    if (!act.draft()) return null;
    const [slice, from] = [scene.at.slice, view.toPicture(...start)];
    let begins = true;
    return {
      move: (each) => {
        scene.drawing.setBox(slice, from, view.toPicture(...placeOf(each)), begins);
        begins = false;
      },
    };
  }
  // A drag changes the window; a click moves the crosshair and selects the lesion under it.
  return {
    move: (each) => {
      const now = placeOf(each);
      if (last.drags || Math.hypot(now[0] - start[0], now[1] - start[1]) > 4) {
        last.drags = true;
        windowing.move(each);
      }
    },
    end: () => {
      if (last.drags) return;
      const [u, v] = picture();
      if (!view.isInside(u, v)) return;
      act.goTo(view.plane.voxel(Math.floor(u), Math.floor(v), view.index));
      const lesion = isAxial && scene.lesionAt(scene.at.slice, u, v);
      if (lesion) act.choose(lesion, false);
    },
  };
}

// Keys: the action of each, by name.
const KEYS = {
  n: (act) => act.chooseBy(1),
  p: (act) => act.chooseBy(-1),
  a: (act) => act.verdict("accept"),
  r: (act) => act.verdict("reject"),
  l: () => document.getElementById("label").focus(),
  c: () => document.getElementById("text").focus(),
  f: (act) => act.done(),
  u: (act) => act.undo(),
  w: (act) => act.add(),
  t: (act) => act.tool("look"),
  m: (act) => act.tool("pan"),
  k: (act) => act.tool("ruler"),
  h: (act) => act.tool("region"),
  b: (act) => act.tool("brush"),
  e: (act) => act.tool("eraser"),
  x: (act) => act.tool("box"),
  v: (act) => act.toggle("showMasks"),
  g: (act) => act.toggle("showBoxes"),
  y: (act) => act.toggle("showCrosshair"),
  0: (act) => act.reset(),
  "+": (act) => act.zoom(CTRL_STEP),
  "=": (act) => act.zoom(CTRL_STEP),
  "-": (act) => act.zoom(1 / CTRL_STEP),
  q: (act) => act.leave("/"),
  "]": (act) => act.next(),
  "?": () => document.getElementById("keys").showModal(),
  Escape: (act) => act.escape(),
  PageUp: (act) => act.stepHere(10),
  PageDown: (act) => act.stepHere(-10),
  Home: (act) => act.stepHere(1e6),
  End: (act) => act.stepHere(-1e6),
  Enter: (act) => act.save(),
};
// Actions that repeat while a key is held; a decision is made only once.
const HELD = ["PageUp", "PageDown", "+", "=", "-"];
const ARROWS = { ArrowUp: [0, 1], ArrowDown: [0, -1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] };

// The key as on a Latin keyboard.
const latin = ({ key, code }) => (/^[^ -~]$/.test(key) ? code.replace("Key", "").toLowerCase() : key);

export function wireKeys(scene, act) {
  document.addEventListener("keydown", (event) => {
    const { target } = event;
    const key = latin(event);
    const writes = target.closest("input[type=text], input:not([type]), textarea, select");
    if (document.querySelector("dialog[open]")) return;
    if (writes) {
      if (key === "Escape") target.blur();
      return;
    }
    if ((event.ctrlKey || event.metaKey) && !event.shiftKey && key.toLowerCase() === "z") {
      event.preventDefault();
      act.unstroke();
      return;
    }
    const types = key === "]" && event.altKey; // as on German keyboards
    if (!types && (event.ctrlKey || event.metaKey || event.altKey)) return;
    // On a button, Enter and the space bar press it.
    if (key === "Enter" && target.closest("button, summary, a")) return;
    const arrow = ARROWS[key];
    if (arrow && !target.closest("input")) {
      event.preventDefault();
      if (event.shiftKey) act.pan(arrow[0] * -40, arrow[1] * 40);
      else if (arrow[1]) act.stepHere(arrow[1]);
      return;
    }
    const window = Object.keys(scene.study.windows)[Number(key) - 1];
    const does = KEYS[key] ?? KEYS[key.toLowerCase()];
    if (!does && !window) return;
    event.preventDefault();
    if (event.repeat && !HELD.includes(key)) return;
    if (window) scene.setWindow(...scene.study.windows[window]);
    else does(act);
  });
}
