// The review page: decisions go to the server that made it, which checks them and answers with the piece as it is now.
"use strict";

const $ = (where, what) => where.querySelector(what);
const $$ = (where, what) => [...where.querySelectorAll(what)];
const alone = "alone" in document.body.dataset;
let revision = document.body.dataset.revision;

// ------------------------------------------------------------------------------------------------ the server

async function ask(name, body) {
  const options = body === undefined
    ? {} : { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  let answer;
  try {
    answer = await fetch(name, { cache: "no-store", credentials: "omit", ...options });
  } catch {
    throw new Error("The server does not answer. Is `unstuck review` still running?");
  }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error || `The server refuses this (${answer.status}).`);
  return data;
}

let hush;
function tell(text, stay = false) {
  const told = $(document, "#told");
  told.textContent = text;
  clearTimeout(hush);
  if (!stay) hush = setTimeout(() => { told.textContent = ""; }, 6000);
}

// --------------------------------------------------------------------------------------------------- deciding

/** Takes over what the server answers: the new revision, the summary, and the piece in place of the old one. */
function take(data, old) {
  revision = data.revision;
  $(document, "#summary").innerHTML = data.summary;
  if (data.reload) { sessionStorage.setItem("told", data.told); location.reload(); return; }
  const holder = document.createElement("div");
  holder.innerHTML = data.piece;
  const made = holder.firstElementChild;
  old.replaceWith(made);
  films(made);
  made.focus({ preventScroll: true });
  tell(data.told);
}

async function act(piece, what) {
  const { kind, key, decision } = piece.dataset;
  if (what === "edit") { edit(kind, key, JSON.parse($(piece, ".value").textContent)); return; }
  const undo = (what === "accepted" || what === "rejected") && decision === what;
  const body = { revision, kind, key, ...(what === "accepted" || what === "rejected" ? { decision: undo ? null : what } : {}) };
  const name = { accepted: "decide", rejected: "decide" }[what] || what;
  try {
    take(await ask(name, body), piece);
  } catch (error) {
    tell(error.message, true);
  }
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const piece = button.closest(".piece");
  if (piece) { act(piece, button.dataset.do); return; }
  if (button.dataset.new) { edit(button.dataset.new === "term" ? "term" : "advice", null, blank(button.dataset.new)); return; }
  if (button.dataset.do === "rest") {
    try { take(await ask("rest", { revision })); } catch (error) { tell(error.message, true); }
  }
});

document.addEventListener("keydown", (event) => {
  const piece = event.target.closest?.(".piece");
  if (!piece || event.ctrlKey || event.metaKey || event.altKey || event.target.matches("input, textarea, select")) return;
  const all = $$(document, ".piece");
  const step = { j: 1, k: -1 }[event.key];
  const what = { a: "accepted", r: "rejected", e: "edit" }[event.key];
  if (step) {
    const next = all[all.indexOf(piece) + step];
    if (next) { next.focus(); next.scrollIntoView({ block: "nearest" }); }
  } else if (what && !alone) {
    act(piece, what);
  } else {
    return;
  }
  event.preventDefault();
});

// ------------------------------------------------------------------------------------- pictures and plots

function films(where) {
  for (const film of $$(where, ".film")) {
    const image = $(film, "img"), slider = $(film, "input"), screen = $(film, ".screen");
    const steps = film.dataset.steps.split(" ").map(Number);
    const show = () => {
      const i = Number(slider.value), step = steps[i];
      image.style.transform = `translateX(${(-100 * i) / steps.length}%)`;
      $(film, "output").textContent = step;
      slider.setAttribute("aria-valuetext", `step ${step}`);
      for (const line of $$(film.closest(".piece"), ".cursor")) {
        const x = Number(line.dataset.edge) + Number(line.dataset.width) * (step - Number(line.dataset.from));
        line.setAttribute("x1", x);
        line.setAttribute("x2", x);
      }
    };
    const size = () => {
      image.style.width = `${100 * steps.length}%`;
      image.style.height = "auto";
      screen.style.aspectRatio = `${image.naturalWidth / steps.length} / ${image.naturalHeight}`;
      screen.classList.add("ready");
      show();
    };
    const fail = () => {
      const text = document.createElement("p");
      text.className = "soft";
      text.textContent = "The task cannot be drawn here.";
      film.replaceWith(text);
    };
    image.addEventListener("error", fail, { once: true });
    if (image.complete && image.naturalWidth) size(); else image.addEventListener("load", size, { once: true });
    slider.addEventListener("input", show);
  }
}

// ------------------------------------------------------------------------------------------------ the editor

