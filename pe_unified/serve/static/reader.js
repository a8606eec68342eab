// The page of one study.

import { askReader, getJson, make, post, tell } from "./api.js";
import { wireKeys, wirePictures } from "./controls.js";
import { Curve } from "./curve.js";
import { Drawing } from "./drawing.js";
import { Mask } from "./marks.js";
import { showDecisions, showLesions } from "./panel.js";
import { makePlanes } from "./planes.js";
import { Scene } from "./scene.js";
import { View } from "./view.js";
import { Volume } from "./volume.js";

const byId = (id) => document.getElementById(id);
const key = location.pathname.split("/").pop();
const path = `/api/studies/${key}`;
const failed = (error) => tell(error.message, "error");
const WINDOW_NAMES = { pe: "PE", lung: "Lung", mediastinal: "Mediastinum", embolus: "Embolus", bone: "Bone" };

async function start() {
  const reader = await askReader();
  const query = `?reader=${encodeURIComponent(reader)}`;
  const asked = getJson(`${path}/images`);
  asked.catch(() => {}); // reported below
  const study = await getJson(path + query);
  const scene = new Scene(study, reader);
  window.scene = scene; // for debugging in the console
  head(scene);
  const act = makeActs(scene);
  scene.failed = failed;
  scene.maskCame = () => {
    scene.decide({ ...scene, decisions: scene.said });
    scene.refresh();
  };
  scene.said = study.decisions;
  scene.refresh = () => {
    showLesions(scene, act.choose, act.undo);
    showDecisions(scene, act.undo);
  };
  let geometry;
  try {
    geometry = await asked;
  } catch (error) {
    scene.trouble = error.message;
    byId("warning").hidden = false;
    const said = byId("warning").textContent;
    byId("warning").textContent = [`No images: ${error.message}`, said].filter(Boolean).join(". ");
    geometry = blankGeometry(study);
  }
  openImages(scene, geometry, act);
  wireButtons(scene, act);
  scene.refresh();
  const first = scene.lesions.find((lesion) => lesion.called !== false) ?? scene.lesions[0];
  if (first) act.choose(first);
  else act.goTo(middle(scene, peakOf(study)));
  if (study.has_mask) {
    const { rows, cols } = study.input;
    scene.awaited = getJson(`${path}/mask`)
      .then((runs) => scene.setMasks(Mask.ofRuns(runs, rows, cols)), failed)
      .finally(() => (scene.awaited = null));
  }
}

function blankGeometry({ input }) {
  const { slices, rows, cols, spacing_mm: mm } = input;
  const shape = [slices, rows, cols];
  return { shape, spacing_mm: [mm.row, mm.col, mm.slice], towards: ["?", "?", "?"], absent: true };
}

const peakOf = ({ slices }) =>
  slices.reduce((best, each) => ((each.probability ?? 0) > (best.probability ?? 0) ? each : best), slices[slices.length >> 1]).index;

const middle = ({ study }, slice) => ({ slice, row: study.input.rows >> 1, col: study.input.cols >> 1 });

function openImages(scene, geometry, act) {
  const { shape, spacing_mm: spacing, towards, placed, absent } = geometry;
  const planes = makePlanes(shape, spacing, placed === false ? ["?", "?", "?"] : towards);
  let late = 0;
  scene.volume = new Volume(
    key,
    shape,
    (first, count) => {
      const slice = scene.at.slice;
      if (slice >= first && slice < first + count) scene.views[0].touch();
      if (!scene.volume.missing) scene.mark("all slices");
      if (scene.trouble) tell((scene.trouble = ""));
      // Coronal and sagittal images are updated a few times a second.
      if (performance.now() - late < 250 && scene.volume.missing) return;
      late = performance.now();
      scene.loadedVersion += 1;
      scene.touch();
    },
    (error) => {
      scene.trouble = error.message;
      scene.touch();
      failed(error);
    },
  );
  scene.volume.absent = Boolean(absent);
  scene.drawing = new Drawing(scene.volume, () => {
    scene.marksChanged();
    showDraft(scene);
  });
  scene.views = ["axial", "coronal", "sagittal"].map((name) => new View(byId(name), planes[name], scene));
  scene.curve = new Curve(byId("curve"), scene, (slice) => act.goTo({ ...scene.at, slice }));
  byId("curve").setAttribute("aria-valuemin", 0);
  byId("curve").setAttribute("aria-valuemax", shape[0] - 1);
  wirePictures(scene, act);
}

