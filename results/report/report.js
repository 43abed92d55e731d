"use strict";
// Everything from a run is written as text (textContent, append), never as HTML; the page's policy forbids the rest.

const data = JSON.parse(document.getElementById("data").textContent);
const samples = data.samples;
const two = data.runs.length === 2;
const places = new Map(samples.map((sample, place) => [sample.id, place]));
const PER_PAGE = 100;
const MARKS = { right: "✓", wrong: "✗", partly: "◐", invalid: "?", unscored: "!", absent: "–" };
const OUTCOMES = {
  right: "right (100 %)",
  wrong: "wrong (0 %)",
  partly: "partly right (routes)",
  invalid: "no letter that was offered (counts as wrong)",
  unscored: "unscored",
  absent: "not in this run",
};
const HOW = {
  answer_tag: "its <answer>",
  declaration: "a sentence that says so",
  letter: "the letter alone",
  option_text: "the option's text",
  empty: "the reply is empty",
  truncated_think: "the thinking never ends",
  no_declaration: "no explicit answer",
  letter_not_offered: "a letter that was not offered",
  ambiguous: "several answers at once",
};
const CHANGES = {
  flips: "flips: what changed",
  gained: "B is better",
  lost: "B is worse",
  same: "the same score",
};

let shown = samples.map((_, place) => place);
let selected = -1;
let page = 0;

const $ = (id) => document.getElementById(id);

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
}

const link = (sample) => "#" + sample.id.split("/").map(encodeURIComponent).join("/");
const outcomeOf = (answered) => (answered ? answered.outcome : "absent");
const percent = (value) => (value === null ? "unscored" : `${Number.isInteger(value) ? value : value.toFixed(1)} %`);

// --- filters -------------------------------------------------------------------------------------------

const texts = new Map();

function textOf(place) {
  if (!texts.has(place)) {
    const sample = samples[place];
    const parts = [sample.id, sample.clip, sample.question, ...sample.options, sample.answer];
    for (const run of [sample.a, sample.b]) {
      if (!run) continue;
      parts.push(run.prompt, run.unscored, run.clip_error, ...run.response.map((piece) => piece[1]));
      if (run.judged) parts.push(run.judged.text);
    }
    texts.set(place, parts.filter(Boolean).join("\n").toLowerCase());
  }
  return texts.get(place);
}

function changeOf(sample) {
  if (sample.change === null) return sample.a && sample.b && sample.a.outcome !== sample.b.outcome ? ["flips"] : [];
  if (sample.change === 0) return ["same"];
  return ["flips", sample.change > 0 ? "gained" : "lost"];
}

function applyFilters() {
  const value = (id) => ($(id) ? $(id).value : "");
  const words = value("text").toLowerCase().split(/\s+/).filter(Boolean);
  shown = [];
  samples.forEach((sample, place) => {
    if (value("task") && sample.task !== value("task")) return;
    if (value("source") && sample.source !== value("source")) return;
    if (value("outcome-a") && outcomeOf(sample.a) !== value("outcome-a")) return;
    if (value("outcome-b") && outcomeOf(sample.b) !== value("outcome-b")) return;
    if (value("change") && !changeOf(sample).includes(value("change"))) return;
    if (words.length && !words.every((word) => textOf(place).includes(word))) return;
    shown.push(place);
  });
}

function filterChanged() {
  applyFilters();
  page = 0;
  // The sample that is shown is one of those that are listed, if any is.
  if (shown.length && !shown.includes(selected)) selected = shown[0];
  drawList();
  if (shown.length) drawSample();
}

function clearFilters() {
  $("filters").reset();
  applyFilters();
}

function options(select, labels) {
  for (const [value, label] of Object.entries(labels)) select.append(el("option", { value }, label));
}

function fillFilters() {
  const distinct = (key) => [...new Set(samples.map((sample) => sample[key]))].sort();
  options($("task"), Object.fromEntries(distinct("task").map((task) => [task, task])));
  options($("source"), Object.fromEntries(distinct("source").map((source) => [source, source])));
  for (const run of two ? ["a", "b"] : ["a"]) {
    const found = new Set(samples.map((sample) => outcomeOf(sample[run])));
    const labels = Object.entries(OUTCOMES).filter(([outcome]) => found.has(outcome));
    options($("outcome-" + run), Object.fromEntries(labels));
  }
  if (two) options($("change"), CHANGES);
  $("filters").addEventListener("submit", (event) => event.preventDefault());
  $("filters").addEventListener("input", filterChanged);
  $("filters").addEventListener("reset", () => setTimeout(filterChanged));
}

// --- the list ------------------------------------------------------------------------------------------

function mark(answered) {
  const outcome = outcomeOf(answered);
  return el("span", { class: `mark ${outcome}`, title: OUTCOMES[outcome] }, MARKS[outcome]);
}

