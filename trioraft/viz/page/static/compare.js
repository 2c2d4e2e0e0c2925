/* Two runs beside each other, laid over each other at a moment that both have.

   Rules of this file:
   - What is on screen is one window, counted from that moment, and both pictures show it: panning or
     zooming one moves the other.
   - A window may reach beyond the end of the shorter run: both keep their scale. */

/** One of the two pictures, with what stands around it. */
class Side {
  /** @param {string} name
   * @param {Theme} theme */
  constructor(name, theme) {
    this.stage = byId(`stage-${name}`);
    this.picture = new Picture(this.stage, JSON.parse(byId(`run-${name}`).textContent ?? ""), theme);
    const { model } = this.picture;
    const words = new Words(model);
    this.model = model;
    this.details = new Details(byId(`details-${name}`), model, words, (entry) => this.select(entry),
      "Click anything in the picture, or a finding.");
    this._describer = new Describer(model, words);
    this._tooltip = new Tooltip(/** @type {HTMLElement} */ (this.stage.querySelector(".tooltip")), this.stage);
    this.findings = new FindingList(byId(`findings-${name}`), element("span"), model,
      (id) => this.showFinding(id));
    this.picture.view.isFree = true;
    this.picture.onPoint = (target, x, y) => this._point(target, x, y);
    this.picture.onClick = (target) => this._click(target);
  }

  get view() { return this.picture.view; }

  /** Where the moment is that counts as 0. */
  get zero() { return this.view.axis.place(this.view.origin); }

  select(entry) {
    const { diagram } = this.picture;
    diagram.selected = entry;
    diagram.stretch = null;
    this.findings.mark(-1);
    if (entry >= 0) this.view.reveal(this.model.time[entry], entry);
    this.details.show(entry);
    diagram.invalidateOverlay();
  }

  showFinding(id) {
    const finding = this.model.findings[id];
    this.select(finding.entries[0] ?? -1);
    this.view.revealRange(finding.start, finding.end);
    const names = new Set(finding.nodes);
    this.picture.diagram.stretch = { start: finding.start, end: finding.end,
      nodes: this.model.nodes.flatMap(({ name }, node) => (names.has(name) ? [node] : [])),
      color: `--severity-${finding.severity}` };
    this.findings.mark(id);
    this.details.showFinding(id);
    this.picture.diagram.invalidateOverlay();
    this.stage.scrollIntoView({ block: "nearest" });
  }

  /** The next event, or the previous one. */
  step(by) {
    const { selected } = this.picture.diagram;
    const { model, view } = this;
    const now = selected < 0 ? firstAfter(model.sortedTime, view.fromTime) - (by > 0 ? 1 : 0) :
      model.position[selected];
    const entry = model.byTime[clamp(now + by, 0, model.size - 1)];
    if (entry !== undefined) this.select(entry);
  }

  _point(target, x, y) {
    this.stage.classList.toggle("pointing", target !== null);
    const { diagram } = this.picture;
    if (diagram.pointed !== target) {
      diagram.pointed = target;
      diagram.invalidateOverlay();
    }
    if (target) this._tooltip.show(this._describer.describe(target, x), x, y);
    else this._tooltip.hide();
  }

  _click(target) {
    if (target?.type === "finding") this.showFinding(target.id);
    else this.select(target ? this._describer.entryOf(target) : -1);
  }
}

class Comparison {
  constructor() {
    /** @type {Side[]} */
    this.sides = [];
    this._isLinking = false;
    this.theme = new Theme(byId("theme-button"), () => this._onTheme());
    this.sides = [new Side("before", this.theme), new Side("after", this.theme)];
    this._legends = this.sides.map(({ model }) => new Legend(model, this.theme, byId("legend")));
    /** @type {Record<string, [number, number]>} */
    this._moments = JSON.parse(byId("moments").textContent ?? "");
    this._align = byId("align");
    for (const side of this.sides) {
      side.picture.onChange = () => this._link(side);
      side.stage.addEventListener("keydown", (event) => this._onKey(event, side));
    }
    this._align.addEventListener("change", () => this.align());
    byId("axis-button").addEventListener("click", () => this.countByOrder());
    byId("zoom-all").addEventListener("click", () => this.showAll());
    // On paper it is light, whatever was chosen.
    for (const [event, name] of /** @type {[string, string | null][]} */ (
      [["beforeprint", "light"], ["afterprint", null]])) {
      window.addEventListener(event, () => {
        this.theme.force(name);
        for (const side of this.sides) side.picture.diagram.draw();
      });
    }
    this._onTheme();
    this.align();
  }

  /** Lay both over each other at the chosen moment. */
  align() {
    const moments = this._moments[/** @type {HTMLSelectElement} */ (this._align).value];
    this.sides.forEach((side, i) => { side.view.origin = moments[i]; });
    this.showAll();
  }

  /** The window that has all of both. */
  showAll() {
    const from = Math.min(...this.sides.map(({ zero }) => -zero));
    const to = Math.max(...this.sides.map(({ view, zero }) => view.duration - zero));
    const margin = (to - from) * View.MARGIN;
    this._show(from - margin, to + margin);
  }

  countByOrder() {
    const isByOrder = !this.sides[0].picture.isByOrder;
    this._isLinking = true;
    for (const side of this.sides) side.picture.countByOrder(isByOrder);
    this._isLinking = false;
    setText(byId("axis-button"), isByOrder ? "Axis: order" : "Axis: time");
    byId("axis-button").setAttribute("aria-pressed", String(isByOrder));
    this.showAll();
  }

  /** Both show what is between these places, counted from the moment. */
  _show(from, to) {
    this._isLinking = true;
    for (const side of this.sides) side.view.showPlaces(side.zero + from, side.zero + to);
    this._isLinking = false;
    for (const side of this.sides) side.picture.diagram.invalidate();
  }

  /** @param {Side} moved */
  _link(moved) {
    if (this._isLinking) return;
    const { view, zero } = moved;
    this._show(view.start - zero, view.end - zero);
  }

  _onTheme() {
    for (const legend of this._legends ?? []) legend.repaint();
    for (const side of this.sides) side.picture.diagram.invalidate();
  }

  _onKey(event, side) {
    if (event.ctrlKey || event.altKey || event.metaKey) return;
    const next = () => {
      const select = /** @type {HTMLSelectElement} */ (this._align);
      select.selectedIndex = (select.selectedIndex + 1) % select.options.length;
      this.align();
    };
    const action = {
      ArrowRight: () => (event.shiftKey ? side.view.pan(120) : side.step(1)),
      ArrowLeft: () => (event.shiftKey ? side.view.pan(-120) : side.step(-1)),
      "+": () => side.view.zoom(0.6), "=": () => side.view.zoom(0.6),
      "-": () => side.view.zoom(1 / 0.6), 0: () => this.showAll(),
      o: () => this.countByOrder(), a: next, Escape: () => side.select(-1),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }
}

const comparison = new Comparison();
for (const side of comparison.sides) side.picture.diagram.draw();
window.comparison = comparison;
