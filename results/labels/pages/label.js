"use strict";

const STATES = { open: "open", labelled: "✓ labelled" };

let setup; // the server's list of all routes, the aspects and their rubric
let desk; // the route that is shown: its line, its scores, the marked aspect
let wanted; // the line that was opened last

function mark(line, state) {
  markLine(line, state, STATES[state]);
  const done = setup.items.filter((other) => other.state === "labelled").length;
  at("counts").textContent = `${setup.rater}: ${done} of ${setup.items.length} labelled`;
  return done === setup.items.length;
}

const DONE = "saved. All are labelled: thank you. You may close this page, or change a score";

async function start() {
  try {
    setup = await ask("/api/items");
  } catch (error) {
    say(error.message, true);
    return;
  }
  at("nothing").hidden = setup.items.length > 0;
  for (const [aspect, meaning] of setup.rubric) at("meanings").append(make("dt", "", aspect), make("dd", "", meaning));
  for (const line of setup.items) addLine(line, `route ${line.id}`);
  for (const line of setup.items) mark(line, line.state);
  addEventListener("hashchange", openAsked);
  openAsked();
}

function openAsked() {
  const asked = decodeURIComponent(location.hash.slice(1));
  const line = setup.items.find((one) => `route ${one.id}` === asked);
  const first = line ?? setup.items.find((one) => one.state === "open") ?? setup.items[0];
  if (first) open(first);
}

async function open(line) {
  wanted = line;
  if (desk?.saving) await desk.saving;
  if (line !== wanted || desk?.line === line) return;
  let content;
  try {
    content = await ask(`/api/items/${line.id}`);
  } catch (error) {
    content = { error: error.message };
  }
  if (line !== wanted) return;
  showHead(setup.items, line, content.error ? "" : `asked ${content.way}`, content.error);
  desk = undefined;
  if (content.error) return;
  desk = { line, scores: content.scores ?? setup.aspects.map(() => null), marked: 0 };
  at("question").textContent = content.question;
  at("reference").textContent = content.reference;
  at("response").textContent = content.response;
  at("frames").replaceChildren(...content.frames.map(picture));
  if (!content.frames.length) at("frames").textContent = "The frames are not in this machine's cache.";
  showScores();
  scrollTo(0, 0);
}

function picture(data, k) {
  const image = make("img", "", "");
  image.src = `data:image/webp;base64,${data}`;
  image.alt = `frame ${k + 1}`;
  return image;
}

function showScores() {
  at("scores").replaceChildren(...setup.aspects.map((aspect, place) => {
    const row = make("div", place === desk.marked ? "marked" : "", "");
    row.append(make("b", "", aspect));
    for (let score = 0; score <= 5; score += 1) {
      const button = make("button", "", String(score));
      button.type = "button";
      button.setAttribute("aria-pressed", String(desk.scores[place] === score));
      button.setAttribute("aria-label", `${aspect} ${score}`);
      button.addEventListener("click", () => { desk.marked = place; give(score); });
      row.append(button);
    }
    return row;
  }));
}

function give(score) {
  if (!desk || desk.saving) return;
  desk.scores[desk.marked] = score;
  const open = desk.scores.indexOf(null);
  desk.marked = open >= 0 ? open : Math.min(desk.marked + 1, setup.aspects.length - 1);
  showScores();
  if (open < 0) {
    const work = desk;
    work.saving = save(work).finally(() => (work.saving = undefined));
  }
}

async function save(work) {
  const first = work.line.state === "open";
  say("saving …");
  try {
    await ask(`/api/items/${work.line.id}`, { scores: work.scores });
    say(mark(work.line, "labelled") ? DONE : "saved");
    if (first && work === desk) goToNextOpen(setup.items, work.line);
  } catch (error) {
    say(`NOT SAVED: ${error.refused ? error.message : "the server does not answer"}`, true);
  }
}

const showRubric = () => at("rubric").showModal();
const MARKS = { d: 0, l: 1, s: 2 };

takeKeys("#never", () => {}, ({ key }) => {
  if (key in WAYS) return () => goToNeighbour(setup.items, wanted, WAYS[key]);
  if (key === "r") return showRubric;
  if (desk && key in MARKS) return () => { desk.marked = MARKS[key]; showScores(); };
  return desk && /^[0-5]$/.test(key) ? () => give(Number(key)) : undefined;
});

const closeRubric = () => at("rubric").close();
at("shut").addEventListener("click", closeRubric);
at("rubric").addEventListener("keydown", (event) => {
  if (event.key !== "r") return;
  event.stopPropagation();
  closeRubric();
});
at("show-rubric").addEventListener("click", showRubric);

start();
