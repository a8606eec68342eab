// Requests to the server, and the reader's name.

export class Refusal extends Error {
  constructor(status, words) {
    super(words);
    this.status = status;
  }
}

// The response, or its message as an error.
export async function answered(response) {
  if (response.ok) return response;
  const text = await response.text();
  let words = text;
  try {
    words = JSON.parse(text).error ?? text;
  } catch {
    // Not JSON: the body is the message.
  }
  throw new Refusal(response.status, words || `the server answered ${response.status}`);
}

async function ask(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch {
    throw new Refusal(0, "the server does not answer; decisions that you make now are not saved");
  }
  return answered(response);
}

export const getJson = async (path) => (await ask(path)).json();

export const getBytes = async (path) => (await ask(path)).arrayBuffer();

export async function post(path, body) {
  const headers = { "Content-Type": "application/json", "X-PE-Unified": "1" };
  const response = await ask(path, { method: "POST", headers, body: JSON.stringify(body) });
  return response.json();
}

const STORED = "pe-unified-reader";

export const knownReader = () => localStorage.getItem(STORED) ?? "";

// The reader's name, asked for once; `anew` asks again.
export function askReader(anew = false) {
  const known = knownReader();
  if (known && !anew) return Promise.resolve(known);
  const dialog = document.getElementById("who");
  const input = dialog.querySelector("input");
  input.value = known;
  return new Promise((resolve) => {
    dialog.addEventListener(
      "close",
      () => {
        const name = input.value.trim();
        if (dialog.returnValue === "ok" && name) localStorage.setItem(STORED, name);
        resolve(knownReader());
      },
      { once: true },
    );
    dialog.returnValue = ""; // that of an earlier name stays when the dialog is cancelled
    dialog.showModal();
    input.select();
  });
}

// An element with properties and children; strings become text nodes.
export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("aria-") || name.startsWith("data-")) element.setAttribute(name, value);
    else if (value !== undefined) element[name] = value;
  }
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

let hiding;

// A message at the foot of the page; errors stay until they are clicked away.
export function tell(words, kind = "news") {
  const line = document.getElementById("news");
  line.textContent = words;
  line.className = kind;
  line.hidden = !words;
  clearTimeout(hiding);
  if (kind === "news") hiding = setTimeout(() => (line.hidden = true), 3000);
}

export const failed = (error) => tell(error.message, "error");

export function age(created) {
  const minutes = Math.max(0, (Date.now() - Date.parse(created)) / 60000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${Math.floor(minutes)} min`;
  if (minutes < 48 * 60) return `${Math.floor(minutes / 60)} h`;
  return `${Math.floor(minutes / 1440)} d`;
}
