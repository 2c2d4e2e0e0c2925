/* Keys: everything that the mouse can do, from event to event.

   Rules of this file:
   - One table from key to action; the dialog in run.html tells the same.
   - Keys typed into a field, or with Ctrl, Alt or Meta, are not ours. */

class Keyboard {
  /** @param {App} app */
  constructor(app) {
    this._app = app;
    this._actions = {
      ArrowRight: (event) => (event.shiftKey ? app.view.pan(120) : this.step(1)),
      ArrowLeft: (event) => (event.shiftKey ? app.view.pan(-120) : this.step(-1)),
      ArrowUp: () => this._changeLane(-1),
      ArrowDown: () => this._changeLane(1),
      Home: () => this._jump(0),
      End: () => this._jump(app.table.shown.length - 1),
      Enter: () => this._follow(),
      Escape: () => app.select(-1),
      " ": () => app.player.play(),
      "[": () => this._changeRate(-1),
      "]": () => this._changeRate(1),
      o: () => app.countByOrder(!app.view.axis.isOrder),
      l: () => app.panes.toggle("legend"),
      "+": () => app.view.zoom(0.6),
      "=": () => app.view.zoom(0.6),
      "-": () => app.view.zoom(1 / 0.6),
      0: () => app.view.showAll(),
      f: () => this._closeUp(),
      n: () => app.stepFinding(1),
      p: () => app.stepFinding(-1),
      "/": () => byId("search").focus(),
      "?": () => /** @type {HTMLDialogElement} */ (byId("help")).showModal(),
    };
    document.addEventListener("keydown", (event) => this._onKey(event));
  }

  _onKey(event) {
    if (event.ctrlKey || event.altKey || event.metaKey || /** @type {HTMLDialogElement} */ (byId("help")).open) return;
    if (event.target instanceof HTMLInputElement) { // the search, and the slider
      if (event.key === "Escape") byId("stage").focus();
      return;
    }
    if (event.target instanceof HTMLSelectElement) return;
    // Enter and the arrows mean something else on a button; letters do not.
    const onControl = event.target instanceof Element && event.target.closest("button, a, summary");
    if (onControl && (event.key.length > 1 || event.key === " ")) return;
    const action = this._actions[event.key];
    if (!action) return;
    event.preventDefault();
    action(event);
  }

  _jump(row) {
    const { shown } = this._app.table;
    if (shown.length) this._app.select(shown[clamp(row, 0, shown.length - 1)]);
  }

  /** The next or previous entry of those shown; with none selected, the first on screen. */
  step(by) {
    const { table, model, view, player } = this._app;
    player.play(false);
    if (this._app.selected < 0) {
      const first = firstAfter(model.sortedTime, view.start);
      const entry = model.byTime[Math.min(first, model.size - 1)] ?? 0;
      this._jump(Math.max(firstAfter(table.shown, entry - 1), 0));
      return;
    }
    const row = firstAfter(table.shown, this._app.selected) - 1;
    const isShown = table.shown[row] === this._app.selected;
    this._jump(row + (by > 0 || isShown ? by : 0));
  }

  /** The entry of the lane above or below that is nearest in time. */
  _changeLane(by) {
    const { model, table, diagram, selected } = this._app;
    if (selected < 0) {
      this.step(1);
      return;
    }
    const lanes = [-1, ...diagram.layout.lanes.map((lane) => lane.node)];
    const goal = lanes[lanes.indexOf(model.node[selected]) + by];
    if (goal === undefined) return;
    let nearest = -1;
    let least = Infinity;
    for (const entry of table.shown) {
      if (model.node[entry] !== goal) continue;
      const apart = Math.abs(model.time[entry] - model.time[selected]);
      if (apart < least) {
        least = apart;
        nearest = entry;
      }
    }
    if (nearest >= 0) this._app.select(nearest);
  }

  _changeRate(by) {
    const { player, transport } = this._app;
    const { rates } = player;
    player.rate = rates[clamp(rates.indexOf(player.rate) + by, 0, rates.length - 1)];
    transport.renew();
  }

  _follow() {
    const { model, selected } = this._app;
    const goal = selected < 0 ? -1 : model.otherEnd(selected);
    if (goal >= 0) this._app.reveal(goal);
  }

  _closeUp() {
    const { model, view, selected } = this._app;
    if (selected < 0) return;
    const half = view.axis.isOrder ? 12 : clamp(model.typicalDelay * 6, 500, view.duration / 4);
    const place = view.axis.place(model.time[selected], selected);
    view.showPlaces(place - half, place + half);
  }
}
