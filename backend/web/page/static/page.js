// The page works without this but for the panel "try it". Everything that is put into it was written by the server's
// own templates; other text goes in as text.
"use strict";

const REFRESH_MS = 5000;

/** Return what a page of our own holds, as elements. */
async function fetchOwn(address, options = {}) {
  const answer = await fetch(address, { credentials: "same-origin", ...options });
  const text = await answer.text();
  if (!answer.ok) {
    let problem = "";
    try {
      problem = JSON.parse(text).error;
    } catch {
      // not one of our own answers
    }
    throw new Error(problem || `The service answered ${answer.status}.`);
  }
  return new DOMParser().parseFromString(text, "text/html").body;
}

/** Show times as they are here. */
function localise(root) {
  const shape = { dateStyle: "medium", timeStyle: "short" };
  for (const time of root.querySelectorAll("time[datetime]")) {
    time.textContent = new Date(time.dateTime).toLocaleString("en-GB", shape);
  }
}

/** Keep what changes up to date while somebody looks. */
function refresh() {
  setInterval(async () => {
    const now = document.getElementById("now");
    if (!now || document.visibilityState !== "visible") return;
    try {
      const fresh = (await fetchOwn(now.dataset.refresh)).querySelector("#now");
      localise(fresh);
      now.replaceWith(fresh);
    } catch {
      // the next time, perhaps
    }
  }, REFRESH_MS);
}

/** Bring pictures when they are scrolled to. */
function bringPictures() {
  const seen = new IntersectionObserver((entries) => {
    for (const entry of entries.filter((one) => one.isIntersecting)) {
      seen.unobserve(entry.target);
      fetchOwn(entry.target.dataset.pictures)
        .then((body) => entry.target.replaceChildren(body.querySelector(".comparisons, .warning")))
        .catch(() => {}); // the link stays
    }
  }, { rootMargin: "200px" });
  document.querySelectorAll("[data-pictures]").forEach((place) => seen.observe(place));
}

function readAsDataUri(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(new Error("The file cannot be read."));
    reader.readAsDataURL(file);
  });
}

function tryIt(form) {
  const [drop, chosen, preview, labels, stuff, state, problem, answer] =
    ["drop", "picture", "preview", "labels", "stuff", "try-state", "try-problem", "answer"].map((id) => document.getElementById(id));
  const project = document.getElementById("try-project"); // if one has learned
  project?.addEventListener("change", () => { labels.required = !project.value; });
  const button = form.querySelector("button");
  let file = null;

  function take(taken) {
    file = taken || null;
    if (preview.src) URL.revokeObjectURL(preview.src);
    preview.hidden = !file;
    if (file) {
      preview.src = URL.createObjectURL(file);
      preview.alt = `Chosen: ${file.name}`;
    }
  }

  function complain(text) {
    problem.textContent = text && text[0].toUpperCase() + text.slice(1);
    problem.hidden = !text;
  }

  preview.addEventListener("error", () => { preview.hidden = true; }); // a format that only the service reads
  chosen.addEventListener("change", () => take(chosen.files[0]));
  for (const kind of ["dragenter", "dragover"]) {
    drop.addEventListener(kind, (event) => {
      event.preventDefault();
      drop.classList.add("over");
    });
  }
  for (const kind of ["dragleave", "drop"]) {
    drop.addEventListener(kind, () => drop.classList.remove("over"));
  }
  drop.addEventListener("drop", (event) => {
    event.preventDefault();
    if (!event.dataTransfer.files.length) return;
    chosen.files = event.dataTransfer.files;
    take(event.dataTransfer.files[0]);
  });

  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    complain("");
    if (!file) {
      complain("Choose a picture first.");
      chosen.focus();
      return;
    }
    button.disabled = true;
    state.textContent = "Looking…";
    answer.setAttribute("aria-busy", "true");
    try {
      const picture = await readAsDataUri(file);
      const body = await fetchOwn(form.action, {
        method: "POST",
        headers: { "Content-Type": "application/json" },
        body: JSON.stringify({ picture, labels: labels.value, stuff: stuff.value, project: project?.value || "" }),
      });
      answer.replaceChildren(...body.children);
      state.textContent = "";
      document.getElementById("trial-heading").focus();
    } catch (error) {
      state.textContent = "";
      complain(error instanceof TypeError ? "The service does not answer." : error.message);
    } finally {
      button.disabled = false;
      answer.removeAttribute("aria-busy");
    }
  });
}

localise(document);
if (document.getElementById("now")) refresh();
bringPictures();
const form = document.getElementById("try");
if (form) tryIt(form);
