/* What of the page is open where there is not room for all of it.

   Rules of this file:
   - Facts, filters and legend are open at first where there is room for them, and behind a button
     where there is none. Findings, states and log stand beside each other, or behind tabs.
   - The window's size decides that, again whenever it changes; what somebody opened stays open. */

class Panes {
  static WIDE = window.matchMedia("(min-width: 1100px)");
  static TALL = window.matchMedia("(min-width: 1000px) and (min-height: 760px)");

  /** @param {() => void} onChange the picture has another size now */
  constructor(onChange) {
    this._onChange = onChange;
    /** @type {HTMLButtonElement[]} */
    this._openers = [...document.querySelectorAll("[data-opens]")].map((button) =>
      /** @type {HTMLButtonElement} */ (button));
    /** @type {HTMLButtonElement[]} */
    this._tabs = [...document.querySelectorAll("[data-shows]")].map((button) =>
      /** @type {HTMLButtonElement} */ (button));
    this._chosen = new Map();
    for (const button of this._openers) {
      const id = button.dataset.opens ?? "";
      button.setAttribute("aria-controls", id);
      button.addEventListener("click", () => this.toggle(id));
    }
    for (const tab of this._tabs) {
      tab.setAttribute("aria-controls", tab.dataset.shows ?? "");
      tab.addEventListener("click", () => this.show(tab.dataset.shows ?? ""));
      tab.addEventListener("keydown", (event) => this._onKey(event, tab));
    }
    this._shown = "findings-pane";
    for (const media of [Panes.WIDE, Panes.TALL]) media.addEventListener("change", () => this.lay());
    this.lay();
  }

  /** Open or close facts, filters or legend. */
  toggle(id) {
    this._chosen.set(id, byId(id).hidden);
    this.lay();
  }

  /** Bring a tab to the front, if there are tabs. */
  show(id) {
    this._shown = id;
    this.lay();
  }

  lay() {
    for (const button of this._openers) {
      const id = button.dataset.opens ?? "";
      const isOpen = this._chosen.get(id) ?? Panes.TALL.matches;
      byId(id).hidden = !isOpen;
      button.setAttribute("aria-expanded", String(isOpen));
    }
    const isWide = Panes.WIDE.matches;
    const states = byId("states");
    const home = isWide ? document.querySelector(".pictured") : byId("states-pane");
    if (home && states.parentElement !== home) home.append(states);
    for (const tab of this._tabs) {
      const id = tab.dataset.shows ?? "";
      const isShown = isWide || id === this._shown;
      byId(id).hidden = !isShown;
      tab.setAttribute("aria-selected", String(id === this._shown));
      tab.tabIndex = id === this._shown ? 0 : -1;
    }
    this._onChange();
  }

  _onKey(event, tab) {
    const by = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    event.stopPropagation();
    const next = this._tabs[(this._tabs.indexOf(tab) + by + this._tabs.length) % this._tabs.length];
    next.focus();
    next.click();
  }
}