function head(scene) {
  const { study, reader } = scene;
  const who = [study.patient.PatientName, study.patient.PatientID, study.patient.StudyDate];
  const name = who.filter(Boolean).join(" · ") || study.label;
  document.title = `${name}: pulmonary embolism`;
  byId("title").textContent = name;
  const verdict = byId("verdict");
  verdict.textContent = study.verdict;
  verdict.dataset.positive = String(study.exam.positive);
  byId("flags").replaceChildren(
    ...study.quality.flags.map((flag) =>
      make("span", { className: `flag${flag.abstain ? " abstain" : ""}`, textContent: flag.name, title: flag.reason }),
    ),
  );
  const warnings = study.quality.abstain ? ["Do not rely on the scores of this study"] : [];
  if (study.notice) warnings.push(`The model: ${study.notice}`);
  byId("warning").hidden = !warnings.length;
  byId("warning").textContent = warnings.join(". ");
  byId("reader").textContent = reader || "Who reads?";
  byId("facts").replaceChildren(
    ...[`Model ${study.model.checkpoint}`, `Report of ${new Date(study.created).toLocaleString()}`, ...study.input.notes].map(
      (textContent) => make("p", { textContent }),
    ),
  );
  Object.entries(study.windows).forEach(([window, values], number) => {
    const title = `Level ${values[0]}, width ${values[1]} HU (${number + 1})`;
    const onclick = () => scene.setWindow(...values);
    const known = { "data-window": values.join(" "), title, onclick };
    byId("windows").append(make("button", { textContent: WINDOW_NAMES[window] ?? window, ...known }));
  });
  scene.windowed = () => {
    for (const button of byId("windows").children) {
      button.setAttribute("aria-pressed", String(button.dataset.window === scene.window.join(" ")));
    }
  };
  scene.windowed();
  const label = byId("label");
  for (const each of ["", ...study.labels.lesion]) {
    label.append(make("option", { value: each, textContent: each || "none", disabled: !each }));
  }
}

function showDraft(scene) {
  const { drawing } = scene;
  byId("draft").hidden = !drawing.isOpen;
  if (!drawing.isOpen) return;
  const what = drawing.target === "new" ? "a new lesion" : `lesion ${drawing.target.number}`;
  byId("draft").querySelector("span").textContent = `Drawing ${what}${drawing.box ? ", as a box" : ""}`;
  byId("save").disabled = !drawing.hasChanges;
  byId("unstroke").disabled = !drawing.hasChanges;
}

