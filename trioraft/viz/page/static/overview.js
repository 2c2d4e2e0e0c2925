/* The whole run in one strip: roles of every node, findings, and the window that is on screen.

   Rules of this file: the strip is painted once for its size and theme; panning moves a frame. */

class Overview {
  /** @type {number} */ _ratio;
  /** @type {number} */ _width;
  /** @type {number} */ _height;
  /** @param {HTMLElement} place
   * @param {Model} model
   * @param {View} view
   * @param {Theme} theme */
  constructor(place, model, view, theme) {
    this._place = place;
    this._canvas = /** @type {HTMLCanvasElement} */ (place.querySelector("canvas"));
    this._model = model;
    this._view = view;
    this._theme = theme;
    /** @type {Cursor | null} */
    this.cursor = null;
    this._strip = element("canvas");
    this._listen();
  }

  resize() {
    this._ratio = window.devicePixelRatio || 1;
    this._width = this._place.clientWidth;
    this._height = this._place.clientHeight;
    for (const canvas of [this._canvas, this._strip]) {
      canvas.width = Math.max(1, Math.round(this._width * this._ratio));
      canvas.height = Math.max(1, Math.round(this._height * this._ratio));
    }
    this.repaint();
  }

  /** @param {number} time
   * @param {number} [entry] */
  _x(time, entry) { return this._xOf(this._view.axis.place(time, entry)); }

  _xOf(place) {
    const margin = this._view.duration * View.MARGIN;
    return Layout.GUTTER + (place + margin) / (this._view.duration + 2 * margin) *
      (this._width - Layout.GUTTER);
  }

  _placeOf(x) {
    const margin = this._view.duration * View.MARGIN;
    return (x - Layout.GUTTER) / (this._width - Layout.GUTTER) *
      (this._view.duration + 2 * margin) - margin;
  }

  repaint() {
    const c = contextOf(this._strip);
    c.setTransform(this._ratio, 0, 0, this._ratio, 0, 0);
    c.fillStyle = this._theme.color("--panel");
    c.fillRect(0, 0, this._width, this._height);
    this._paintRoles(c);
    for (const finding of this._model.findings) {
      c.fillStyle = this._theme.color(`--severity-${finding.severity}`);
      const x = this._x(finding.start);
      c.fillRect(x, 3, Math.max(this._x(finding.end) - x, 2), 3);
    }
    c.fillStyle = this._theme.color("--muted");
    c.font = SMALL_FONT;
    c.textAlign = "right";
    c.textBaseline = "middle";
    c.fillText("all", Layout.GUTTER - 10, this._height / 2);
    this.draw();
  }

  _paintRoles(c) {
    const model = this._model;
    const rowHeight = (this._height - 12) / Math.max(model.nodes.length, 1);
    model.rolesOfNode.forEach((index, node) => {
      let lastPixel = -1;
      let lastHeight = 0;
      index.visit(-Infinity, Infinity, (id) => {
        const name = model.roleNames[model.role.role[id]];
        const style = ROLE_STYLES[name];
        const x = this._x(model.role.start[id], model.role.entry[id]);
        const width = Math.max(this._x(model.role.end[id], model.role.endEntry[id]) - x, 1);
        if (width <= 1 && Math.floor(x) === lastPixel && style.height <= lastHeight) return;
        lastPixel = Math.floor(x);
        lastHeight = style.height;
        const height = style.height / 24 * rowHeight;
        c.fillStyle = this._theme.color(style.color);
        c.fillRect(x, 9 + (node + 0.5) * rowHeight - height / 2, width, height);
      });
    });
  }

  /** The strip, and on it the frame of what is on screen. */
  draw() {
    const c = contextOf(this._canvas);
    c.setTransform(1, 0, 0, 1, 0, 0);
    c.drawImage(this._strip, 0, 0);
    c.setTransform(this._ratio, 0, 0, this._ratio, 0, 0);
    const x0 = clamp(this._xOf(this._view.start), Layout.GUTTER, this._width);
    const x1 = clamp(this._xOf(this._view.end), x0 + 3, this._width);
    c.globalAlpha = 0.62;
    c.fillStyle = this._theme.color("--ground");
    c.fillRect(Layout.GUTTER, 0, x0 - Layout.GUTTER, this._height);
    c.fillRect(x1, 0, this._width - x1, this._height);
    c.globalAlpha = 1;
    c.strokeStyle = this._theme.color("--focus");
    c.lineWidth = 2;
    c.strokeRect(x0 + 1, 1, x1 - x0 - 2, this._height - 2);
    if (!this.cursor) return;
    c.fillStyle = this._theme.color("--cursor");
    c.fillRect(this._xOf(this.cursor.place) - 0.75, 0, 1.5, this._height);
  }

  _listen() {
    const centre = (event) => {
      const middle = this._placeOf(event.clientX - this._place.getBoundingClientRect().left);
      this._view.showPlaces(middle - this._view.span / 2, middle + this._view.span / 2);
    };
    this._place.addEventListener("pointerdown", (event) => {
      this._place.setPointerCapture(event.pointerId);
      centre(event);
    });
    this._place.addEventListener("pointermove", (event) => {
      if (event.buttons & 1) centre(event);
    });
  }
}
