/* Puts the page together, and carries a selection to all that show it.

   Rules of this file:
   - The selected event is one index, kept here; picture, log, details and findings follow it.
   - `window.trioraft` is for scripts (tests, screenshots): the app, once it has drawn. */

class App {
  /** @param {RunData} data */
  constructor(data) {
    this.model = new Model(data);
    this.selected = -1;
    this.finding = -1;
    this.isPrinting = false;
    this.view = new View(this.model.duration);
    this.theme = new Theme(byId("theme-button"), () => this._onTheme());
    this.filters = new Filters(this.model, this.theme, byId("filters"), () => this._onFilter());
    this.legend = new Legend(this.model, this.theme, byId("roles-key"));
    this.diagram = new Diagram(byId("stage"), this.model, this.view, this.theme, this.filters);
    this.overview = new Overview(byId("overview"), this.model, this.view, this.theme);
    this.describer = new Describer(this.model);
    this.tooltip = new Tooltip(byId("tooltip"), byId("stage"));
    this.details = new Details(byId("details"), this.model, this.describer,
      (entry) => this.reveal(entry));
    this.findings = new FindingList(byId("findings"), byId("findings-title"), this.model,
      (id) => this.showFinding(id));
    this.table = new LogTable(byId("rows"), this.model, this.filters,
      (entry) => this.select(entry));
    const keyboard = new Keyboard(this);
    this.player = new Player(byId("play"), () => keyboard.step(1));
    this._connect();
    this.resize();
    this._onTheme();
    this._countLines();
  }

  /** Select an event everywhere; -1 for none. */
  select(entry) {
    this.selected = this.diagram.selected = entry;
    if (entry >= 0) this.view.reveal(this.model.time[entry]);
    this.table.select(entry);
    this.details.show(entry);
    this.diagram.invalidateOverlay();
  }

  /** Select an event even if it was filtered out: somebody asked for this very one. */
  reveal(entry) {
    this.filters.reveal(entry);
    this.select(entry);
  }

  /** Go to a finding: its time on screen, a line that shows it selected. */
  showFinding(id) {
    const finding = this.model.findings[id];
    this.finding = id;
    // What led to it may stand long before: select the first line of the time itself.
    const { time } = this.model;
    const inside = finding.entries.find((entry) => time[entry] >= finding.start);
    const entry = inside ?? finding.entries[0];
    if (entry !== undefined) this.reveal(entry);
    this.view.revealRange(finding.start, finding.end);
    this.findings.mark(id);
  }

  stepFinding(by) {
    const count = this.model.findings.length;
    if (count) this.showFinding((this.finding + by + count + (this.finding < 0 && by < 0)) % count);
  }

  resize() {
    if (this.isPrinting) return; // no frame comes before the paper: what is cleared stays blank
    this.diagram.resize();
    this.overview.resize();
    this.table.resize();
  }

  _onTheme() {
    if (!this.table) return; // the theme says hello before the rest is made
    this.filters.repaint();
    this.legend.repaint();
    this.overview.repaint();
    this.diagram.invalidate();
  }

  _onFilter() {
    this.table.refilter();
    this.diagram.resize();
    this._countLines();
  }

  _countLines() {
    const { size } = this.model;
    const shown = this.table.shown.length;
    byId("log-count").textContent = shown === size ? counted(size, "line") :
      `${shown.toLocaleString("en")} of ${counted(size, "line")}`;
  }

  _connect() {
    this.view.onChange = () => {
      this.tooltip.hide();
      this.diagram.invalidate();
    };
    this.diagram.onDrawn = () => this.overview.draw();
    new Printing(this);
    new Pointer(byId("stage"), this.view, {
      onPoint: (x, y) => this._point(x, y),
      onClick: (x, y) => this._click(x, y),
      onLeave: () => this._point(-1, -1),
    });
    new ResizeObserver(() => this.resize()).observe(byId("stage"));
    byId("zoom-in").addEventListener("click", () => this.view.zoom(0.6));
    byId("zoom-out").addEventListener("click", () => this.view.zoom(1 / 0.6));
    byId("zoom-all").addEventListener("click", () => this.view.showAll());
    byId("help-button").addEventListener("click", () => /** @type {HTMLDialogElement} */ (byId("help")).showModal());
    byId("search").addEventListener("input", (event) => {
      this.table.search(/** @type {HTMLInputElement} */ (event.target).value);
      this._countLines();
    });
  }

  _point(x, y) {
    const target = x < this.view.left ? null : this.diagram.hits.at(x, y);
    byId("stage").classList.toggle("pointing", target !== null);
    if (this.diagram.pointed !== target) {
      this.diagram.pointed = target;
      this.diagram.invalidateOverlay();
    }
    if (target) this.tooltip.show(this.describer.describe(target, x), x, y);
    else this.tooltip.hide();
  }

  _click(x, y) {
    const target = this.diagram.hits.at(x, y);
    if (!target) {
      this.select(-1);
      return;
    }
    if (target.type === "finding") {
      this.showFinding(target.id);
      return;
    }
    let entry = this.describer.entryOf(target);
    // A second click on a message goes to its other end.
    if (target.type === "message" && entry === this.selected) {
      entry = Math.max(this.model.message.receivedEntry[target.id], entry);
    }
    if (entry >= 0) this.reveal(entry);
  }
}

document.documentElement.classList.toggle("framed", isFramed);
/** What to show of it, in microseconds: "#180000-230000". */
const wanted = /^#(\d+)-(\d+)$/.exec(window.location.hash);
const app = new App(JSON.parse(byId("run").textContent));
if (wanted) app.view.show(Number(wanted[1]), Number(wanted[2]));
app.diagram.draw();
performance.mark("trioraft-drawn");
window.trioraft = app;
