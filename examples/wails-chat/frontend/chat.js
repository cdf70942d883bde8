// The page: everything that it knows comes from window.go.main.Chat (chat.go) and the "piece" events.
// Enter sends, Shift-Enter breaks the line, Escape stops an answer, Alt-1 to Alt-9 pick a model.
"use strict";

const chat = window.go.main.Chat;
const $ = (id) => document.getElementById(id);
let answering = null; // the bubble that pieces go to

function add(kind, text) {
  const element = document.createElement("div");
  element.className = kind.startsWith("note") ? kind : `turn ${kind}`;
  element.textContent = text;
  document.querySelector(".hint")?.remove();
  $("log").append(element);
  follow(true);
  return element;
}

// Keeps the end in view, unless somebody reads further up.
function follow(always) {
  const log = $("log");
  if (always || log.scrollHeight - log.scrollTop - log.clientHeight < 80) log.scrollTop = log.scrollHeight;
}

function keep() {
  const lines = [...document.querySelectorAll("#log > :not(.hint)")].map((element) =>
    element.classList.contains("turn")
      ? `${element.classList.contains("user") ? "user" : "assistant"}: ${element.textContent}\n`
      : `(${element.textContent})\n`);
  const picked = document.querySelector(".model[aria-selected=true] b");
  return chat.Keep(`model: ${picked ? picked.textContent : "none"}\n` + lines.join(""));
}

function describe(model) {
  if (model.why) return model.why;
  const count = model.parameters >= 1e9 ? `${(model.parameters / 1e9).toFixed(1)} B` : `${(model.parameters / 1e6).toFixed(1)} M`;
  const size = model.megabytes >= 1000 ? `${(model.megabytes / 1000).toFixed(1)} GB` : `${model.megabytes.toFixed(1)} MB`;
  return `${model.family} · ${count} · ${model.bits ? `${model.bits} bits · ` : ""}${size}`;
}

async function list() {
  $("models").replaceChildren();
  try {
    for (const model of await chat.Models()) {
      const entry = document.createElement("button");
      entry.className = "model";
      entry.setAttribute("role", "option");
      entry.disabled = model.why !== "";
      entry.title = model.path;
      const name = document.createElement("b"), details = document.createElement("span");
      name.textContent = model.name;
      details.textContent = describe(model);
      entry.append(name, details);
      entry.onclick = () => use(model, entry);
      $("models").append(entry);
    }
    if (!$("models").children.length) $("state").textContent = "No models here: pick another folder";
    keep();
  } catch (error) {
    $("state").textContent = String(error);
  }
}

async function use(model, entry) {
  $("state").textContent = `Loading ${model.name}…`;
  try {
    await chat.Use(model.path);
    for (const other of document.querySelectorAll(".model")) other.setAttribute("aria-selected", other === entry);
    $("log").replaceChildren();
    $("state").textContent = model.name;
    $("speed").textContent = "";
    keep();
  } catch (error) {
    $("state").textContent = String(error);
  }
  $("text").focus();
}

async function send() {
  const text = $("text").value.trim();
  if (!text || answering) return;
  $("text").value = "";
  grow();
  add("user", text);
  answering = add("assistant running", "");
  busy(true);
  try {
    const answer = await chat.Send(text);
    const how = answer.stopped ? "stopped, " : "";
    const speed = `${answer.tokensPerSecond.toFixed(0)} tokens/s`;
    add("note", `${how}${answer.tokens} tokens, first after ${answer.firstToken.toFixed(0)} ms, ${speed}`);
    $("speed").textContent = speed;
  } catch (error) {
    add("note failed", String(error));
  }
  if (!answering.textContent) answering.remove();
  answering.classList.remove("running");
  answering = null;
  busy(false);
  keep();
}

function busy(is) {
  $("send").hidden = is;
  $("stop").hidden = !is;
}

function grow() {
  $("text").style.height = "auto";
  $("text").style.height = `${$("text").scrollHeight + 2}px`;
}

window.runtime.EventsOn("piece", (piece) => {
  if (!answering) return;
  answering.append(piece.text);
  if (piece.tokensPerSecond) $("speed").textContent = `${piece.tokensPerSecond.toFixed(0)} tokens/s`;
  follow(false);
});
$("ask").onsubmit = (event) => { event.preventDefault(); send(); };
$("stop").onclick = () => chat.Stop();
$("folder").onclick = async () => { if (await chat.ChooseFolder()) list(); };
$("text").oninput = grow;
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape") chat.Stop();
  else if (event.key === "Enter" && !event.shiftKey && event.target === $("text")) { event.preventDefault(); send(); }
  else if (event.altKey && event.key >= "1" && event.key <= "9") document.querySelectorAll(".model")[event.key - 1]?.click();
  else return;
});
list();
