// The worklist: sorting, searching, updating.

import { age, answered, askReader, byId, knownReader, make, tell } from "./api.js";

const EVERY_MS = 3000;
const STATES = ["unread", "in work", "done"];
const shown = { studies: [], failures: [], by: "score", down: true, state: "", search: "", positive: false, flagged: false };
// One row per study, created once.
const rows = new Map();
let tag = "";

const KEYS = {
  state: (study) => STATES.indexOf(study.state),
  label: (study) => nameOf(study),
  positive: (study) => (study.positive === null ? 0.5 : Number(study.positive)),
  // The age: larger for earlier dates.
  created: (study) => -Date.parse(study.created),
  flags: (study) => study.flags.length + (study.abstain ? 100 : 0),
};

function nameOf({ label, patient = {} }) {
  const known = [patient.PatientName, patient.PatientID, patient.StudyDate].filter(Boolean);
  return known.length ? `${known.join(" · ")} (${label})` : label;
}

function sorted(studies) {
  const value = KEYS[shown.by] ?? ((study) => study[shown.by]);
  const sign = shown.down ? -1 : 1;
  const order = (a, b) => {
    if (a === null || b === null) return sign * ((a === null) - (b === null)); // last in either order
    return typeof a === "string" ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
  };
  return studies
    .map((study) => [value(study), study])
    .sort(([a, one], [b, other]) => sign * order(a, b) || (one.key < other.key ? -1 : 1))
    .map(([, study]) => study);
}

function isWanted(study) {
  if (shown.state && study.state !== shown.state) return false;
  if (shown.positive && study.positive !== true) return false;
  if (shown.flagged && !study.flags.length) return false;
  if (!shown.search) return true;
  const text = [nameOf(study), study.verdict, study.state, study.model, ...study.flags.map((flag) => flag.name)];
  const whole = text.join(" ").toLowerCase();
  return shown.search.toLowerCase().split(/\s+/).every((word) => whole.includes(word));
}

function rowOf(study) {
  const known = rows.get(study.key);
  const version = JSON.stringify(study);
  if (known?.version === version) {
    known.age.textContent = age(study.created);
    return known.row;
  }
  const link = make("a", { href: `/read/${study.key}`, textContent: nameOf(study) });
  const ageCell = make("td", { textContent: age(study.created), title: new Date(study.created).toLocaleString() });
  const number = (value, digits = 0) => make("td", { className: "number", textContent: value === null ? "–" : value.toFixed(digits) });
  const called = study.positive === true;
  const score = study.score === null ? "–" : study.score.toFixed(3);
  const flags = study.flags.map((flag) =>
    make("span", { className: `flag${flag.abstain ? " abstain" : ""}`, textContent: flag.name, title: flag.reason }),
  );
  const state = make("span", { className: "state", textContent: study.state, "data-state": study.state });
  const meter = make("meter", { value: study.score ?? 0, max: 1, "aria-hidden": "true" });
  const row = make(
    "tr",
    { "data-key": study.key },
    make("td", {}, state),
    make("td", {}, link),
    make("td", { className: called ? "verdict called" : "verdict", textContent: study.verdict }),
    make("td", {}, make("span", { className: "score" }, meter, score)),
    number(study.lesions),
    number(study.volume_ml, 1),
    make("td", {}, make("span", { className: "row" }, ...flags)),
    ageCell,
    number(study.slices),
  );
  row.onclick = (event) => event.target === link || (location.href = link.href);
  rows.set(study.key, { version, row, age: ageCell });
  return row;
}

