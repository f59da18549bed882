// Keeps the page of a watched run up to date: asks the server that it came from for a newer one and puts its body in
// place of the old, without a reload. While trials are chosen or something is typed or marked, it waits for a click.
"use strict";
(() => {
const EVERY_MS = 2000, SCRIPT = "body > script:not([type])";
let tag = `"${document.getElementById("live").dataset.tag}"`, seen = Date.now(), held = null, text = document.querySelector(SCRIPT).textContent;
const of = (id) => document.getElementById(id);

function busy() {
  const at = document.activeElement, status = document.querySelector("#filters .status");
  return (at && ["INPUT", "SELECT"].includes(at.tagName)) || !getSelection().isCollapsed ||
    Boolean(document.querySelector("#all-trials [aria-sort], .columns input:not(:checked)")) ||
    Boolean(status && !status.textContent.startsWith("All ")) || [...document.querySelectorAll("#filters .short")].some((x) => x.value);
}

function put(page) {
  const open = [...document.querySelectorAll("details")].map((x) => x.open), top = scrollY;
  document.title = page.title;
  document.body.replaceChildren(...page.body.childNodes);
  if (of("data")) {
    document.querySelector(SCRIPT).remove(); // one that was parsed does not run; a new one with the same text does
    const script = document.createElement("script");
    script.textContent = text;
    document.body.append(script);
  }
  document.querySelectorAll("details").forEach((x, k) => { x.open = Boolean(open[k]); });
  scrollTo(0, top);
  held = null;
}

function offer(page) {
  const button = document.createElement("button");
  held = page;
  button.type = "button";
  button.textContent = "Show the new data";
  button.addEventListener("click", () => { button.blur(); put(held); });
  of("news").replaceChildren("There is newer data. ", button);
}

async function ask() {
  try {
    const answer = await fetch("page", { cache: "no-store", headers: { "If-None-Match": tag } });
    if (answer.status === 200) {
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      tag = answer.headers.get("ETag");
      if (!page.getElementById("live")) { location.reload(); return; } // the finished report
      if (busy()) offer(page); else put(page);
    } else if (answer.status !== 304) throw new Error((await answer.text()).trim() || `status ${answer.status}`);
    seen = Date.now();
    say("");
  } catch (error) {
    say(error instanceof TypeError ? "The server does not answer: --watch has ended, or the tunnel is closed. Trying again." : `Not updated: ${error.message}`);
  }
  setTimeout(ask, EVERY_MS);
}

function say(words) {
  const place = of("trouble");
  if (place && place.textContent !== words) { place.textContent = words; place.hidden = !words; }
}

setInterval(() => { const clock = of("age"); if (clock) clock.textContent = `${Math.round((Date.now() - seen) / 1000)} s ago`; }, 1000);
setTimeout(ask, EVERY_MS);
})();