function drawList() {
  const pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
  page = Math.min(page, pages - 1);
  $("count").textContent = `${shown.length} of ${samples.length} samples`;
  const rows = shown.slice(page * PER_PAGE, (page + 1) * PER_PAGE).map((place) => {
    const sample = samples[place];
    const current = place === selected ? "true" : null;
    return el(
      "li",
      {},
      el(
        "a",
        { href: link(sample), "aria-current": current, "data-place": place },
        mark(sample.a),
        two ? mark(sample.b) : null,
        el("span", { class: "id" }, sample.id),
        el("span", { class: "asked" }, sample.question || "(the question was not recorded)"),
      ),
    );
  });
  $("list").replaceChildren(...rows);
  $("page").textContent = pages > 1 ? `page ${page + 1} of ${pages}` : "";
  $("earlier").hidden = $("later").hidden = pages === 1;
  $("earlier").disabled = page === 0;
  $("later").disabled = page === pages - 1;
}

function turn(step) {
  page += step;
  drawList();
  $("list").scrollTop = 0;
}

function scrollToCurrent() {
  const row = $("list").querySelector('[aria-current="true"]');
  if (!row) return;
  // Only the list scrolls, never the page.
  const list = $("list");
  const top = row.offsetTop - list.offsetTop;
  if (top < list.scrollTop) list.scrollTop = top;
  if (top + row.offsetHeight > list.scrollTop + list.clientHeight) {
    list.scrollTop = top + row.offsetHeight - list.clientHeight;
  }
}

// --- one sample ----------------------------------------------------------------------------------------

function frames(run, label) {
  const seen = run && run.frames;
  if (!seen) {
    const why = run && run.clip_error ? run.clip_error : "No frames were recorded.";
    return el("p", { class: "absent" }, label, why);
  }
  const pictures = data.frames[seen.sha];
  const told = `${label}${seen.protocol}: ${seen.told}; SHA-256 of the pixels ${seen.sha.slice(0, 12)}…`;
  if (!pictures) {
    const times = seen.times.map((time) => `${time} s`).join(", ");
    return el("p", { class: "absent" }, `${data.absent[seen.sha]} Frames at ${times}. `, el("small", {}, told));
  }
  const shownFrames = pictures.map((picture, number) =>
    el(
      "figure",
      {},
      el("img", {
        src: "data:image/webp;base64," + picture,
        alt: `frame ${number + 1} of ${pictures.length}, at ${seen.times[number]} s`,
      }),
      el("figcaption", {}, `${seen.times[number]} s`, el("small", {}, ` frame ${seen.indices[number]}`)),
    ),
  );
  return el("div", {}, el("div", { class: "frames" }, ...shownFrames), el("p", { class: "told" }, told));
}

function optionList(sample) {
  if (!sample.options.length) {
    return el("p", { class: "absent" }, `The options were not recorded (an older run); the right one is ${sample.answer}.`);
  }
  const rows = sample.options.map((text, number) => {
    const letter = "ABCDEFGHIJ"[number];
    const tags = [];
    if (letter === sample.answer) tags.push(el("span", { class: "tag right" }, "right"));
    for (const run of ["a", "b"]) {
      if (!sample[run] || sample[run].letter !== letter) continue;
      const name = two ? `chosen by ${run.toUpperCase()}` : "chosen";
      tags.push(el("span", { class: `tag ${letter === sample.answer ? "right" : "wrong"}` }, name));
    }
    const style = letter === sample.answer ? "right" : tags.length ? "wrong" : null;
    return el("li", { class: style }, el("b", {}, letter + ". "), text, " ", ...tags);
  });
  return el("ul", { class: "options" }, ...rows);
}

function responseOf(run) {
  const pieces = run.response.map(([thinking, text]) =>
    thinking
      ? el("details", {}, el("summary", {}, `thinking (${text.length} characters)`), el("pre", {}, text))
      : text.trim()
        ? el("pre", {}, text)
        : null,
  );
  if (!pieces.some(Boolean)) return [el("p", { class: "absent" }, "The response is empty.")];
  return pieces;
}

function judgedBy(judged) {
  if (judged.failure) {
    return el(
      "div",
      { class: "judged" },
      el("p", {}, `${judged.judge} gave no score: ${judged.failure}. It said:`),
      el("pre", {}, judged.text || "(nothing)"),
    );
  }
  const [direction, landmark, semantic] = judged.scores;
  const told = `${judged.judge}: direction ${direction}, landmark ${landmark}, semantic ${semantic} of 5`;
  const again =
    judged.votes.length
      ? `The median of ${judged.votes.map(([judge, said]) => `${judge} ${Array.isArray(said) ? said.join("/") : said}`).join(", ")}.`
      : judged.repeats.length > 1 ? `Judged ${judged.repeats.length} times: ${judged.repeats.map((s) => s.join("/")).join(", ")}.` : null;
  return el("div", { class: "judged" }, el("p", {}, told), again && el("p", {}, again), el("pre", {}, judged.text));
}

