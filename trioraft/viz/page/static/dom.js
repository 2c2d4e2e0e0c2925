/* Small helpers: elements, and how times and numbers are written.

   Rules of this file and of all beside it:
   - write.py puts the files, in its order, into one function: they share a scope, and nothing of
     it is global but `window.trioraft` (main.js).
   - Text of a log reaches the document through textContent only, never as markup.
   - Times are microseconds since the run's first entry. */

/** An element with properties, attributes ("aria-…", "data-…", "role") and children.
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag
 * @param {Record<string, unknown>} properties
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[K]} */
function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role") made.setAttribute(name, String(value));
    else Object.assign(made, { [name]: value });
  }
  made.append(...children);
  return made;
}

/** An element of run.html: it is there.
 * @template {HTMLElement} [E=HTMLElement]
 * @param {string} id
 * @returns {E} */
const byId = (id) => /** @type {E} */ (document.getElementById(id));

/** Write a text, unless it stands there already: a document that is written to is laid out anew.
 * @param {HTMLElement} place
 * @param {string} text */
function setText(place, text) {
  if (place.textContent !== text) place.textContent = text;
}
/** Whether another page shows this one within itself: the diagram is all that it shows then. */
const isFramed = window.parent !== window;

/** Where to draw.
 * @param {HTMLCanvasElement} canvas
 * @returns {CanvasRenderingContext2D} */
const contextOf = (canvas) =>
  /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));

/** @type {(value: number, least: number, most: number) => number} */
const clamp = (value, least, most) => Math.min(Math.max(value, least), most);

/** "3 votes", "1 vote".
 * @type {(count: number, noun: string) => string} */
const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;

/** A duration with three digits that matter: "850 µs", "12.3 ms", "1.25 s", "4 min 10 s".
 * @param {number} us */
function durationText(us) {
  if (us < 1e3) return `${Math.round(us)} µs`;
  if (us < 1e6) return `${Number((us / 1e3).toPrecision(3))} ms`;
  if (us < 120e6) return `${Number((us / 1e6).toPrecision(3))} s`;
  if (us < 7200e6) return `${Math.floor(us / 60e6)} min ${Math.round((us % 60e6) / 1e6)} s`;
  return `${Math.floor(us / 3600e6)} h ${Math.round((us % 3600e6) / 60e6)} min`;
}

/** A moment for a person: as exact as the log, in seconds, or with hours if there are many.
 * @param {number} us */
function momentText(us) {
  const seconds = us / 1e6;
  if (seconds < 3600) return `${seconds.toFixed(6)} s`;
  const whole = Math.floor(seconds);
  const parts = [Math.floor(whole / 3600), Math.floor(whole / 60) % 60, whole % 60];
  return parts.map((part) => String(part).padStart(2, "0")).join(":") +
    (seconds % 1).toFixed(6).slice(1);
}

/** A mark of the axis, `step` apart from the next: no more digits than tell them apart.
 * @param {number} us
 * @param {number} step */
function tickText(us, step) {
  if (step >= 60e6) {
    const minutes = Math.round(us / 60e6);
    return minutes < 60 ? `${minutes} min` : `${Math.floor(minutes / 60)}:` +
      `${String(minutes % 60).padStart(2, "0")} h`;
  }
  if (step < 1e3 && us < 10e3) return `${Math.round(us)} µs`;
  if (step >= 1e3 && us < 10e6 && step < 1e6) return `${Number((us / 1e3).toFixed(3))} ms`;
  const digits = clamp(Math.ceil(6 - Math.log10(step)), 0, 6);
  return `${(us / 1e6).toFixed(digits)} s`;
}