const editor = $(document, "#editor");
const task = editor ? JSON.parse($(document, "#task").textContent) : null;
let editing = null;

function blank(what) {
  if (what === "term") return { variable: task.variables[0]?.name || "", weight: 1, cap: 1, why: "" };
  const value = { id: task.free_id, kind: what, why: "", when: [] };
  if (what === "state") { value.evidence = { episode: Number(Object.keys(task.episodes)[0] || 0), step: 0 }; delete value.when; }
  return value;
}

function options(select, chosen) {
  select.replaceChildren(...task.variables.map((v) => {
    const option = new Option(v.unit ? `${v.name} (${v.unit})` : v.name, v.name, false, v.name === chosen);
    option.title = v.meaning;
    return option;
  }));
}

function clause(value) {
  const plain = !value.any && !value.than;
  const row = $(document, plain ? "#clause" : "#odd-clause").content.firstElementChild.cloneNode(true);
  if (plain) {
    options($(row, ".variable"), value.variable);
    $(row, ".abs").checked = Boolean(value.abs);
    $(row, ".op").value = value.op || ">";
    $(row, ".number").value = value.value ?? 0;
  } else {
    $(row, ".json").value = JSON.stringify(value);
  }
  $(editor, ".clauses").append(row);
  return row;
}

function edit(kind, key, value) {
  const what = kind === "term" ? "term" : value.kind;
  editing = { kind, key, value, what };
  const names = { state: "critical state", rule: "rule", term: "reward term" };
  $(editor, "#editor-title").textContent = `${key === null ? "Write a" : "Edit the"} ${names[what]}`;
  for (const part of $$(editor, "[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(what);
  for (const part of $$(editor, "[data-only-new]")) part.hidden ||= key !== null;
  const form = $(editor, "form");
  form.reset();
  $(editor, ".raw").open = false;
  $(editor, ".clauses").replaceChildren();
  (value.when || []).forEach(clause);
  form.why.value = value.why || "";
  if (what === "term") {
    options(form.variable, value.variable);
    form.abs.checked = Boolean(value.abs);
    form.weight.value = value.weight;
    form.cap.value = value.cap;
    form.side.value = value.above !== undefined ? "above" : value.below !== undefined ? "below" : "";
    form.threshold.value = value.above ?? value.below ?? 0;
  } else {
    actions(value.action);
    form.hold.value = value.hold ?? 1;
    form.reward.value = value.reward ?? "";
    if (value.evidence) { form.episode.value = value.evidence.episode; form.step.value = value.evidence.step; }
  }
  form.json.value = JSON.stringify(value, null, 1);
  shown();
  editor.showModal();
  check();
}

/** Fields for an action of the task: a choice, or a number for each dimension. */
function actions(action) {
  const place = $(editor, ".actions");
  place.replaceChildren();
  const label = (text, input) => { const made = document.createElement("label"); made.append(text + " ", input); place.append(made); };
  if (task.kind === "discrete") {
    const select = document.createElement("select");
    select.name = "index";
    select.append(new Option("no action", ""), ...task.actions.map((name, i) => new Option(name, i)));
    select.value = action ? action.index : "";
    label("Action", select);
    return;
  }
  const check = (name, text, on) => {
    const box = document.createElement("input");
    box.type = "checkbox"; box.name = name; box.checked = on;
    const made = document.createElement("label");
    made.className = "check";
    made.append(box, " " + text);
    place.append(made);
  };
  check("acts", "an action", Boolean(action));
  task.actions.forEach((name, i) => {
    const input = document.createElement("input");
    Object.assign(input, { type: "number", step: "any", name: "values", value: action?.values?.[i] ?? 0 });
    label(name, input);
  });
  if (task.kind === "continuous") check("delta", "added to the agent's own", Boolean(action?.delta));
}

/** Hides what has no meaning with the choices made. */
function shown() {
  const form = $(editor, "form");
  $(editor, "[data-side]").hidden = !form.side.value;
  const acts = form.index ? form.index.value !== "" : !form.acts || form.acts.checked;
  $(editor, "[data-acts]").hidden = !acts;
  if (form.acts) for (const input of $$(editor, "[name=values], [name=delta]")) input.closest("label").hidden = !acts;
}

const number = (input) => (input.value.trim() === "" ? null : Number(input.value));

/** What the fields say, as the file says it. */
function fromFields() {
  const form = $(editor, "form"), value = structuredClone(editing.value);
  const when = $$(editor, ".clauses > li").map((row) => {
    if ($(row, ".json")) return JSON.parse($(row, ".json").value);
    const made = { variable: $(row, ".variable").value, op: $(row, ".op").value, value: number($(row, ".number")) };
    return $(row, ".abs").checked ? { ...made, abs: true } : made;
  });
  value.why = form.why.value;
  if (editing.what === "term") {
    Object.assign(value, { variable: form.variable.value, abs: form.abs.checked, weight: number(form.weight), cap: number(form.cap), when });
    delete value.above;
    delete value.below;
    if (form.side.value) value[form.side.value] = number(form.threshold);
    return value;
  }
  if (when.length || editing.what === "rule" || editing.value.when) value.when = when; else delete value.when;
  if (editing.what === "state") {
    const at = { episode: number(form.episode), step: number(form.step) };
    const same = at.episode === value.evidence?.episode && at.step === value.evidence?.step;
    value.evidence = same ? value.evidence : at;
  }
  value.hold = number(form.hold) ?? 1;
  const reward = number(form.reward);
  if (reward === null) delete value.reward; else value.reward = reward;
  delete value.action;
  if (form.index) {
    if (form.index.value !== "") value.action = { index: Number(form.index.value) };
  } else if (!form.acts || form.acts.checked) {
    const values = $$(editor, "[name=values]").map(number);
    value.action = form.delta?.checked ? { values, delta: true } : { values };
  }
  return value;
}

/** The piece as it is in the editor; the JSON counts while it is open. */
const current = () => ($(editor, ".raw").open ? JSON.parse($(editor, "form").json.value) : fromFields());

let waiting, asked = 0;
function checkSoon() {
  clearTimeout(waiting);
  waiting = setTimeout(check, 250);
}

async function check() {
  const mine = ++asked, place = $(editor, "#checked");
  let told, wrong = false;
  try {
    const found = await ask("check", { kind: editing.kind, value: current() });
    wrong = found.problems.length > 0;
    told = wrong ? found.problems.join("\n") : found.words;
  } catch (error) {
    wrong = true;
    told = error instanceof SyntaxError ? `Not valid JSON: ${error.message}` : error.message;
  }
  if (mine !== asked) return;
  const text = document.createElement("p");
  text.className = wrong ? "wrong" : "soft";
  text.textContent = told;
  place.replaceChildren(text);
}

if (editor) {
  const form = $(editor, "form");
  form.addEventListener("input", (event) => {
    if (event.target.name !== "json" && !$(editor, ".raw").open) {
      shown();
      try { form.json.value = JSON.stringify(fromFields(), null, 1); } catch { /* a condition is being written */ }
    }
    checkSoon();
  });
  $(editor, ".raw").addEventListener("toggle", () => {
    $(editor, ".fields").inert = $(editor, ".raw").open;
    if (!$(editor, ".raw").open) {
      try { const value = JSON.parse(form.json.value); edit2(value); } catch { checkSoon(); }
    }
  });
  editor.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.dataset.add) { $(clause({ variable: task.variables[0]?.name }), "select").focus(); checkSoon(); }
    if ("drop" in button.dataset) { button.closest("li").remove(); $(editor, "[data-add]").focus(); checkSoon(); }
    if (button.dataset.do === "cancel") editor.close();
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const { kind, key } = editing;
    try {
      const data = await ask("save", { revision, kind, key, value: current(), first: form.first.checked });
      const old = key === null ? null : $$(document, ".piece").find((p) => p.dataset.kind === kind && p.dataset.key === key);
      editor.close();
      take(data, old);
    } catch (error) {
      const text = document.createElement("p");
      text.className = "wrong";
      text.textContent = error instanceof SyntaxError ? `Not valid JSON: ${error.message}` : error.message;
      $(editor, "#checked").replaceChildren(text);
    }
  });
}

/** The fields once more, from JSON that was edited. */
function edit2(value) {
  if (!editor.open) return;
  const { kind, key } = editing;
  editor.close();
  edit(kind, key, value);
}

// ------------------------------------------------------------------------------------------ what happens now

async function look() {
  try {
    const data = await ask("live");
    const section = $(document, "#live");
    if (section.dataset.mark !== data.mark) {
      section.innerHTML = data.html;
      section.hidden = !data.html.trim();
      section.dataset.mark = data.mark;
    }
    if (data.revision !== revision && !editor?.open) tell("The file was changed meanwhile. Load this page again to see it as it is now.", true);
  } catch { /* told when something is decided */ }
  if (!document.hidden) setTimeout(look, 2000);
}

films(document);
const left = sessionStorage.getItem("told");
if (left && !alone) { sessionStorage.removeItem("told"); tell(left); }
if (!alone) {
  setTimeout(look, 2000);
  document.addEventListener("visibilitychange", () => { if (!document.hidden) look(); });
}
