// What a reader can do on the page of a study: moving, choosing, deciding, drawing.

import { askReader, byId, failed, getJson, post, tell } from "./api.js";

export function makeActs(scene) {
  const path = `/api/studies/${scene.key}`;
  const here = () => scene.views.find((view) => view.canvas === document.activeElement) ?? scene.views[0];
  const numbered = () => (scene.selected?.number ? scene.selected : null);
  let deciding = Promise.resolve();
  scene.pending = 0; // decisions that the server has not answered
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
    // Store a decision, after those that are pending; returns whether it was stored. A function
    // makes it then, from whether the one before was stored.
    decide(decision) {
      scene.pending += 1;
      deciding = deciding
        .then((kept) => act.send(typeof decision === "function" ? decision(kept) : decision))
        .catch((error) => failed(error) ?? false)
        .finally(() => (scene.pending -= 1));
      return deciding;
    },
    async send(decision) {
      if (!decision) return false;
      if (!scene.reader) {
        scene.reader = await askReader(true);
        byId("reader").textContent = scene.reader || "Who reads?";
        if (!scene.reader) return false;
      }
      const { reader, newest: seen, study } = scene;
      const about = { value: {}, lesion: null, reader, seen, model: study.model.sha256 };
      try {
        const answer = await post(`${path}/decisions`, { ...about, ...decision });
        act.heard(answer);
        return true;
      } catch (error) {
        failed(error);
        scene.refresh();
        if (error.status !== 409) return false;
        const now = await getJson(`${path}?reader=${encodeURIComponent(reader)}`);
        if (now.model.sha256 === study.model.sha256) act.heard(now);
        else tell("The report was made anew: load this page again", "error");
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
      const { pending } = scene;
      return act.decide((kept) => {
        if (pending && kept === false) return false; // what was to be taken back was not stored
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
      if (act.saves()) return false;
      if (scene.drawing.isOpen) return true;
      if (!numbered()) {
        tell("choose the lesion to redraw (N), or add one (W)");
        return false;
      }
      if (scene.isComing(scene.selected)) {
        tell("the mask of the lesion has not come yet");
        return false;
      }
      scene.drawing.begin(scene.selected);
      return true;
    },
    // Whether a drawing is being saved, which nothing may change; says so.
    saves() {
      if (scene.drawing.isLocked) tell("the drawing is being saved");
      return scene.drawing.isLocked;
    },
    add() {
      if (act.saves() || (scene.drawing.isOpen && !act.escape())) return;
      scene.drawing.begin(null);
      if (!["brush", "box"].includes(scene.tool)) act.tool("brush");
    },
    async save() {
      const { drawing } = scene;
      if (!drawing.hasChanges || drawing.isLocked) return;
      const decision = drawing.decision();
      if (decision.runs && !Object.keys(decision.runs).length) {
        tell("nothing is left of the lesion: reject it instead", "error");
        return;
      }
      drawing.isLocked = true;
      const kept = await act.decide(decision);
      drawing.isLocked = false;
      if (!kept) return;
      drawing.drop();
      act.tool("look");
      tell("Saved");
    },
    unstroke() {
      if (scene.drawing.isOpen) scene.drawing.undo();
    },
    // Close the drawing and the tool; false if the drawing is kept.
    escape() {
      const { drawing } = scene;
      if (act.saves() || (drawing.hasChanges && !confirm("Discard the drawing?"))) return false;
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
    // Once what is pending is stored; if it is refused, the page stays and says so.
    async leave(where) {
      const { pending } = scene;
      let [last, kept] = [null, true];
      while (last !== deciding) kept = await (last = deciding);
      if (!pending || kept !== false) location.href = where;
    },
    async next() {
      const asked = getJson(`/api/worklist?reader=${encodeURIComponent(scene.reader)}`);
      const { studies } = await asked.catch((error) => failed(error) ?? {});
      if (!studies) return;
      const order = JSON.parse(sessionStorage.getItem("pe-unified-order") ?? "[]");
      const place = (each) => (order.indexOf(each.key) + order.length + 1) % (order.length + 1);
      const waiting = studies.filter((each) => each.state !== "done" && each.key !== scene.key);
      waiting.sort((a, b) => place(a) - place(b));
      const after = waiting.find((each) => place(each) > order.indexOf(scene.key)) ?? waiting[0];
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