function answerOf(sample, name) {
  const run = sample[name];
  const title = two ? `${name.toUpperCase()}: ${data.runs[name === "a" ? 0 : 1]}` : "Response";
  if (!run) return el("section", { class: "answer" }, el("h4", {}, title), el("p", { class: "absent" }, "This run does not have the sample."));
  const verdict = run.unscored ? `unscored: ${run.unscored}` : percent(run.percent);
  const compat = run.compat === run.percent ? null : `by the reference's rules ${percent(run.compat)}`;
  const read = run.how ? (run.letter ? `read as ${run.letter} from ${HOW[run.how]}` : HOW[run.how]) : null;
  const told = [verdict, compat, read].filter(Boolean).join(" · ");
  const facts = [];
  if (run.generation) {
    const made = run.generation;
    facts.push(made.engine);
    if (made.finish) facts.push(`finish: ${made.finish}`);
    if (made.truncated) facts.push("cut where its room ended");
    ["prompt", "reply", "video"].forEach((kind, k) => {
      if (made.tokens[k] !== null) facts.push(`${made.tokens[k]} ${kind} tokens`);
    });
    if (made.failure) facts.push(made.failure);
  }
  return el(
    "section",
    { class: "answer" },
    el("h4", {}, mark(run), " ", title),
    el("p", { class: `verdict ${run.outcome}` }, told),
    run.clip_error ? el("p", { class: "absent" }, run.clip_error) : null,
    ...responseOf(run),
    run.judged ? judgedBy(run.judged) : null,
    facts.length ? el("p", { class: "told" }, facts.join(" · ")) : null,
  );
}

function promptOf(sample) {
  const prompts = [...new Set([sample.a, sample.b].filter(Boolean).map((run) => run.prompt))];
  return el(
    "details",
    {},
    el("summary", {}, prompts.length > 1 ? "the prompts as they were asked (they differ)" : "the prompt as it was asked"),
    ...prompts.map((prompt) => el("pre", {}, prompt)),
  );
}

function drawSample() {
  const sample = samples[selected];
  const both = [sample.a, sample.b].filter(Boolean);
  const alike = both.every((run) => run.frames && both[0].frames && run.frames.sha === both[0].frames.sha);
  const seen = alike
    ? [frames(both[0], "")]
    : both.map((run) => frames(run, two ? (run === sample.a ? "A: " : "B: ") : ""));
  const place = shown.indexOf(selected);
  const change = sample.change
    ? el("span", { class: `tag ${sample.change > 0 ? "right" : "wrong"}` }, `${sample.change > 0 ? "+" : "−"}${Math.abs(sample.change).toFixed(0)} points`)
    : null;
  const parts = [
    el("h3", {}, el("a", { href: link(sample), title: "link to this sample" }, sample.id), " ", change),
    el("p", { class: "told" }, `${sample.task} · ${sample.source} · ${sample.clip} · ${place + 1} of ${shown.length}`),
    ...seen,
    !alike && both.length === 2 ? el("p", { class: "warning" }, "The two runs did not see the same frames.") : null,
    el("p", { class: "question" }, sample.question || "The question was not recorded (an older run); it stands in the prompt."),
    sample.route
      ? el("div", { class: "reference" }, el("h4", {}, "Reference"), el("pre", {}, sample.answer))
      : optionList(sample),
    el("div", { class: two ? "answers two" : "answers" }, answerOf(sample, "a"), two ? answerOf(sample, "b") : null),
    promptOf(sample),
  ];
  $("sample").replaceChildren(...parts.filter(Boolean));
}

function select(place) {
  selected = place;
  let found = shown.indexOf(place);
  if (found < 0) {
    clearFilters();
    found = place;
  }
  page = Math.floor(found / PER_PAGE);
  drawList();
  drawSample();
  scrollToCurrent();
}

// --- ways around ---------------------------------------------------------------------------------------

function followLink() {
  let id;
  try {
    id = decodeURIComponent(location.hash.slice(1));
  } catch {
    id = location.hash.slice(1);
  }
  $("lost").hidden = true;
  if (places.has(id)) {
    select(places.get(id));
    $("browser").scrollIntoView();
    return true;
  }
  if (id.includes("/")) {
    $("lost").textContent = `This report has no sample ${id}.`;
    $("lost").hidden = false;
    $("browser").scrollIntoView();
  }
  return false;
}

function step(by) {
  if (!shown.length) return;
  const here = shown.indexOf(selected);
  const next = here < 0 ? 0 : Math.min(Math.max(here + by, 0), shown.length - 1);
  location.replace(link(samples[shown[next]]));
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape" && event.target.matches("input, select")) event.target.blur();
  if (event.target.matches("input, select, textarea")) return;
  const keys = { j: () => step(1), k: () => step(-1), "/": () => $("text").focus(), "?": () => $("help").showModal() };
  if (!(event.key in keys) || $("help").open) return;
  event.preventDefault();
  keys[event.key]();
}

fillFilters();
$("earlier").addEventListener("click", () => turn(-1));
$("later").addEventListener("click", () => turn(1));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("keys").addEventListener("click", () => $("help").showModal());
$("close").addEventListener("click", () => $("help").close());
document.addEventListener("keydown", pressed);
window.addEventListener("hashchange", followLink);
// What one looks for in two runs, where there is any.
if (two && samples.some((sample) => changeOf(sample).includes("flips"))) $("change").value = "flips";
applyFilters();
if (!followLink() && samples.length) select(shown[0]);
document.documentElement.dataset.ready = "yes";
