// The page of one study.

import { makeActs } from "./acts.js";
import { askReader, byId, failed, getJson, make, tell } from "./api.js";
import { wireKeys, wirePictures } from "./controls.js";
import { Curve } from "./curve.js";
import { Drawing } from "./drawing.js";
import { Mask } from "./marks.js";
import { showDecisions, showLesions } from "./panel.js";
import { makePlanes } from "./planes.js";
import { Scene } from "./scene.js";
import { View } from "./view.js";
import { Volume } from "./volume.js";

const key = location.pathname.split("/").pop();
const path = `/api/studies/${key}`;
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
    // Stays set if the masks do not come: a drawing would start from nothing.
    scene.awaited = getJson(`${path}/mask`).then((runs) => {
      scene.awaited = null;
      scene.setMasks(Mask.ofRuns(runs, rows, cols));
    }, failed);
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
  let comments = false;
  const saveComment = async () => {
    const given = byId("text").value;
    if (!given.trim() || comments) return;
    comments = true;
    if ((await act.comment(given.trim())) && byId("text").value === given) byId("text").value = "";
    comments = false;
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
  window.addEventListener("beforeunload", (event) => {
    if (scene.drawing.hasChanges || scene.pending || byId("text").value.trim()) event.preventDefault();
  });
  window.addEventListener("pageshow", (event) => event.persisted && location.reload()); // the reader may differ
  // Browsers restore these.
  scene.drawing.radius = Number(byId("radius").value);
  scene.drawing.clotOnly = byId("clot").checked;
  act.tool("look");
  wireKeys(scene, act);
}

start().catch(failed);
