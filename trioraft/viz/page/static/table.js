/* The log: every line that the filters let through, of which only those on screen are elements.

   Rules of this file:
   - Rows are as high as ROW pixels, always: the place of a row is a product.
   - A box cannot be as high as a million rows in every browser; beyond HIGH_MOST the scroll bar
     moves in larger steps. */

class LogTable {
  /** @type {Int32Array} */ _shown;
  /** @type {number} */ _fullHeight;
  static ROW = 22;
  static HIGH_MOST = 8e6;
  static SPARE = 6;

  /** @param {HTMLElement} place
   * @param {Model} model
   * @param {Filters} filters
   * @param {(entry: number) => void} onSelect */
  constructor(place, model, filters, onSelect) {
    this._place = place;
    this._model = model;
    this._filters = filters;
    this._onSelect = onSelect;
    this._needle = "";
    this.selected = -1;
    this._wasHidden = false;
    this._tall = element("div", { className: "tall" });
    this._rows = new Map();
    place.append(this._tall);
    place.classList.toggle("hours", model.duration >= 3600e6);
    place.addEventListener("scroll", () => this._schedule(), { passive: true });
    place.addEventListener("click", (event) => {
      const target = /** @type {Element} */ (event.target);
      const row = /** @type {HTMLElement | null} */ (target.closest(".row"));
      if (row) onSelect(Number(row.dataset.entry));
    });
    place.addEventListener("keydown", (event) => this._onKey(event));
    this._request = 0;
    this.refilter();
  }

  /** Entries that are shown, in the order of the log. */
  get shown() { return this._shown; }

  search(text) {
    this._needle = text.trim().toLowerCase();
    this.refilter();
  }

  /** Collect again what is shown: a filter has changed. */
  refilter() {
    const model = this._model;
    // A text is looked at once, however many lines have it.
    const fits = this._needle
      ? model.texts.map((text) => text.toLowerCase().includes(this._needle)) : null;
    const kindShown = model.kinds.map((name) => this._filters.showsKind(name));
    const nodeShown = [-1, ...model.nodes.keys()].map((node) => this._filters.showsNode(node));
    const shown = new Int32Array(model.size);
    let count = 0;
    for (let entry = 0; entry < model.size; entry++) {
      if (!kindShown[model.kind[entry]] || !nodeShown[model.node[entry] + 1]) continue;
      if (fits && !fits[model.textOf[entry]]) continue;
      shown[count++] = entry;
    }
    this._shown = shown.subarray(0, count);
    this._fullHeight = count * LogTable.ROW;
    const height = Math.min(this._fullHeight, LogTable.HIGH_MOST);
    this._tall.style.height = `${height}px`;
    this._clear();
    if (!count) {
      const why = model.size ? "No line is shown: the filters hide all." : "There is no line.";
      this._tall.append(element("div", { className: "empty", textContent: why }));
    }
    this._render();
  }

  /** Select an entry: its row comes into sight, if the filters show it. */
  select(entry) {
    this.selected = entry;
    const row = this._rowOf(entry);
    if (row >= 0) {
      const room = this._place.clientHeight;
      const top = row * LogTable.ROW - this._offset();
      if (top < 0 || top + LogTable.ROW > room) {
        this._scrollTo(row * LogTable.ROW - room / 2);
      }
    }
    this._clear();
    this._render();
  }

  /** The row of an entry, or -1. */
  _rowOf(entry) {
    const row = firstAfter(this._shown, entry) - 1;
    return row >= 0 && this._shown[row] === entry ? row : -1;
  }

  /** How far the rows are scrolled, as if the box were as high as all of them. */
  _offset() {
    const stretch = this._stretch();
    return this._place.scrollTop * stretch;
  }

  _stretch() {
    const height = Math.min(this._fullHeight, LogTable.HIGH_MOST);
    const room = this._place.clientHeight;
    return height > room ? Math.max((this._fullHeight - room) / (height - room), 1) : 1;
  }

  _scrollTo(offset) {
    this._place.scrollTop = Math.max(offset, 0) / this._stretch();
  }

  _schedule() {
    if (this._request) return;
    this._request = requestAnimationFrame(() => {
      this._request = 0;
      this._render();
    });
  }

  resize() {
    const isHidden = !this._place.clientHeight;
    // What was selected behind another tab comes into sight with this one.
    if (this._wasHidden && !isHidden && this.selected >= 0) this.select(this.selected);
    else this._render();
    this._wasHidden = isHidden;
  }

  _clear() {
    this._tall.replaceChildren();
    this._rows.clear();
  }

  _render() {
    if (!this._shown.length) return;
    const offset = this._offset();
    const first = Math.max(Math.floor(offset / LogTable.ROW) - LogTable.SPARE, 0);
    const seen = Math.ceil(this._place.clientHeight / LogTable.ROW) + 2 * LogTable.SPARE;
    const last = Math.min(first + seen, this._shown.length);
    for (const [row, made] of this._rows) {
      if (row >= first && row < last) continue;
      made.remove();
      this._rows.delete(row);
    }
    // In a stretched box rows keep their distance on screen, not their place in the box.
    const shift = this._place.scrollTop - offset;
    for (let row = first; row < last; row++) {
      let made = this._rows.get(row);
      if (!made) {
        made = this._make(row);
        this._rows.set(row, made);
        this._tall.append(made);
      }
      made.style.transform = `translateY(${row * LogTable.ROW + shift}px)`;
    }
  }

  _make(row) {
    const entry = this._shown[row];
    const kind = this._model.kinds[this._model.kind[entry]];
    const made = element("div", { className: `row kind-${kind}`, role: "option",
      id: `row-${entry}`, "data-entry": entry, "aria-posinset": row + 1,
      "aria-setsize": this._shown.length, "aria-selected": String(entry === this.selected) });
    made.append(...LogTable.cells(this._model, entry));
    if (entry === this.selected) this._place.setAttribute("aria-activedescendant", made.id);
    return made;
  }

  /** Line, time, node with its role, and text. */
  static cells(model, entry) {
    const cell = (name, textContent) => element("span", { className: name, textContent });
    const node = model.node[entry];
    const who = cell("node", "");
    who.append(element("b", { textContent: model.shortName(node), title: model.nodeName(node) }));
    const role = node < 0 ? -1 : model.roleAt(node, model.time[entry], model.position[entry]);
    if (role >= 0) {
      const name = model.roleNames[model.role.role[role]];
      who.append(element("span", { className: `role ${name}`, title: ROLE_STYLES[name].label,
        textContent: ROLE_STYLES[name].letter }));
    }
    const text = cell("text", model.text(entry));
    text.title = model.text(entry);
    return [cell("line", model.lineName(entry)), cell("time", momentText(model.time[entry]).replace(" s", "")),
      who, text];
  }

  _onKey(event) {
    const page = Math.max(Math.floor(this._place.clientHeight / LogTable.ROW) - 1, 1);
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -page, PageDown: page,
      Home: -Infinity, End: Infinity }[event.key];
    if (step === undefined || !this._shown.length || event.altKey || event.ctrlKey) return;
    event.preventDefault();
    event.stopPropagation();
    const now = firstAfter(this._shown, this.selected) - 1;
    const next = clamp(this.selected < 0 ? 0 : now + step, 0, this._shown.length - 1);
    this._onSelect(this._shown[next]);
  }
}
