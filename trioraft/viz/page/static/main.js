/* Puts the page together, and carries a selection to all that show it.

   Rules of this file:
   - The selected event is one index, kept here; picture, log, details and findings follow it, and
     the cursor stands on it. While the cursor moves by itself, the event follows the cursor.
   - `window.trioraft` is for scripts (tests, screenshots): the app, once it has drawn. */

class App {
  /** How often log and details follow a cursor that moves: often enough for eyes. */
  static FOLLOW_MS = 160;
  static HINT = "Click anything in the picture, a finding or a line of the log; with the arrow keys " +
    "you step through the events, with the space bar you play them. “Keys”, above, has the rest.";

  /** @param {RunData} data */
  constructor(data) {
    this.model = new Model(data);
    this.selected = -1;
    this.finding = -1;
    this.isPrinting = false;
    this._followTimer = 0;
    this.view = new View(new TimeAxis(this.model));
    this.theme = new Theme(byId("theme-button"), () => this._onTheme());
    this.filters = new Filters(this.model, this.theme, byId("filters"), () => this._onFilter());
    this.legend = new Legend(this.model, this.theme, byId("legend"));
    this.diagram = new Diagram(byId("stage"), this.model, this.view, this.theme, this.filters);
    this.overview = new Overview(byId("overview"), this.model, this.view, this.theme);
    this.words = new Words(this.model);
    this.describer = new Describer(this.model, this.words);
    this.tooltip = new Tooltip(byId("tooltip"), byId("stage"));
    this.details = new Details(byId("details"), this.model, this.words,
      (entry) => this.reveal(entry), App.HINT);
    this.findings = new FindingList(byId("findings"), byId("findings-title"), this.model,
      (id) => this.showFinding(id));
    this.table = new LogTable(byId("rows"), this.model, this.filters,
      (entry) => this.select(entry));
    this.states = new StatePanel(byId("states"), this.model, new StateIndex(this.model),
      this.diagram);
    this.player = new Player(this.model, this.view, {
      onMove: (cursor) => this._onCursor(cursor), onState: () => this._onPlayerState(),
    });
    this.transport = new Transport(byId("transport"), this.player, this.view, {
      onScrub: (place) => this.scrub(place), onStep: (by) => this.keyboard.step(by),
      onAxis: () => this.countByOrder(!this.view.axis.isOrder),
    });
    this.panes = new Panes(() => this.resize());
    this.keyboard = new Keyboard(this);
    this._connect();
    this._onTheme();
    this._countLines();
    this.player.put(0);
  }

  /** Select an event everywhere; -1 for none. */
  select(entry) {
    this._forgetFinding();
    this.selected = this.diagram.selected = entry;
    if (entry >= 0) {
      this.view.reveal(this.model.time[entry], entry);
      this.player.putAt(entry);
    }
    clearTimeout(this._followTimer);
    this._followTimer = 0;
    this.table.select(entry);
    this.details.show(entry);
    this.diagram.invalidateOverlay();
  }

  /** Select an event even if it was filtered out: somebody asked for this very one. */
  reveal(entry) {
    this.filters.reveal(entry);
    this.select(entry);
  }

  /** Go to a finding: its time on screen and shaded, a line that shows it selected, and what it
   * means in the details. */
  showFinding(id) {
    const finding = this.model.findings[id];
    // What led to it may stand long before: select the first line of the time itself.
    const { time } = this.model;
    const inside = finding.entries.find((entry) => time[entry] >= finding.start);
    const entry = inside ?? finding.entries[0];
    if (entry !== undefined) this.reveal(entry);
    this.finding = id;
    this.view.revealRange(finding.start, finding.end);
    this.findings.mark(id);
    this.details.showFinding(id);
    const names = new Set(finding.nodes);
    this.diagram.stretch = { start: finding.start, end: finding.end,
      nodes: this.model.nodes.flatMap(({ name }, node) => (names.has(name) ? [node] : [])),
      color: `--severity-${finding.severity}` };
    this.diagram.invalidateOverlay();
  }

  _forgetFinding() {
    if (this.finding < 0) return;
    this.finding = -1;
    this.diagram.stretch = null;
    this.findings.mark(-1);
  }

  stepFinding(by) {
    const count = this.model.findings.length;
    if (count) this.showFinding((this.finding + by + count + (this.finding < 0 && by < 0)) % count);
  }

  /** Put the cursor to a place of the axis, and follow it with the window. */
  scrub(place) {
    this.player.put(place);
    const { time, position } = this.player.cursor;
    this.view.reveal(time, this.view.axis.isOrder && position >= 0 ? this.model.byTime[position] : -1);
  }

  /** Count the axis by the order of events, or by time. */
  countByOrder(isByOrder) {
    this.view.setAxis(isByOrder ? new OrderAxis(this.model, this.filters) : new TimeAxis(this.model));
    this.overview.repaint();
    this.player.renew();
  }

  resize() {
    if (this.isPrinting) return; // no frame comes before the paper: what is cleared stays blank
    this.diagram.resize();
    this.overview.resize();
    this.states.resize();
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
    // By order, what is hidden takes no room.
    if (this.view.axis.isOrder) this.countByOrder(true);
    this.diagram.resize();
    this.states.resize();
    this._countLines();
  }

  /** @param {Cursor} cursor */
  _onCursor(cursor) {
    if (!this.transport) return; // the cursor is there before what shows it
    this.diagram.cursor = this.overview.cursor = cursor;
    this.diagram.invalidateOverlay();
    this.states.show(cursor.position, cursor.time);
    this.transport.show(cursor);
    if (!this._followTimer) {
      this._followTimer = setTimeout(() => this._follow(), App.FOLLOW_MS);
    }
  }

  /** Log and details catch up with the cursor. */
  _follow() {
    this._followTimer = 0;
    const { position } = this.player.cursor;
    if (this.player.isPlaying) this._forgetFinding();
    if (position < 0 || this.selected < 0 && !this.player.isPlaying) return;
    const entry = this.model.byTime[position];
    if (entry === this.selected || this.finding >= 0) return;
    this.selected = this.diagram.selected = entry;
    this.table.select(entry);
    this.details.show(entry);
    this.diagram.invalidateOverlay();
  }

  _onPlayerState() {
    if (this.transport) this.transport.renew();
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
      scrubs: (y) => y < this.diagram.layout.axis.bottom,
      onScrub: (x) => this.player.put(this.view.place(x)),
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
      if (x >= this.view.left) this.player.put(this.view.place(x));
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
