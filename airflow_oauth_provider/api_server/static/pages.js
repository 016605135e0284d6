// What is nicer with a script: the filter, the states of grants in other stores, copying, waiting for another device.
"use strict";

const byId = (id) => document.getElementById(id);

function startFilter() {
  const form = byId("filter");
  if (!form) return;
  const text = byId("filter-text");
  const state = byId("filter-state");
  const apply = () => {
    const wanted = text.value.trim().toLowerCase();
    let shown = 0;
    for (const row of document.querySelectorAll("#grants tbody tr")) {
      const fits =
        (!state.value || row.dataset.state === state.value) && row.textContent.toLowerCase().includes(wanted);
      row.hidden = !fits;
      shown += fits ? 1 : 0;
    }
    byId("none").hidden = shown > 0;
  };
  form.addEventListener("submit", (event) => event.preventDefault());
  text.addEventListener("input", apply);
  state.addEventListener("change", apply);
}

const time = (seconds) =>
  seconds === null ? "" : `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

function cell(row, label, text, muted) {
  const found = row.querySelector(`[data-label="${label}"]`);
  found.textContent = text;
  if (muted) {
    const span = document.createElement("span");
    span.className = "muted";
    span.textContent = muted;
    found.append(span);
  }
}

function fillRow(row, grant) {
  row.dataset.state = grant.state;
  const badge = row.querySelector(".badge");
  badge.textContent = grant.state;
  badge.className = `badge ${grant.state.replaceAll(" ", "-")}`;
  row.querySelector(".reason").textContent = grant.reason;
  cell(row, "Signed in as", grant.signed_in_as);
  cell(row, "Access token until", time(grant.access_token_until));
  cell(row, "Refresh token until", time(grant.refresh_token_until));
  const last = grant.last_refresh;
  cell(row, "Last refresh", last ? time(last.at) : "", last ? last.actor : "");
  cell(row, "Refreshes", String(grant.refreshes));
}

async function readOtherStores() {
  const rows = [...document.querySelectorAll('#grants tr[data-state="not read yet"]')];
  const summary = byId("summary");
  if (!rows.length) return;
  const before = summary.textContent;
  const waiting = [...rows];
  let done = 0;
  const work = async () => {
    for (let row = waiting.shift(); row; row = waiting.shift()) {
      try {
        const answer = await fetch(`json/grant?connection=${encodeURIComponent(row.dataset.connection)}`);
        if (answer.ok) fillRow(row, await answer.json());
      } catch {
        // The row says "not read yet", which is true.
      }
      done += 1;
      summary.textContent = done < rows.length ? `${before}, read ${done} of ${rows.length} other stores` : before;
    }
  };
  summary.textContent = `${before}, read 0 of ${rows.length} other stores`;
  await Promise.all([work(), work(), work(), work()]);
}

function startCopying() {
  for (const button of document.querySelectorAll("[data-copy]")) {
    button.addEventListener("click", async () => {
      const field = byId(button.dataset.copy);
      field.select();
      try {
        await navigator.clipboard.writeText(field.value);
        button.textContent = "Copied";
      } catch {
        button.textContent = "Press Ctrl+C";
      }
    });
  }
}

function startConfirming() {
  for (const form of document.querySelectorAll("[data-confirm]")) {
    form.addEventListener("submit", (event) => {
      if (!window.confirm(form.dataset.confirm)) event.preventDefault();
    });
  }
}

async function waitForDevice() {
  const form = byId("device");
  if (!form) return;
  const note = byId("device-note");
  let interval = Number(form.dataset.interval) || 5;
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, interval * 1000));
    const body = new URLSearchParams(new FormData(form));
    body.set("interval", String(interval));
    try {
      const answer = await fetch("device-poll", { method: "POST", body });
      const said = await answer.json();
      if (said.signed_in) {
        window.location.assign(said.signed_in);
        return;
      }
      if (!answer.ok) {
        note.className = "note fail";
        note.textContent = said.error || said.detail;
        return;
      }
      interval = said.interval;
    } catch {
      interval *= 2; // The server may be away for a moment.
    }
  }
}

startFilter();
startCopying();
startConfirming();
readOtherStores();
waitForDevice();
