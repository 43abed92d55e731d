"use strict";

// Shared by the local pages: requests to the server, the list on the left, the player and the keys.

const ARROWS = { left: "←", right: "→", around: "↺", up: "↑", down: "↓", straight: "·" };
const NEAR_S = 0.25;

const TOKEN = new URLSearchParams(location.search).get("token");

const at = (id) => document.getElementById(id);
const video = at("video");
let shown; // the clip in the player: its file name, duration_s and frames_a_second
let backward; // { from, began } while the clip plays backward

// ---- The server

const withToken = (path) => `${path}?token=${encodeURIComponent(TOKEN)}`;

async function ask(path, body) {
  const options = body && {
    method: "PUT",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  };
  const reply = await fetch(withToken(path), options);
  const content = await reply.json();
  if (!reply.ok) throw Object.assign(new Error(content.error), { refused: true, problems: content.problems });
  return content;
}

function say(text, wrong = false) {
  at("saved").textContent = text;
  at("saved").classList.toggle("wrong", wrong);
}

function make(tag, name, text) {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

// ---- The list

function addLine(line, key) {
  line.link = document.createElement("a");
  line.link.href = `#${encodeURIComponent(key)}`;
  line.link.title = key;
  line.shown = make("span", "state", "");
  line.link.append(make("span", "clip", key), line.shown);
  const item = document.createElement("li");
  item.append(line.link);
  at("list").append(item);
}

function markLine(line, state, text) {
  line.state = state;
  line.shown.textContent = text;
  line.shown.className = `state ${state}`;
}

// Shows the head of a clip or item, with an empty player. error: why there is nothing to show.
function showHead(lines, line, facts, error = "") {
  stop();
  shown = undefined;
  for (const other of lines) other.link.toggleAttribute("aria-current", other === line);
  line.link.scrollIntoView({ block: "nearest" });
  at("name").textContent = line.link.title;
  at("facts").textContent = facts;
  at("broken").textContent = error;
  at("desk").hidden = Boolean(error);
  at("work").hidden = false;
  say("");
}

function goToNeighbour(lines, line, by) {
  const other = lines[lines.indexOf(line) + by];
  if (other) location.hash = other.link.hash;
}

// From the line on and round: nowhere, if no line is open.
function goToNextOpen(lines, line) {
  const here = lines.indexOf(line);
  const next = [...lines.slice(here + 1), ...lines.slice(0, here)].find((other) => other.state === "open");
  if (next) location.hash = next.link.hash;
}

// ---- The player

function stop() {
  backward = undefined;
  video.pause();
  showPlaying();
}

function play() {
  const playing = !video.paused;
  stop();
  if (!playing) video.play().then(showPlaying, () => {});
}

function playBack() {
  const playing = backward;
  stop();
  if (playing) return;
  backward = { from: video.currentTime || video.duration, began: performance.now() };
  showPlaying();
  passBack();
}

// Browsers refuse a negative rate, so the clip plays backward by seeking, at the clock's pace.
function passBack() {
  if (!backward) return;
  const time = backward.from - (performance.now() - backward.began) / 1000;
  video.currentTime = Math.max(0, time);
  if (time <= 0) stop();
}

function move(seconds) {
  stop();
  goTo(video.currentTime + seconds);
}

function goTo(seconds) {
  video.currentTime = Math.min(Math.max(0, seconds), shown.duration_s);
}

// Whole milliseconds, never beyond the clip's end.
function playerTime() {
  return Math.min(Math.round(video.currentTime * 1000), Math.floor(shown.duration_s * 1000)) / 1000;
}

function showPlaying() {
  at("play").textContent = video.paused ? "play ▶" : "stop ■";
  at("back").textContent = backward ? "■ stop" : "◀ back";
  at("play").setAttribute("aria-pressed", String(!video.paused));
  at("back").setAttribute("aria-pressed", String(Boolean(backward)));
}

function showTime() {
  if (!shown) return;
  at("now").textContent = `${video.currentTime.toFixed(2)} s`;
  at("seek").value = video.currentTime;
  for (const row of document.querySelectorAll(".step")) {
    row.classList.toggle("here", Math.abs(row.time - video.currentTime) < NEAR_S);
  }
}

function follow() {
  showTime();
  if (!video.paused) requestAnimationFrame(follow);
}

video.addEventListener("play", () => { showPlaying(); follow(); });
video.addEventListener("pause", showPlaying);
video.addEventListener("timeupdate", showTime);
video.addEventListener("seeked", () => { showTime(); if (backward) requestAnimationFrame(passBack); });
video.addEventListener("error", () => { at("broken").textContent = "The browser cannot play this clip."; });

function showClip(clip) {
  shown = clip;
  at("seek").max = clip.duration_s;
  video.src = withToken(`/clips/${encodeURIComponent(clip.clip)}`);
}

function drawTicks(steps) {
  const ticks = steps.map((step) => {
    const tick = document.createElement("i");
    tick.style.left = `${(100 * step.time_s) / shown.duration_s}%`;
    return tick;
  });
  at("ticks").replaceChildren(...ticks);
}

// The same on both pages: the next clip or item, and the one before.
const WAYS = { j: 1, n: 1, k: -1, p: -1 };

const PLAYER_KEYS = {
  " ": play,
  b: playBack,
  ",": () => move(-1 / shown.frames_a_second),
  ".": () => move(1 / shown.frames_a_second),
  ArrowLeft: () => move(-0.5),
  ArrowRight: () => move(0.5),
};

at("play").addEventListener("click", play);
at("back").addEventListener("click", playBack);
at("before").addEventListener("click", PLAYER_KEYS[","]);
at("after").addEventListener("click", PLAYER_KEYS["."]);
at("seek").addEventListener("input", (event) => { stop(); goTo(event.target.valueAsNumber); });

// ---- Keys

const showKeys = () => at("keys").showModal();
const isHeld = (event) => event.ctrlKey || event.metaKey || event.altKey;

// fields: selector of the elements whose keys inField handles; actOf: the action of any other key.
function takeKeys(fields, inField, actOf) {
  addEventListener("keydown", (event) => {
    if (document.querySelector("dialog[open]")) return;
    const field = event.target.closest(fields);
    if (field) {
      inField(event, field);
      return;
    }
    if (isHeld(event)) return;
    if ((event.key === " " || event.key === "Enter") && event.target.closest("button, a")) return;
    const act = event.key === "?" ? showKeys : actOf(event);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

at("help").addEventListener("click", showKeys);
at("close").addEventListener("click", () => at("keys").close());
