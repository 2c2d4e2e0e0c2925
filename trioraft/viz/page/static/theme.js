/* How roles and messages look: colours from the style sheet, and the second channel of each.

   Rules of this file:
   - A role is told by its colour, its height, its pattern and its letter; a message by its
     colour, weight, dashes and head. Any one of them missing, the others suffice.
   - Colours are read from the style sheet when the theme changes, and only then. */

/** @type {Record<RoleName, RoleStyle>} */
const ROLE_STYLES = {
  Follower: { color: "--role-follower", height: 7, letter: "F", label: "follower" },
  PreCandidate: {
    color: "--role-precandidate", height: 12, letter: "P", label: "asking for pre-votes",
    pattern: "dots",
  },
  Candidate: {
    color: "--role-candidate", height: 16, letter: "C", label: "candidate", pattern: "stripes",
  },
  Leader: { color: "--role-leader", height: 22, letter: "L", label: "leader" },
  Dead: { color: "--role-dead", height: 0, letter: "D", label: "dead" },
};

/** @type {Record<KindName, KindStyle>} */
const KIND_STYLES = {
  vote: { label: "vote", color: "--kind-vote", width: 1.7, dash: [], head: 7 },
  prevote: { label: "pre-vote", color: "--kind-prevote", width: 1.6, dash: [2, 3], head: 7 },
  heartbeat: { label: "heartbeat", color: "--kind-heartbeat", width: 0.9, dash: [], head: 5 },
  entries: { label: "entries", color: "--kind-entries", width: 2.2, dash: [], head: 8 },
  snapshot: { label: "snapshot", color: "--kind-snapshot", width: 4, dash: [], head: 12 },
  transfer: { label: "transfer", color: "--kind-transfer", width: 2, dash: [9, 3, 2, 3], head: 9 },
  read: { label: "read index", color: "--kind-read", width: 1.4, dash: [6, 4], head: 6 },
  message: { label: "other message", color: "--kind-other", width: 1.2, dash: [1, 3], head: 6 },
  role: { label: "role", color: "--kind-role" },
  timer: { label: "timer", color: "--kind-timer" },
  commit: { label: "commit", color: "--kind-commit" },
  link: { label: "link", color: "--kind-link" },
  test: { label: "test", color: "--kind-test" },
  other: { label: "other", color: "--muted" },
};

/** @type {Record<Severity, string>} */
const SEVERITY_SIGNS = { error: "✗", warning: "!", info: "i" };

/** The theme in force: a colour for a variable's name, patterns, and the switch. */
class Theme {
  /** @type {CSSStyleDeclaration} */ _style;
  /** @type {Map<string, string>} */ _colors;
  /** @type {Map<string, CanvasPattern>} */ _patterns;
  /** @type {string | undefined} */ _forced;
  /** @param {HTMLElement} button
   * @param {() => void} onChange */
  constructor(button, onChange) {
    this._onChange = onChange;
    this._preferred = window.matchMedia("(prefers-color-scheme: dark)");
    this._button = button;
    // In a frame it is as the page around it, which says so by its color-scheme.
    this._chosen = isFramed ? undefined : Theme._remembered();
    button.addEventListener("click", () => this._choose(this.isDark ? "light" : "dark"));
    this._preferred.addEventListener("change", () => this.apply());
    this.apply();
  }

  get isDark() { return (this._forced ?? this._chosen ?? this._system) === "dark"; }

  get _system() { return this._preferred.matches ? "dark" : "light"; }

  /** For paper: one theme whatever was chosen; null gives the choice back. */
  force(name) {
    this._forced = name ?? undefined;
    this.apply();
  }

  apply() {
    document.documentElement.dataset.theme = this.isDark ? "dark" : "light";
    this._button.textContent = this.isDark ? "Light" : "Dark";
    this._style = getComputedStyle(document.documentElement);
    this._colors = new Map();
    this._patterns = new Map();
    this._onChange();
  }

  /** @param {string} variable
   * @returns {string} */
  color(variable) {
    if (!this._colors.has(variable)) {
      this._colors.set(variable, this._style.getPropertyValue(variable).trim());
    }
    return this._colors.get(variable) ?? "";
  }

  /** A fill: the pattern in this colour, or the plain colour.
   * @param {CanvasRenderingContext2D} context
   * @param {string} variable
   * @param {Pattern} [pattern] */
  fill(context, variable, pattern) {
    if (!pattern) return this.color(variable);
    const key = `${variable} ${pattern}`;
    if (!this._patterns.has(key)) {
      const made = context.createPattern(this._tile(variable, pattern), "repeat");
      if (made) this._patterns.set(key, made);
    }
    return this._patterns.get(key) ?? this.color(variable);
  }

  /** @param {string} variable
   * @param {Pattern} pattern */
  _tile(variable, pattern) {
    const tile = element("canvas", { width: 8, height: 8 });
    const context = contextOf(tile);
    context.fillStyle = context.strokeStyle = this.color(variable);
    if (pattern === "dots") {
      context.fillRect(0, 0, 4, 4);
      context.fillRect(4, 4, 4, 4);
    } else {
      context.lineWidth = pattern === "hatch" ? 1 : 3.6;
      for (const shift of [-8, 0, 8]) {
        context.moveTo(shift - 2, 10);
        context.lineTo(shift + 10, -2);
      }
      context.stroke();
    }
    return tile;
  }

  _choose(name) {
    this._chosen = name;
    try {
      localStorage.setItem("trioraft-theme", name);
    } catch {
      // A page opened from a file may have no storage; the choice then lasts as long as the page.
    }
    this.apply();
  }

  static _remembered() {
    try {
      return localStorage.getItem("trioraft-theme") ?? undefined;
    } catch {
      return undefined;
    }
  }
}
