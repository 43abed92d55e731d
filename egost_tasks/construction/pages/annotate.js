"use strict";

const LETTERS = { l: "left", r: "right", a: "around", u: "up", d: "down", s: "straight" };
const STATES = { none: "none", begun: "begun", whole: "✓ whole", problems: "! problems" };
const RETRY_MS = 2000;

let setup; // the server's list of all clips
let desk; // the clip being annotated
let wanted; // the clip that was opened last

// ---- The server

function clipPath(clip) {
  return `/api/clips/${encodeURIComponent(clip)}`;
}

// One request at a time; changes made meanwhile go with the next one.
async function save(work) {
  while (work.dirty && !work.refused) {
    work.dirty = false;
    say("saving …");
    try {
      take(work, await ask(clipPath(work.clip), { forward: work.forward, reverse: work.reverse, revision: work.revision }));
    } catch (error) {
      work.dirty = true;
      work.refused = Boolean(error.refused);
      say(`NOT SAVED: ${error.refused ? error.message : "the server does not answer; trying again"}`, true);
      if (!work.refused) await new Promise((done) => setTimeout(done, RETRY_MS));
    }
  }
  if (!work.dirty) say("saved");
}

function changed() {
  desk.dirty = true;
  desk.refused = false;
  const work = desk;
  desk.saving ??= save(work).finally(() => (work.saving = undefined));
}

function take(work, content) {
  work.revision = content.revision;
  work.problems = content.problems;
  const proposed = JSON.stringify(work.proposed) !== JSON.stringify(content.proposed);
  work.proposed = content.proposed;
  mark(work.clip, content.state);
  if (work !== desk) return;
  if (work.reverse === null && proposed) draw("reverse");
  showProblems();
}

// ---- The list of clips

function mark(clip, state) {
  const line = setup.clips.find((line) => line.clip === clip);
  markLine(line, state, STATES[state]);
  const number = (state) => setup.clips.filter((line) => line.state === state).length;
  at("counts").textContent =
    `${number("whole")} of ${setup.clips.length} clips whole, ${number("begun")} begun, ${number("problems")} with problems`;
}

async function start() {
  try {
    setup = await ask("/api/clips");
  } catch (error) {
    say(error.message, true);
    return;
  }
  at("who").textContent = `by ${setup.annotator};`;
  for (const line of setup.clips) {
    addLine(line, line.clip);
    mark(line.clip, line.state);
  }
  for (const [letter, direction] of Object.entries(LETTERS)) {
    const button = make("button", "", `${ARROWS[direction]} ${direction} `);
    button.type = "button";
    button.append(make("kbd", "", letter));
    button.addEventListener("click", () => add("forward", direction));
    at("marks").append(button);
  }
  addEventListener("hashchange", openAsked);
  openAsked();
}

function openAsked() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const line = setup.clips.find((line) => line.clip === asked);
  open(line ?? setup.clips.find((line) => line.state !== "whole") ?? setup.clips[0]);
}

async function open(line) {
  wanted = line;
  if (desk?.saving) await desk.saving;
  if (line !== wanted || desk?.clip === line.clip) return;
  if (desk?.dirty) {
    location.hash = encodeURIComponent(desk.clip);
    return;
  }
  let content;
  try {
    content = await ask(clipPath(line.clip));
  } catch (error) {
    content = { error: error.message };
  }
  if (line !== wanted) return;
  document.title = `${line.clip}: routes`;
  showHead(setup.clips, line, `${line.scene}; ${line.duration_s.toFixed(1)} s`, content.error);
  desk = undefined;
  if (content.error) return;
  desk = { ...content, clip: line.clip, line };
  showClip(line);
  draw("forward");
  draw("reverse");
  showProblems();
  showTime();
}

// ---- The steps

function steps(way) {
  return way === "forward" ? desk.forward : desk.reverse ?? desk.proposed;
}

// The steps of a way, to be changed: the first change of a proposed way back makes it the annotator's own.
function ownSteps(way) {
  if (way === "reverse" && desk.reverse === null) {
    desk.reverse = desk.proposed.map((step) => ({ ...step }));
    showWhose();
  }
  return steps(way);
}