function makeActs(scene) {
  const here = () => scene.views.find((view) => view.canvas === document.activeElement) ?? scene.views[0];
  const numbered = () => (scene.selected?.number ? scene.selected : null);
  let deciding = Promise.resolve();
  const act = {
    goTo(at) {
      const { input } = scene.study;
      const within = (value, count) => Math.max(0, Math.min(count - 1, value));
      scene.at = {
        slice: within(at.slice, input.slices),
        row: within(at.row, input.rows),
        col: within(at.col, input.cols),
      };
      scene.volume.want(scene.at.slice);
      scene.touch();
      scene.curve.draw();
    },
    step(plane, by) {
      act.goTo({ ...scene.at, [plane.axis]: scene.at[plane.axis] + by });
    },
    stepHere(by) {
      act.step(here().plane, by);
    },
    choose(lesion, jumps = true) {
      if (scene.drawing.isOpen && scene.drawing.target !== lesion && !act.escape()) return;
      scene.selected = lesion;
      if (lesion.by) scene.compare(lesion.by);
      if (jumps && lesion.key_slice !== undefined) {
        act.goTo({ ...scene.at, ...scene.middleOf(lesion), slice: lesion.key_slice });
        for (const view of scene.views) view.reveal(scene.at);
      }
      scene.marksChanged();
      scene.refresh();
    },
    chooseBy(step) {
      const listed = scene.lesions.filter((each) => each.called !== false);
      const all = [...listed, ...scene.decided.added, ...scene.othersAdded];
      const now = all.indexOf(scene.selected);
      if (all.length) act.choose(all[now < 0 && step < 0 ? all.length - 1 : (now + step + all.length) % all.length]);
    },
    // Store a decision, after those that are pending; returns whether it was stored.
    decide(decision) {
      deciding = deciding
        .then(() => act.send(typeof decision === "function" ? decision() : decision))
        .catch((error) => failed(error) ?? false);
      return deciding;
    },
    async send(decision) {
      if (!decision) return false;
      if (!scene.reader && !(await act.rename())) return false;
      const { reader, newest: seen, study } = scene;
      const about = { value: {}, lesion: null, reader, seen, model: study.model.sha256 };
      try {
        const answer = await post(`${path}/decisions`, { ...about, ...decision });
        act.heard(answer);
        return true;
      } catch (error) {
        failed(error);
        if (error.status === 409) act.heard(await getJson(`${path}?reader=${encodeURIComponent(reader)}`));
        return false;
      }
    },
    heard(answer) {
      scene.said = answer.decisions;
      scene.decide(answer);
      scene.refresh();
    },
    async verdict(kind) {
      const lesion = numbered();
      if (!lesion) return tell("choose a lesion first (N)", "news");
      return act.decide({ kind, lesion: lesion.number });
    },
    label(label) {
      return numbered() && act.decide({ kind: "relabel", lesion: scene.selected.number, value: { label } });
    },
    studyLabel(label) {
      return act.decide({ kind: "relabel", value: { label } });
    },
    comment(text) {
      return act.decide({ kind: "comment", lesion: numbered()?.number ?? null, value: { text } });
    },
    async done() {
      if (scene.drawing.hasChanges) return tell("save or discard the drawing first", "news");
      await deciding;
      if (scene.decided.done) return;
      // A study with undecided lesions cannot be exported.
      const open = scene.lesions.filter((each) => each.called !== false && !scene.decided.verdicts.has(each.number));
      const numbers = open.map((each) => each.number).join(", ");
      if (open.length && !confirm(`Nothing is decided on lesion ${numbers}. Mark as done anyway?`)) return act.choose(open[0]);
      if (await act.decide({ kind: "done" })) tell("Done. ] opens the next study.");
    },
    undo(number) {
      return act.decide(() => {
        const of = Number.isInteger(number) ? number : scene.undoable.at(-1);
        return of !== undefined && { kind: "undo", value: { of } };
      });
    },
    tool(name) {
      scene.tool = name;
      for (const button of document.querySelectorAll("[data-tool]")) {
        button.setAttribute("aria-pressed", String(button.dataset.tool === name));
      }
      for (const { canvas } of scene.views) canvas.dataset.tool = name;
      scene.touch();
    },
    toggle(name) {
      scene[name] = !scene[name];
      document.querySelector(`[data-toggle=${name}]`).setAttribute("aria-pressed", String(scene[name]));
      scene.marksChanged();
    },
    // A draft on the selected lesion; returns whether there is one.
    draft() {
      if (scene.drawing.isOpen) return true;
      if (!numbered()) {
        tell("choose the lesion to redraw (N), or add one (W)");
        return false;
      }
      if (scene.isComing(scene.selected)) {
        tell("the mask of the lesion is still loading");
        return false;
      }
      scene.drawing.begin(scene.selected);
      return true;
    },
    add() {
      if (scene.drawing.isOpen && !act.escape()) return;
      scene.drawing.begin(null);
      if (!["brush", "box"].includes(scene.tool)) act.tool("brush");
    },
    async save() {
      const { drawing } = scene;
      if (!drawing.hasChanges || scene.saving) return;
      const decision = drawing.decision();
      if (decision.runs && !Object.keys(decision.runs).length) {
        tell("nothing is left of the lesion: reject it instead", "error");
        return;
      }
      scene.saving = true;
      if (await act.decide(decision)) {
        drawing.drop();
        act.tool("look");
        tell("Saved");
      }
      scene.saving = false;
    },
    unstroke() {
      if (scene.drawing.isOpen) scene.drawing.undo();
    },
    // Close the drawing and the tool; false if the drawing is kept.
    escape() {
      const { drawing } = scene;
      if (drawing.hasChanges && !confirm("Discard the drawing?")) return false;
      if (drawing.isOpen) drawing.drop();
      act.tool("look");
      tell("");
      return true;
    },
    zoom(factor) {
      here().zoomBy(factor);
    },
    pan(dx, dy) {
      here().panBy(dx, dy);
    },
    reset() {
      scene.measures.length = 0;
      for (const view of scene.views) view.reset();
    },
    alone(view) {
      const main = document.querySelector("main");
      main.dataset.alone = main.dataset.alone === view.plane.name ? "" : view.plane.name;
    },
    leave(where) {
      location.href = where;
    },
    async next() {
      const { studies } = await getJson(`/api/worklist?reader=${encodeURIComponent(scene.reader)}`);
      const order = JSON.parse(sessionStorage.getItem("pe-unified-order") ?? "[]");
      const place = (each) => (order.indexOf(each.key) + order.length + 1) % (order.length + 1);
      const waiting = studies.filter((each) => each.state !== "done" && each.key !== key);
      waiting.sort((a, b) => place(a) - place(b));
      const after = waiting.find((each) => place(each) > order.indexOf(key)) ?? waiting[0];
      if (after) act.leave(`/read/${after.key}`);
      else tell("every other study is done");
    },
    async rename() {
      const name = await askReader(true);
      if (name && name !== scene.reader) location.reload();
      return name;
    },
  };
  return act;
}

