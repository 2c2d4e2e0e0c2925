/* The picture: layers on one canvas, and above it, on another, what is selected or pointed at, and
   the cursor.

   Rules of this file:
   - Data in, canvas out: it knows a model, a view, a theme and what is shown (`Shown`), and neither
     page nor keys. A page of its own makes it by `Picture` (picture.js).
   - Nothing is drawn twice between two frames, and nothing at all unless something changed. But a
     canvas that gets another size is empty at once, and whoever looks at it before the next frame
     (a screenshot, a printer) sees it so: it is drawn in the same breath.
   - Pointing and selecting redraw the upper canvas only; the lower is what costs. */

class Diagram {
  /** @type {number} */ _ratio;
  /** @param {HTMLElement} stage
   * @param {Model} model
   * @param {View} view
   * @param {Theme} theme
   * @param {Shown} filters */
  constructor(stage, model, view, theme, filters) {
    this._stage = stage;
    this._model = model;
    this._view = view;
    this._theme = theme;
    this._filters = filters;
    this._base = /** @type {HTMLCanvasElement} */ (stage.querySelector(".base"));
    this._overlay = /** @type {HTMLCanvasElement} */ (stage.querySelector(".overlay"));
    this.layout = new Layout(model);
    this.hits = new Hits();
    this.hits.clear();
    this.selected = -1;
    /** Where the cursor is, as a time and the last event before it; null for none.
     * @type {Cursor | null} */
    this.cursor = null;
    /** What is shaded: a time and nodes, of a finding. @type {Stretch | null} */
    this.stretch = null;
    /** @type {Target | null} */
    this.pointed = null;
    this._isBaseDirty = false;
    this._request = 0;
    this.onDrawn = () => {};
    /** @type {Layer[]} */
    this._layers = [
      new LaneGroundLayer(), new AxisLayer(), new OutageLayer(), new WeatherLayer(), new CommitLayer(),
      new TermLayer(), new TimerLayer(), new RoleLayer(), new TickLayer(), new MessageLayer(),
      new RoleNameLayer(), new MarkLayer(), new FindingLayer(), new GutterLayer(),
    ];
  }

  /** Fit the canvases to their place; `ratio` is canvas pixels for one of the page. */
  resize(ratio = window.devicePixelRatio || 1, width = 0, height = 0) {
    this._ratio = ratio;
    const shownWidth = width || this._stage.clientWidth;
    const shownHeight = height || this._stage.clientHeight;
    for (const canvas of [this._base, this._overlay]) {
      const wide = Math.max(1, Math.round(shownWidth * ratio));
      const high = Math.max(1, Math.round(shownHeight * ratio));
      // Setting a size empties a canvas, even if it is the size that it has.
      if (canvas.width !== wide) canvas.width = wide;
      if (canvas.height !== high) canvas.height = high;
    }
    this._view.left = Layout.GUTTER;
    this._view.width = Math.max(shownWidth - Layout.GUTTER, 10);
    this.layout.resize(shownWidth, shownHeight, this._filters.visibleNodes);
    this._isBaseDirty = true;
    this.draw();
  }

  /** Show another run, or the same one grown longer.
   * @param {Model} model */
  setModel(model) {
    this._model = model;
    this.layout.setModel(model);
    this.selected = -1;
    this.pointed = this.cursor = this.stretch = null;
    this.resize(this._ratio);
  }

  /** Everything is to be drawn again, at the next frame. */
  invalidate() {
    this._isBaseDirty = true;
    this._schedule();
  }

  /** Only what is selected or pointed at is to be drawn again. */
  invalidateOverlay() {
    this._schedule();
  }

  _schedule() {
    if (!this._request) this._request = requestAnimationFrame(() => this.draw());
  }

  /** Draw now what is not up to date. */
  draw() {
    cancelAnimationFrame(this._request);
    this._request = 0;
    if (this._isBaseDirty) this._drawBase();
    const isMarked = this.selected >= 0 || this.pointed?.type === "message" ||
      this.cursor !== null || this.stretch !== null;
    if (isMarked) this._drawOverlay();
    // An empty canvas costs a blend of the whole picture in every frame: take it away.
    this._overlay.hidden = !isMarked;
    this._isBaseDirty = false;
    this.onDrawn();
  }

