/* A picture for a page of one's own: the data of a run in, a canvas out.

   Rules of this file:
   - Whatever page: `new Picture(stage, data, theme)`, and `update(data)` for another run, or for the
     same one grown longer. The stage is an element with two canvases, of the classes `base` and
     `overlay`, styled by picture.css.
   - Everything is shown; who wants filters hands in a `Shown` of its own. */

/** Shows all that there is: what a picture asks that has no filters. */
class ShowsAll {
  /** @param {Model} model */
  constructor(model) { this.model = model; }

  get visibleNodes() { return [...this.model.nodes.keys()]; }

  showsKind() { return true; }

  showsNode() { return true; }

  shows() { return true; }
}

class Picture {
  /** @param {HTMLElement} stage
   * @param {RunData} data
   * @param {Theme} theme */
  constructor(stage, data, theme) {
    this.stage = stage;
    this.model = new Model(data);
    this.shown = new ShowsAll(this.model);
    this.view = new View(new TimeAxis(this.model));
    this.diagram = new Diagram(stage, this.model, this.view, theme, this.shown);
    this.isByOrder = false;
    /** Told when the window, or what is under the pointer, has changed. */
    this.onChange = () => {};
    /** @type {(target: Target | null, x: number, y: number) => void} */
    this.onPoint = () => {};
    /** @type {(target: Target | null) => void} */
    this.onClick = () => {};
    this.view.onChange = () => {
      this.diagram.invalidate();
      this.onChange();
    };
    new Pointer(stage, this.view, {
      onPoint: (x, y) => this.onPoint(x < this.view.left ? null : this.diagram.hits.at(x, y), x, y),
      onClick: (x, y) => this.onClick(this.diagram.hits.at(x, y)),
      onLeave: () => this.onPoint(null, -1, -1),
    });
    new ResizeObserver(() => this.diagram.resize()).observe(stage);
    this.diagram.resize();
  }

  /** Show these data from now on.
   * @param {RunData} data
   * @param {boolean} isFollowed keep the end of the run in the window, as wide as it is
   * @param {(() => void) | null} lay lays the window instead, before anything is drawn */
  update(data, isFollowed = false, lay = null) {
    const { view } = this;
    const [from, to] = [view.fromTime, view.toTime];
    const wasWhole = view.span >= view.duration;
    this.model = this.shown.model = new Model(data);
    view.axis = this._axis();
    const quiet = view.onChange;
    view.onChange = () => {};
    if (lay) lay();
    else if (wasWhole) view.showAll();
    else if (isFollowed) view.show(this.model.duration - (to - from), this.model.duration);
    else view.show(from, to);
    view.onChange = quiet;
    this.diagram.setModel(this.model);
    this.onChange();
  }

  /** Count the axis by order, or by time.
   * @param {boolean} isByOrder */
  countByOrder(isByOrder) {
    this.isByOrder = isByOrder;
    this.view.setAxis(this._axis());
  }

  _axis() { return this.isByOrder ? new OrderAxis(this.model, this.shown) : new TimeAxis(this.model); }
}