function draw() {
  const focused = document.activeElement?.closest?.("tr")?.dataset.key;
  const wanted = sorted(shown.studies.filter(isWanted));
  const failed = shown.failures.map(({ name, reason }) =>
    make("tr", { className: "failed" },
      make("td", { textContent: "failed" }),
      make("td", { colSpan: 8, textContent: name ? `${name}: ${reason}` : "could not be analysed; see summary.csv for which and why" }),
    ),
  );
  byId("rows").replaceChildren(...wanted.map(rowOf), ...failed);
  sessionStorage.setItem("pe-unified-order", JSON.stringify(wanted.map((study) => study.key)));
  if (focused) document.querySelector(`tr[data-key="${focused}"] a`)?.focus();
  const counts = STATES.map((state) => `${shown.studies.filter((each) => each.state === state).length} ${state}`);
  byId("count").textContent = `${wanted.length} of ${shown.studies.length} studies: ${counts.join(", ")}`;
  const notices = [...new Set(shown.studies.map((each) => each.notice).filter(Boolean))];
  byId("warning").hidden = !notices.length;
  byId("warning").textContent = notices.map((notice) => `Note on a model: ${notice}`).join(". ");
}

async function refresh() {
  try {
    const headers = tag ? { "If-None-Match": tag } : {};
    const response = await fetch(`/api/worklist?reader=${encodeURIComponent(knownReader())}`, { headers, cache: "no-store" });
    if (response.status === 304) {
      tell("");
      shown.studies.filter(isWanted).forEach(rowOf); // their ages
      return;
    }
    const told = await (await answered(response)).json();
    tag = response.headers.get("ETag");
    Object.assign(shown, { studies: told.studies, failures: told.failures });
    tell("");
    draw();
    if (!performance.getEntriesByName("rows").length) performance.mark("rows");
  } catch (error) {
    tell(error instanceof TypeError ? "the server does not answer; this list may be old" : error.message, "error");
  }
}

function wire() {
  for (const head of document.querySelectorAll("th[data-by]")) {
    head.querySelector("button").onclick = () => {
      const by = head.dataset.by;
      shown.down = shown.by === by ? !shown.down : !["label", "state"].includes(by);
      shown.by = by;
      document.querySelector("th[aria-sort]").removeAttribute("aria-sort");
      head.setAttribute("aria-sort", shown.down ? "descending" : "ascending");
      draw();
    };
  }
  byId("search").oninput = (event) => {
    shown.search = event.target.value.trim();
    draw();
  };
  for (const button of byId("states").children) {
    button.onclick = () => {
      shown.state = button.dataset.state;
      for (const each of byId("states").children) each.setAttribute("aria-pressed", String(each === button));
      draw();
    };
  }
  for (const name of ["positive", "flagged"]) {
    byId(name).onclick = (event) => {
      shown[name] = !shown[name];
      event.target.setAttribute("aria-pressed", String(shown[name]));
      draw();
    };
  }
  document.addEventListener("keydown", (event) => {
    const writes = event.target.closest("input");
    if (event.key === "/" && !writes) {
      event.preventDefault();
      byId("search").focus();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    const links = [...document.querySelectorAll("#rows a")];
    const now = links.indexOf(document.activeElement);
    links[Math.max(0, Math.min(links.length - 1, now + step))]?.focus();
  });
}

const setTheme = (theme) => {
  document.documentElement.dataset.theme = theme;
  byId("theme").textContent = theme === "light" ? "Dark" : "Light";
};

shown.search = byId("search").value.trim(); // browsers restore it
wire();
setTheme(localStorage.getItem("pe-unified-theme") ?? "dark");
byId("theme").onclick = () => {
  const theme = document.documentElement.dataset.theme === "light" ? "dark" : "light";
  localStorage.setItem("pe-unified-theme", theme);
  setTheme(theme);
};
byId("reader").onclick = async () => {
  byId("reader").textContent = (await askReader(true)) || "Who reads?";
  tag = "";
  refresh();
};
async function keepFresh() {
  await refresh();
  setTimeout(keepFresh, EVERY_MS);
}
await refresh();
byId("reader").textContent = (await askReader()) || "Who reads?";
setTimeout(keepFresh, EVERY_MS);