function wireButtons(scene, act) {
  for (const button of document.querySelectorAll("[data-tool]")) button.onclick = () => act.tool(button.dataset.tool);
  for (const button of document.querySelectorAll("[data-toggle]")) button.onclick = () => act.toggle(button.dataset.toggle);
  for (const button of document.querySelectorAll("[data-verdict]")) button.onclick = () => act.verdict(button.dataset.verdict);
  for (const label of scene.study.labels.study) {
    const button = make("button", { textContent: label, "data-study-label": label, onclick: () => act.studyLabel(label) });
    byId("studylabels").append(button);
  }
  byId("label").onchange = (event) => {
    act.label(event.target.value);
    event.target.blur();
  };
  const saveComment = async () => {
    const text = byId("text").value.trim();
    if (text && (await act.comment(text))) byId("text").value = "";
  };
  byId("comment").onsubmit = (event) => {
    event.preventDefault();
    saveComment();
  };
  byId("text").onkeydown = (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) saveComment();
  };
  byId("compare").onchange = (event) => scene.compare(event.target.value);
  byId("radius").oninput = (event) => {
    scene.drawing.radius = Number(event.target.value);
    scene.touch();
  };
  byId("clot").onchange = (event) => (scene.drawing.clotOnly = event.target.checked);
  byId("reader").onclick = act.rename;
  byId("help").onclick = () => byId("keys").showModal();
  const acts = { add: "add", done: "done", undo: "undo", next: "next", reset: "reset", save: "save" };
  for (const [id, name] of Object.entries(acts)) byId(id).onclick = () => act[name]();
  byId("unstroke").onclick = act.unstroke;
  byId("discard").onclick = act.escape;
  byId("news").onclick = () => tell("");
  window.addEventListener("beforeunload", (event) => scene.drawing.hasChanges && event.preventDefault());
  act.tool("look");
  wireKeys(scene, act);
}

start().catch(failed);
