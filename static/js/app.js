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

// ---- menus, and the navigation that collapses on narrow screens ----

for (const menu of queryAll("details.menu")) {
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
const narrowScreen = matchMedia("(max-width: 52rem)");
const collapse = () => queryAll("details[data-collapsible]").forEach((details) => { details.open = !narrowScreen.matches; });
narrowScreen.addEventListener("change", collapse);
collapse();

// ---- custom date: typing a date selects its radio button ----

const customDate = document.getElementById("id_expires_on");
if (customDate) {
  customDate.addEventListener("input", () => { document.querySelector("input[name=expiry][value=date]").checked = true; });
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
  const label = button.textContent;
  button.hidden = false;
  button.addEventListener("click", async () => {
    const copied = await copy(document.getElementById(button.dataset.copy));
    const announcement = document.querySelector("[data-announcement]");
    button.textContent = copied ? "Copied" : "Press Ctrl-C";
    announcement.textContent = "";
    requestAnimationFrame(() => { announcement.textContent = copied ? "Copied to the clipboard." : "Text selected. Press Ctrl-C to copy."; });
    setTimeout(() => { button.textContent = label; }, 2500);
  });
}

// ---- tabs: without JavaScript all panels are shown, each under its heading ----

for (const group of queryAll("[data-tabs]")) {
  const panels = queryAll("section", group);
  const list = document.createElement("div");
  list.className = "tabs";
  list.setAttribute("role", "tablist");
  list.setAttribute("aria-labelledby", group.dataset.tabs);
  const tabs = panels.map((panel) => {
    const heading = panel.querySelector("h3");
    const tab = document.createElement("button");
    tab.type = "button";
    tab.id = `${panel.id}-tab`;
    tab.textContent = heading.textContent;
    tab.setAttribute("role", "tab");
    tab.setAttribute("aria-controls", panel.id);
    heading.hidden = true;
    panel.setAttribute("role", "tabpanel");
    panel.setAttribute("aria-labelledby", tab.id);
    list.append(tab);
    return tab;
  });
  const select = (selected) => {
    tabs.forEach((tab, index) => {
      tab.setAttribute("aria-selected", tab === selected);
      tab.tabIndex = tab === selected ? 0 : -1;
      panels[index].hidden = tab !== selected;
    });
  };
  list.addEventListener("click", (event) => {
    const tab = event.target.closest("[role=tab]");
    if (tab) select(tab);
  });
  list.addEventListener("keydown", (event) => {
    const index = tabs.indexOf(document.activeElement);
    const last = tabs.length - 1;
    const next = {
      ArrowRight: index === last ? 0 : index + 1, ArrowLeft: index === 0 ? last : index - 1, Home: 0, End: last,
    }[event.key];
    if (next === undefined) return;
    event.preventDefault();
    select(tabs[next]);
    tabs[next].focus();
  });
  panels[0].before(list);
  select(tabs[0]);
}

// ---- the new secret: shown in a dialog that only "Done, I've saved it" closes ----

const secretPage = document.querySelector("[data-secret-dialog]");
if (secretPage) {
  const nextUrl = secretPage.dataset.nextUrl;
  // A reload, or going back to this history entry, loads that page and does not submit the form again.
  history.replaceState(null, "", nextUrl);
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", secretPage.getAttribute("aria-labelledby"));
  dialog.setAttribute("closedby", "none");
  secretPage.removeAttribute("aria-labelledby");
  secretPage.before(dialog);
  dialog.append(secretPage);
  const open = () => {
    dialog.showModal();
    secretPage.querySelector("h1").focus();
  };
  dialog.addEventListener("cancel", (event) => event.preventDefault());
  dialog.addEventListener("close", () => { if (secretPage.isConnected) open(); });
  const removeSecret = () => { secretPage.remove(); };
  secretPage.querySelector("[data-saved]").addEventListener("click", (event) => {
    event.preventDefault();
    removeSecret();
    location.replace(nextUrl);
  });
  // The back/forward cache must not keep the secret.
  addEventListener("pagehide", removeSecret);
  addEventListener("pageshow", (event) => { if (event.persisted) location.replace(nextUrl); });
  open();
}

// ---- the quota, and the use of a previous secret: refreshed every 5 seconds while the page is visible ----

for (const tile of queryAll("[data-refresh]")) {
  const refresh = async () => {
    if (document.hidden) return;
    try {
      const response = await fetch(tile.dataset.refresh, { headers: { Accept: "text/html" }, redirect: "error" });
      if (response.ok) tile.innerHTML = await response.text();
      updateTimes(tile);
    } catch {
      // Network error: try again at the next refresh.
    }
  };
  setInterval(refresh, 5000);
  document.addEventListener("visibilitychange", refresh);
}