function sort(way) {
  const sign = way === "forward" ? 1 : -1;
  ownSteps(way).sort((a, b) => sign * (a.time_s - b.time_s));
}

function add(way, direction) {
  stop();
  const step = { direction, landmark: "", action: "", time_s: playerTime() };
  ownSteps(way).push(step);
  sort(way);
  draw(way);
  rows(way)[steps(way).indexOf(step)].querySelector(".landmark").focus();
  changed();
}

function retime(way, k, time) {
  const step = ownSteps(way)[k];
  step.time_s = time;
  sort(way);
  draw(way);
  changed();
}

function rows(way) {
  return [...at(way).querySelectorAll(".step")];
}

function draw(way) {
  at(way).querySelector(".steps").replaceChildren(...steps(way).map((step, k) => rowOf(way, step, k)));
  if (way === "forward") drawTicks(desk.forward);
  else showWhose();
  showTime();
}

function rowOf(way, step, k) {
  const row = at("step").content.cloneNode(true).firstElementChild;
  const part = (name) => row.querySelector(`.${name}`);
  row.time = step.time_s;
  for (const direction of setup.directions) {
    part("direction").append(new Option(`${ARROWS[direction]} ${direction}`, direction));
  }
  part("time").value = step.time_s;
  part("time").addEventListener("change", (event) => {
    const time = event.target.valueAsNumber;
    if (Number.isFinite(time)) retime(way, k, time);
    else event.target.value = steps(way)[k].time_s;
  });
  for (const name of ["direction", "landmark", "action"]) {
    part(name).value = step[name];
    part(name).addEventListener("input", (event) => {
      ownSteps(way)[k][name] = event.target.value;
      changed();
    });
  }
  for (const name of ["landmark", "action"]) part(name).maxLength = setup.longest_text;
  part("go").addEventListener("click", () => { stop(); goTo(steps(way)[k].time_s); });
  part("take").addEventListener("click", () => retime(way, k, playerTime()));
  part("drop").addEventListener("click", () => {
    ownSteps(way).splice(k, 1);
    draw(way);
    changed();
  });
  return row;
}

function showWhose() {
  const own = desk.reverse !== null;
  at("whose").textContent = own ? "Times descend. Yours." : "Times descend. Proposed from the forward steps.";
  at("propose").hidden = !own;
}

function showProblems() {
  for (const way of ["forward", "reverse"]) {
    const shown = rows(way);
    for (const row of shown) {
      row.classList.remove("bad");
      row.querySelector(".problems").replaceChildren();
    }
    at(way).querySelector(":scope > .problems").replaceChildren();
  }
  for (const { way, step, name, message } of desk.problems) {
    const row = step === null ? undefined : rows(way)[step];
    row?.classList.add("bad");
    const line = document.createElement("li");
    line.append(make("b", "", name), ` ${message}`);
    (row ?? at(way)).querySelector(".problems").append(line);
  }
}

// ---- Keys and buttons

function fieldKey(event, field) {
  const row = field.closest(".step");
  if (isHeld(event) || (event.key !== "Escape" && event.key !== "Enter")) return;
  event.preventDefault();
  const next = event.key === "Enter" && row && { direction: "landmark", landmark: "action" }[field.className];
  if (next) row.querySelector(`.${next}`).focus();
  else field.blur();
}

takeKeys("input:not([type=range]), select", fieldKey, ({ key, shiftKey }) => {
  if (key in WAYS) return () => goToNeighbour(setup.clips, wanted, WAYS[key]);
  if (!desk) return undefined;
  const direction = LETTERS[key.toLowerCase()];
  return direction ? () => add(shiftKey ? "reverse" : "forward", direction) : PLAYER_KEYS[key];
});

at("propose").addEventListener("click", () => {
  desk.reverse = null;
  draw("reverse");
  changed();
});
addEventListener("beforeunload", (event) => {
  if (desk?.dirty || desk?.saving) event.preventDefault();
});

start();
