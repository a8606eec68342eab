// The list of lesions, the decisions on them, and the buttons to decide.

import { make } from "./api.js";

const DONE = { accept: "accepted", reject: "rejected", redraw: "redrawn" };

const verdictChip = (kind) => make("span", { className: `chip ${kind}`, textContent: DONE[kind] });

function measuresOf(lesion) {
  const told = [];
  if (lesion.score !== null) told.push(`score ${lesion.score.toFixed(2)}`);
  if (lesion.volume_ml !== null) told.push(`${lesion.volume_ml.toFixed(2)} ml`);
  if (lesion.largest_diameter_mm !== null) told.push(`${lesion.largest_diameter_mm.toFixed(0)} mm`);
  if (lesion.mean_hu !== null) told.push(`${lesion.mean_hu.toFixed(0)} HU`);
  return told.join(" · ");
}

// One lesion of the report as a row that is selected by click or key.
function lesionRow(lesion, scene, choose) {
  const { decided } = scene;
  const verdict = decided.verdicts.get(lesion.number);
  const label = decided.labels.get(lesion.number);
  const chosen = scene.selected === lesion;
  return make(
    "button",
    {
      className: `lesion${verdict ? ` is-${verdict}` : ""}`,
      "aria-pressed": String(chosen),
      "data-lesion": lesion.number,
      onclick: () => choose(lesion),
    },
    make("b", { textContent: lesion.number }),
    make(
      "span",
      { className: "what" },
      make("span", { textContent: `${lesion.side}, ${lesion.level_guess}` }),
      make("small", { textContent: measuresOf(lesion) }),
      ...othersOn(lesion.number, scene),
    ),
    make(
      "span",
      { className: "chips" },
      verdict ? verdictChip(verdict) : null,
      label ? make("span", { className: "chip", textContent: label }) : null,
      make("small", { textContent: spanOf(lesion) }),
    ),
  );
}

// Its slices: "12–15", or "12" alone.
const spanOf = ({ first_slice: first, last_slice: last }) => (first === last ? `${first}` : `${first}–${last}`);

function othersOn(number, { others }) {
  return Object.entries(others).flatMap(([name, decisions]) => {
    const said = decisions
      .filter((each) => each.lesion === number && each.kind !== "comment")
      .map((each) => DONE[each.kind] ?? each.value.label);
    return said.length
      ? [make("small", { className: "other", textContent: `${name}: ${said.join(", ")}` })]
      : [];
  });
}

// The decisions on the study, in words.
const onStudy = (decisions) => {
  const counted = decisions.filter((each) => each.kind !== "comment");
  return counted
    .filter((each) => each.lesion === null && each.kind !== "add")
    .filter((each) => each.kind !== "done" || each === counted.at(-1))
    .map((each) => (each.kind === "done" ? "done" : (DONE[each.kind] ?? each.value.label)));
};

export function showLesions(scene, choose, undo) {
  const place = document.getElementById("lesions");
  const focused = document.activeElement?.dataset?.lesion;
  const listed = scene.lesions.filter((each) => each.called !== false);
  const rest = scene.lesions.filter((each) => each.called === false);
  const rows = listed.map((lesion) => lesionRow(lesion, scene, choose));
  if (!listed.length) rows.push(make("p", { className: "quiet", textContent: "No lesion is called." }));
  for (const added of [...scene.decided.added, ...scene.othersAdded]) rows.push(addedRow(added, scene, choose, undo));
  place.replaceChildren(...rows);
  const candidates = document.getElementById("candidates");
  candidates.hidden = !rest.length;
  candidates.querySelector("summary").textContent = `${rest.length} candidates, not called`;
  candidates
    .querySelector("div")
    .replaceChildren(...rest.map((lesion) => lesionRow(lesion, scene, choose)));
  if (rest.includes(scene.selected)) candidates.open = true;
  if (focused) document.querySelector(`[data-lesion="${focused}"]`)?.focus();
}

function addedRow(added, scene, choose, undo) {
  return make(
    "div",
    { className: "added" },
    make(
      "button",
      {
        className: "lesion",
        "aria-pressed": String(scene.selected === added),
        "data-lesion": `+${added.decision}`,
        onclick: () => choose(added),
      },
      make("b", { textContent: "+" }),
      make(
        "span",
        { className: "what" },
        make("span", {
          className: added.by ? "other" : "",
          textContent: `${added.by ? `${added.by}:` : "your"} ${added.box ? "box" : "mask"}`,
        }),
        make("small", { textContent: `slice ${added.key_slice ?? "..."}` }),
      ),
    ),
    added.by ? null : make("button", { textContent: "Remove", onclick: () => undo(added.decision) }),
  );
}

export function showDecisions(scene, undo) {
  const { decided, study } = scene;
  for (const button of document.querySelectorAll("[data-verdict]")) {
    const current = decided.verdicts.get(scene.selected?.number ?? 0);
    button.setAttribute("aria-pressed", String(button.dataset.verdict === current));
    button.disabled = !scene.selected?.number;
  }
  const label = document.getElementById("label");
  label.disabled = !scene.selected?.number;
  label.value = decided.labels.get(scene.selected?.number) ?? "";
  for (const button of document.querySelectorAll("[data-study-label]")) {
    const said = decided.labels.get(null) === button.dataset.studyLabel;
    button.setAttribute("aria-pressed", String(said));
  }
  document.getElementById("about").textContent = scene.selected
    ? scene.selected.number
      ? `Lesion ${scene.selected.number}`
      : scene.selected.by
        ? `Lesion of ${scene.selected.by}`
        : "Your lesion"
    : "No lesion chosen";
  const done = document.getElementById("done");
  done.setAttribute("aria-pressed", String(decided.done));
  done.textContent = decided.done ? "✓ Done" : "Mark as done";
  document.getElementById("undo").disabled = !scene.undoable.length;
  const comments = [
    ...decided.comments.map((each) => ["You", each]),
    ...Object.entries(scene.others).flatMap(([name, decisions]) =>
      decisions.filter((each) => each.kind === "comment").map((each) => [name, each]),
    ),
  ];
  document.getElementById("comments").replaceChildren(
    ...Object.entries(scene.others).map(([name, decisions]) => {
      const said = onStudy(decisions).join(", ");
      return make("li", { className: "other" }, make("b", { textContent: `${name}: ` }), said || "in work");
    }),
    ...comments.map(([name, each]) =>
      make(
        "li",
        {},
        make("b", { textContent: `${name}${each.lesion ? `, lesion ${each.lesion}` : ""}: ` }),
        each.value.text,
        name === "You"
          ? make("button", {
              className: "link",
              textContent: "remove",
              "aria-label": `remove the comment ${each.value.text}`,
              onclick: () => undo(each.number),
            })
          : null,
      ),
    ),
  );
  const compare = document.getElementById("compare");
  const names = Object.keys(scene.others);
  compare.parentElement.hidden = study.blind || !names.length;
  const options = ["", ...names].map((name) =>
    make("option", { value: name, textContent: name || "nobody" }),
  );
  compare.replaceChildren(...options);
  compare.value = names.includes(scene.compared) ? scene.compared : "";
}
