// "Try it": sends a request to the API from a dialog, with the key that the user enters. Only this page has the key.

const dialog = document.getElementById("try");
const form = dialog.querySelector("form");
const key = document.getElementById("try-key");
const result = dialog.querySelector("section");
const statusLine = result.querySelector("[role=status]");
const output = result.querySelector("pre");
const documented = Array.from(document.querySelectorAll("[id^=header-]"), (header) => header.id.slice("header-".length));
let operation;
let pending; // the AbortController of a request

function clearResult() {
  pending?.abort();
  pending = undefined;
  result.hidden = true;
  statusLine.textContent = output.textContent = "";
}

function open(button) {
  if (operation !== button) {
    operation = button;
    const section = button.closest("section");
    document.getElementById("try-title").textContent = section.querySelector("h3").textContent;
    form.querySelector(".request").replaceChildren(section.querySelector(".endpoint").cloneNode(true));
    const fields = document.getElementById(`try-${button.dataset.try}`).content;
    form.querySelector(".parameters").replaceChildren(fields.cloneNode(true));
  }
  dialog.showModal();
}

function buildRequest() {
  const query = new URLSearchParams();
  const headers = new Headers({ Accept: "application/json" });
  let path = operation.dataset.path;
  let body;
  for (const [field, value] of new FormData(form)) {
    const [location, name] = field.split(":");
    if (value === "") continue;
    if (location === "path") path = path.replace(`{${name}}`, encodeURIComponent(value));
    if (location === "query") query.append(name, value);
    if (location === "header") headers.set(name, value);
    if (location === "body") {
      body = value;
      headers.set("Content-Type", "application/json");
    }
  }
  if (key.value.trim()) headers.set("Authorization", `Bearer ${key.value.trim()}`);
  const search = query.toString();
  const { method } = operation.dataset;
  return new Request(search ? `${path}?${search}` : path, { method, headers, body, credentials: "omit", redirect: "error" });
}

function formatBody(text) {
  try {
    return JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    return text; // empty, or from a proxy
  }
}

async function send() {
  clearResult();
  const { signal } = (pending = new AbortController());
  result.hidden = false;
  statusLine.textContent = "Sending…";
  try {
    const response = await fetch(buildRequest(), { signal });
    const body = formatBody(await response.text());
    const headers = documented.filter((name) => response.headers.has(name));
    const lines = headers.map((name) => `${name}: ${response.headers.get(name)}`);
    statusLine.textContent = `${response.status} ${response.statusText}`;
    output.textContent = [...lines, "", body].join("\n").trimEnd();
    result.scrollIntoView();
  } catch {
    if (signal.aborted) return; // the dialog was closed
    statusLine.textContent = "The request could not be sent. Check the key, the values and your connection.";
  }
  pending = undefined;
}

for (const button of document.querySelectorAll("[data-try]")) {
  button.hidden = false;
  button.addEventListener("click", () => open(button));
}
form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (!pending) send();
});
dialog.querySelector("[data-close]").addEventListener("click", () => dialog.close());
dialog.addEventListener("close", clearResult);

// The back/forward cache must keep neither the key nor a response, which may have a new secret.
addEventListener("pagehide", () => {
  key.value = "";
  clearResult();
  dialog.close();
});
