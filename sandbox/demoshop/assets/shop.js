"use strict";
// Polls what the backend has received and redraws the table. Text only, no markup.
(function () {
  const body = document.querySelector("#events tbody");
  const empty = document.getElementById("empty");
  function cell(row, text, tag) {
    const td = row.insertCell();
    if (!tag) { td.textContent = text; return; }
    const inner = document.createElement(tag);
    inner.textContent = text;
    td.append(inner);
  }
  async function refresh() {
    try {
      const answer = await fetch("/events", { headers: { Accept: "application/json" } });
      const data = await answer.json();
      const rows = document.createDocumentFragment();
      for (const e of data.events) {
        const row = document.createElement("tr");
        cell(row, e.webhook_id, "code");
        cell(row, e.kind);
        cell(row, e.attempt);
        cell(row, e.amount_check);
        cell(row, e.verified ? "✓" : "✗");
        cell(row, String(e.times));
        rows.append(row);
      }
      body.replaceChildren(rows);
      empty.hidden = data.events.length > 0;
    } catch (e) {
      // The server is restarting: the next round will tell.
    }
    setTimeout(refresh, 1000);
  }
  refresh();
})();
