// The page that shows a new secret, after app.js. It also works without JavaScript.
"use strict";

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
  // Copying is the first step, and closing the dialog the second.
  const copySecret = secretPage.querySelector("[data-copy=secret]");
  const saved = secretPage.querySelector("[data-saved]");
  const suggest = (step) => { for (const item of [copySecret, saved]) item.classList.toggle("primary", item === step); };
  suggest(copySecret);
  secretPage.addEventListener("copied", () => suggest(saved));
  const download = secretPage.querySelector("[data-download]");
  download.hidden = false;
  download.addEventListener("click", () => {
    // Unlike a data: URL, this one does not put the secret into the browser's list of downloads.
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([download.dataset.prefix, document.getElementById(download.dataset.download).textContent, "\n"]));
    link.download = download.dataset.name;
    link.click();
    addEventListener("pagehide", () => URL.revokeObjectURL(link.href));
    suggest(saved);
  });
  saved.addEventListener("click", (event) => {
    event.preventDefault();
    removeSecret();
    location.replace(nextUrl);
  });
  // The back/forward cache must not keep the secret.
  addEventListener("pagehide", removeSecret);
  addEventListener("pageshow", (event) => { if (event.persisted) location.replace(nextUrl); });
  open();
}
