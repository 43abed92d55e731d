"use strict";

const STATES = { open: "open", accepted: "✓ accepted", edited: "✎ edited", rejected: "× rejected" };
const BUTTONS = { accepted: "accept", edited: "edit", rejected: "reject" };
const UNSAVED = "Save or leave the edit first.";

let setup; // the server's list of all items
let desk; // the item being reviewed
let wanted; // the item that was opened last

// ---- The list of items

function mark(line, state) {
  markLine(line, state, STATES[state]);
  const number = (state) => setup.items.filter((line) => line.state === state).length;
  at("counts").textContent = Object.keys(STATES).map((state) => `${number(state)} ${state}`).join(", ");
}

async function start() {
  try {
    setup = await ask("/api/items");
  } catch (error) {
    say(error.message, true);
    return;
  }
  at("nothing").hidden = setup.items.length > 0;
  for (const line of setup.items) addLine(line, line.id);
  for (const line of setup.items) mark(line, line.state);
  addEventListener("hashchange", openAsked);
  openAsked();
}

function openAsked() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const line = setup.items.find((line) => line.id === asked);
  const first = line ?? setup.items.find((line) => line.state === "open") ?? setup.items[0];
  if (first) open(first);
}

function itemPath(line) {
  return `/api/items/${encodeURIComponent(line.id)}`;
}

async function open(line) {
  wanted = line;
  if (desk?.saving) await desk.saving;
  if (line !== wanted || desk?.line === line) return;
  if (desk && edits()) {
    say(UNSAVED, true);
    location.hash = encodeURIComponent(desk.line.id);
    return;
  }
  let content;
  try {
    content = await ask(itemPath(line));
  } catch (error) {
    content = { error: error.message };
  }
  if (line !== wanted) return;
  document.title = `${line.id}: review`;
  showHead(setup.items, line, content.error ? "" : `${content.scene}; wrong options by ${content.writer}`, content.error);
  desk = undefined;
  if (content.error) return;
  desk = { line };
  at("player").hidden = !content.clip;
  if (content.clip) showClip(content.clip);
  else at("broken").textContent = "This clip is not cut any more.";
  take(desk, content);
  at("form").hidden = true;
}

// ---- One item

function take(work, content) {
  work.content = content;
  mark(work.line, content.state);
  if (work !== desk) return;
  at("reasons").replaceChildren(...content.reasons.map(problemLine));
  showProblems(content.problems);
  showItem(at("draft"), content.draft);
  at("edited").hidden = !content.edited;
  if (content.edited) showItem(at("edited"), content.edited);
  at("routes").replaceChildren(...content.routes.map(routeOf));
  if (shown) drawTicks(content.routes[0]?.steps ?? []);
  for (const [state, button] of Object.entries(BUTTONS)) {
    at(button).setAttribute("aria-pressed", String(state === content.state));
  }
  showTime();
}

function problemLine({ name, message, verdict }) {
  const line = make("li", verdict ?? "", "");
  line.append(make("b", "", name), ` ${message}`);
  return line;
}

function showProblems(problems) {
  at("problems").replaceChildren(...problems.map(problemLine));
}

function showItem(section, { question, options, answer }) {
  section.querySelector(".question").textContent = question;
  section.querySelector(".description").textContent = options.length ? "" : answer;
  const lines = options.map(({ text, items }, k) => {
    const right = setup.letters[k] === answer;
    const line = make("li", right ? "right" : "", "");
    line.append(make("b", "", setup.letters[k]), make("span", "", right ? `${text} ✓` : text));
    line.append(make("span", "note", `items: ${items.join(" · ") || "none"}`));
    return line;
  });
  section.querySelector(".options").replaceChildren(...lines);
}

function routeOf({ annotator, steps }) {
  const section = make("section", "route", "");
  const list = make("ol", "steps", "");
  list.append(...steps.map(stepLine));
  section.append(make("h3", "", `Steps ${desk.content.way}, by ${annotator}`), list);
  return section;
}