  _drawBase() {
    const c = contextOf(this._base);
    c.setTransform(this._ratio, 0, 0, this._ratio, 0, 0);
    c.fillStyle = this._theme.color("--panel");
    c.fillRect(0, 0, this.layout.width, this.layout.height);
    this.hits.clear();
    const frame = { c, model: this._model, view: this._view, layout: this.layout,
      theme: this._theme, hits: this.hits, filters: this._filters };
    OutageLayer.hit(frame);
    for (const layer of this._layers) layer.draw(frame);
    if (!this._model.nodes.length) this._say(c, "No node wrote anything in this run.");
  }

  _say(c, text) {
    c.font = FONT;
    c.textAlign = "center";
    c.fillStyle = this._theme.color("--muted");
    c.fillText(text, this.layout.width / 2, this.layout.height / 2);
  }

  _drawOverlay() {
    const c = contextOf(this._overlay);
    c.setTransform(this._ratio, 0, 0, this._ratio, 0, 0);
    c.clearRect(0, 0, this.layout.width, this.layout.height);
    if (this.stretch) this._shade(c, this.stretch);
    if (this.pointed?.type === "message") this._emphasise(c, this.pointed.id, 2.5);
    if (this.cursor) this._drawCursor(c, this.cursor);
    if (this.selected >= 0) this._drawSelected(c);
  }

  /** The lanes and the time that a finding is about. */
  _shade(c, { start, end, nodes, color }) {
    const { layout, _view: view } = this;
    const x0 = clamp(view.x(start) - 1, view.left, layout.width);
    const x1 = clamp(view.x(end) + 1, x0, layout.width);
    c.fillStyle = c.strokeStyle = this._theme.color(color);
    c.lineWidth = 1.5;
    for (const lane of layout.lanes) {
      if (!nodes.includes(lane.node)) continue;
      c.globalAlpha = 0.13;
      c.fillRect(x0, lane.top + 1, x1 - x0, layout.laneHeight - 2);
      c.globalAlpha = 1;
      c.strokeRect(x0, lane.top + 1.5, x1 - x0, layout.laneHeight - 3);
    }
  }

  /** A line through all lanes, with a handle on the axis to drag it by. */
  _drawCursor(c, { time, place }) {
    const { layout, _view: view } = this;
    const x = view.left + (place - view.start) / view.scale;
    if (x < view.left || x > layout.width || time < -1) return;
    c.strokeStyle = c.fillStyle = this._theme.color("--cursor");
    c.lineWidth = 1.5;
    c.beginPath();
    c.moveTo(x, layout.axis.bottom - 8);
    c.lineTo(x, layout.height);
    c.stroke();
    c.beginPath();
    c.moveTo(x - 6, layout.axis.bottom - 18);
    c.lineTo(x + 6, layout.axis.bottom - 18);
    c.lineTo(x, layout.axis.bottom - 6);
    c.closePath();
    c.fill();
  }

  /** The message's arrow once more, stronger. */
  _emphasise(c, id, width) {
    const m = this._model.message;
    const from = this.layout.laneOf[m.from[id]];
    const to = this.layout.laneOf[m.to[id]];
    if (!from || !to || m.sent[id] < 0 || m.received[id] < 0) return;
    c.strokeStyle = this._theme.color(KIND_STYLES[this._model.kinds[m.kind[id]]].color);
    c.lineWidth = width + 1;
    c.beginPath();
    c.moveTo(this._view.x(m.sent[id], m.sentEntry[id]), from.y);
    c.lineTo(this._view.x(m.received[id], m.receivedEntry[id]), to.y);
    c.stroke();
  }

  _drawSelected(c) {
    const model = this._model;
    const x = this._view.x(model.time[this.selected], this.selected);
    const y = this.layout.yOfNode(model.node[this.selected]);
    if (x < this._view.left || y === null) return;
    c.strokeStyle = this._theme.color("--focus");
    c.lineWidth = 1;
    c.beginPath();
    c.moveTo(x, this.layout.axis.bottom - 4);
    c.lineTo(x, this.layout.height);
    c.stroke();
    const message = model.messageOf(this.selected);
    if (message >= 0) this._emphasise(c, message, 1.5);
    for (const { color, width } of [{ color: "--panel", width: 5 }, { color: "--focus", width: 2.5 }]) {
      c.strokeStyle = this._theme.color(color);
      c.lineWidth = width;
      c.beginPath();
      c.arc(x, y, 8, 0, 2 * Math.PI);
      c.stroke();
    }
  }
}
