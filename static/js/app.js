// Progressive enhancement: the pages also work without JavaScript.
"use strict";

const queryAll = (selector, root = document) => Array.from(root.querySelectorAll(selector));

// ---- times: relative to now, exact ones in the user's time zone ----

const relativeFormat = new Intl.RelativeTimeFormat("en", { numeric: "always" });
const clock = { hour: "2-digit", minute: "2-digit" };
const dateFormat = (options) => new Intl.DateTimeFormat("en-GB", options);
const dateFormats = {
  exact: dateFormat({ day: "numeric", month: "short", year: "numeric", ...clock, timeZoneName: "short" }),
  hour: dateFormat({ weekday: "short", day: "numeric", month: "short", ...clock }),
  weekday: dateFormat({ weekday: "short", ...clock }),
  clock: dateFormat(clock),
};
const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];

function formatRelative(seconds) {
  for (const [unit, length] of UNITS) {
    const count = Math.trunc(Math.abs(seconds) / length);
    if (count) return relativeFormat.format(seconds < 0 ? -count : count, unit);
  }
  return seconds > 0 ? "in a moment" : "just now";
}

function updateTimes(root = document) {
  for (const time of queryAll("time[data-moment]", root)) {
    const date = new Date(time.dateTime);
    if (time.dataset.moment === "relative") {
      time.textContent = formatRelative((date - Date.now()) / 1000);
      time.title = dateFormats.exact.format(date);
    } else {
      time.textContent = dateFormats[time.dataset.moment].format(date);
    }
  }
}

updateTimes();
setInterval(updateTimes, 30000);
for (const zone of queryAll("[data-time-zone]")) {
  zone.textContent = dateFormats.exact.formatToParts().find((part) => part.type === "timeZoneName").value;
}

// ---- forms: ignore every submit after the first ----

for (const form of queryAll("form[data-submit-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.dataset.submitted) event.preventDefault();
    form.dataset.submitted = "true";
  });
}
addEventListener("pageshow", () => queryAll("form[data-submit-once]").forEach((form) => delete form.dataset.submitted));

// ---- menus, and the form to edit a description ----

for (const details of queryAll("details.menu, details.edit")) {
  const close = () => { details.open = false; };
  details.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && details.open) {
      close();
      details.querySelector("summary").focus();
    }
  });
  if (details.matches(".menu")) {
    details.addEventListener("focusout", (event) => { if (event.relatedTarget && !details.contains(event.relatedTarget)) close(); });
    document.addEventListener("click", (event) => { if (!details.contains(event.target)) close(); });
  } else {
    details.addEventListener("toggle", () => {
      const input = details.querySelector("input[type=text]");
      if (!details.open) return;
      input.focus();
      input.setSelectionRange(input.value.length, input.value.length); // Browsers select all, or begin at the start.
    });
  }
}

const navigation = document.querySelector("nav[popover]");
if (navigation?.hidePopover) {
  const hide = () => { if (navigation.matches(":popover-open")) navigation.hidePopover(); };
  navigation.addEventListener("click", (event) => { if (event.target.closest("a")) hide(); });
  matchMedia("(max-width: 52rem)").addEventListener("change", hide);
}

// ---- custom date: typing a date selects its radio button, and choosing another one clears the date ----

const customDate = document.getElementById("id_expires_on");
if (customDate) {
  const radios = queryAll("input[name=expiry]");
  customDate.addEventListener("input", () => { radios.find((radio) => radio.value === "date").checked = true; });
  for (const radio of radios) radio.addEventListener("change", () => { if (radio.value !== "date") customDate.value = ""; });
}

// ---- confirmations: open in a dialog instead of on a page of their own ----

for (const link of queryAll("a[data-dialog]")) {
  const dialog = document.getElementById(link.dataset.dialog);
  link.setAttribute("aria-haspopup", "dialog");
  link.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.showModal();
  });
  queryAll("[data-close]", dialog).forEach((close) => close.addEventListener("click", (event) => {
    event.preventDefault();
    dialog.close();
  }));
  dialog.addEventListener("close", () => link.focus());
}

// ---- copy buttons ----

async function copy(element) {
  try {
    await navigator.clipboard.writeText(element.textContent);
  } catch {
    getSelection().selectAllChildren(element);
    return document.execCommand("copy");
  }
  return true;
}

for (const button of queryAll("button[data-copy]")) {
  const label = Array.from(button.childNodes);
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(document.getElementById(button.dataset.copy));
    const announcement = document.querySelector("[data-announcement]");
    button.textContent = copied ? "Copied" : "Press Ctrl-C or ⌘C";
    announcement.textContent = "";
    requestAnimationFrame(() => { announcement.textContent = copied ? "Copied to the clipboard." : "Text selected. Press Ctrl-C or Command-C to copy."; });
    setTimeout(() => { button.replaceChildren(...label); }, 2500);
    if (copied) button.dispatchEvent(new Event("copied", { bubbles: true }));
  });
}

// ---- what changes while the page is open: refreshed every 5 seconds while it is visible ----

for (const tile of queryAll("[data-refresh]")) {
  let shown = tile.innerHTML.trim();
  tile.hidden = false;
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(tile.dataset.refresh, { headers: { Accept: "text/html" }, redirect: "error" });
      const html = response.ok ? (await response.text()).trim() : shown;
      if (html !== shown) tile.innerHTML = shown = html;
      updateTimes(tile);
    } catch {
      // Network error: try again at the next refresh.
    }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
  addEventListener("focus", refresh);
}