function stepLine({ direction, landmark, action, time_s }) {
  const line = make("li", "step", "");
  line.time = time_s;
  const go = make("button", "", `${time_s.toFixed(1)} s`);
  go.type = "button";
  go.title = "Show this moment";
  go.disabled = !shown;
  go.addEventListener("click", () => { stop(); goTo(time_s); });
  const seen = [landmark, action].filter(Boolean).join("; ");
  line.append(make("span", "", `${ARROWS[direction]} ${direction}`), make("span", "", seen), go);
  return line;
}

function decide(verdict, edited = null) {
  if (!desk || desk.saving) return;
  if (verdict !== "edit" && edits()) {
    say(UNSAVED, true);
    return;
  }
  const work = desk;
  work.saving = send(work, { verdict, edited, revision: work.content.revision }).finally(() => (work.saving = undefined));
}

async function send(work, decision) {
  say("saving …");
  try {
    take(work, await ask(itemPath(work.line), decision));
    at("form").hidden = true;
    say("saved");
    if (decision.verdict !== "edit" && work === desk) goToNextOpen(setup.items, work.line);
  } catch (error) {
    showProblems(error.problems ?? []);
    say(`NOT SAVED: ${error.refused ? error.message : "the server does not answer"}`, true);
  }
}

// ---- The edit

function edit() {
  if (!desk || desk.saving) return;
  const { question, options, answer } = desk.content.edited ?? desk.content.draft;
  at("question").value = question;
  at("fields").replaceChildren(...options.map((option, k) => fieldOf(option, setup.letters[k], answer)));
  at("description").hidden = options.length > 0;
  at("answer").value = options.length ? "" : answer;
  at("form").hidden = false;
  desk.before = JSON.stringify(typed());
  at("question").focus();
}

function fieldOf({ text, items }, letter, answer) {
  const row = at("field").content.cloneNode(true).firstElementChild;
  const part = (name) => row.querySelector(name);
  part("b").textContent = letter;
  part(".letter").value = letter;
  part(".letter").checked = letter === answer;
  part(".letter").setAttribute("aria-label", `${letter} is right`);
  part(".text").value = text;
  part(".items").value = items.join("\n");
  return row;
}

function typed() {
  const rows = [...at("fields").children];
  const options = rows.map((row) => ({
    text: row.querySelector(".text").value,
    items: row.querySelector(".items").value.split("\n").map((item) => item.trim()).filter(Boolean),
  }));
  const right = rows.length ? at("fields").querySelector(".letter:checked").value : at("answer").value;
  return { question: at("question").value, options, answer: right };
}

// Whether the form has changes that are not saved.
function edits() {
  return !at("form").hidden && JSON.stringify(typed()) !== desk.before;
}

function leave() {
  at("form").hidden = true;
  showProblems(desk.content.problems);
  say("");
}

// ---- Keys and buttons

const KEYS = {
  ...PLAYER_KEYS,
  a: () => decide("accept"),
  e: edit,
  x: () => decide("reject"),
};

function formKey(event) {
  if (event.key === "Escape") leave();
  if (event.key === "Enter" && event.ctrlKey) decide("edit", typed());
}

takeKeys("#form:not([hidden])", formKey, ({ key }) => {
  if (key === "Escape" && desk) leave();
  if (key in WAYS) return () => goToNeighbour(setup.items, wanted, WAYS[key]);
  return shown || !(key in PLAYER_KEYS) ? KEYS[key] : undefined;
});

at("accept").addEventListener("click", KEYS.a);
at("edit").addEventListener("click", edit);
at("reject").addEventListener("click", KEYS.x);
at("leave").addEventListener("click", leave);
at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  decide("edit", typed());
});
addEventListener("beforeunload", (event) => {
  if (desk && (desk.saving || edits())) event.preventDefault();
});

start();
