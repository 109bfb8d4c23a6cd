// The pages work without this. It copies, confirms, and keeps times and the quota fresh.
"use strict";

const all = (selector, root = document) => Array.from(root.querySelectorAll(selector));

// ---- times, relative to now and in the reader's zone ----

const relative = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const exact = new Intl.DateTimeFormat("en-GB", {
  day: "numeric", month: "short", year: "numeric", hour: "2-digit", minute: "2-digit", timeZoneName: "short",
});
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];

function inWords(seconds) {
  for (const [unit, length] of UNITS) {
    const count = Math.trunc(Math.abs(seconds) / length);
    if (count) return relative.format(seconds < 0 ? -count : count, unit);
  }
  return seconds > 0 ? "in a moment" : "just now";
}

function tellTimes(root = document) {
  for (const time of all("time[data-moment]", root)) {
    const at = new Date(time.dateTime);
    if (time.dataset.moment === "exact") {
      time.textContent = exact.format(at);
    } else {
      time.textContent = inWords((at - Date.now()) / 1000);
      time.title = exact.format(at);
    }
  }
}

tellTimes();
setInterval(tellTimes, 30000);

// ---- a form is sent once, however often it is clicked ----

for (const form of all("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.sent) event.preventDefault();
    form.dataset.sent = "yes";
  });
}
addEventListener("pageshow", () => all("form[data-once]").forEach((form) => delete form.dataset.sent));

// ---- menus and the folded navigation ----

for (const menu of all("details.menu")) {
  document.addEventListener("click", (event) => {
    if (!menu.contains(event.target)) menu.open = false;
  });
  menu.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && menu.open) {
      menu.open = false;
      menu.querySelector("summary").focus();
    }
  });
}
const narrow = matchMedia("(max-width: 52rem)");
const fold = () => all("details[data-folds]").forEach((details) => { details.open = !narrow.matches; });
narrow.addEventListener("change", fold);
fold();

// ---- the date of one's own ----

const ownDate = document.getElementById("id_expires_on");
if (ownDate) {
  ownDate.addEventListener("input", () => { document.querySelector("input[name=expiry][value=date]").checked = true; });
}

// ---- a link to a confirmation opens it in place ----

for (const link of all("a[data-dialog]")) {
  const dialog = document.getElementById(link.dataset.dialog);
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.showModal();
  });
  all("[data-close]", dialog).forEach((close) => close.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
  }));
  dialog.addEventListener("close", () => link.focus());
}

// ---- copying ----

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
  return true;
}

for (const button of all("button[data-copy]")) {
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(document.getElementById(button.dataset.copy));
    const said = document.querySelector("[data-said]");
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
    said.textContent = "";
    requestAnimationFrame(() => { said.textContent = copied ? "Copied to the clipboard." : "Selected: press Ctrl-C to copy."; });
    setTimeout(() => { button.textContent = label; }, 2500);
  });
}

// ---- the secret: a dialog that closes only by "I have stored it", and leaves nothing behind ----

const page = document.querySelector("[data-secret-dialog]");
if (page) {
  const home = page.dataset.home;
  // Reloading or coming back to this place in the history asks for the list, and sends no form again.
  history.replaceState(null, "", home);
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", page.getAttribute("aria-labelledby"));
  dialog.setAttribute("closedby", "none");
  page.removeAttribute("aria-labelledby");
  page.before(dialog);
  dialog.append(page);
  const open = () => {
    dialog.showModal();
    page.querySelector("h1").focus();
  };
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => { if (page.isConnected) open(); });
  const forget = () => { page.remove(); };
  page.querySelector("[data-stored]").addEventListener("click", (event) => {
    event.preventDefault();
    forget();
    location.replace(home);
  });
  addEventListener("pagehide", forget);
  addEventListener("pageshow", (event) => { if (event.persisted) location.replace(home); });
  open();
}

// ---- the quota, kept fresh while someone looks ----

for (const tile of all("[data-refresh]")) {
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const answer = await fetch(tile.dataset.refresh, { headers: { Accept: "text/html" }, redirect: "error" });
      if (answer.ok) tile.innerHTML = await answer.text();
    } catch {
      // Away for the moment; the next round tells.
    }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
}
