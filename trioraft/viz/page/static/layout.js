/* Where everything is from top to bottom: axis, findings, terms, test, a lane per node, commits.

   Rules of this file: heights and places only; nothing is drawn here. A band that has nothing to
   show takes no room. */

class Layout {
  /** @type {Band} */ axis;
  /** @type {Band} */ findings;
  /** @type {Band} */ terms;
  /** @type {Band} */ test;
  /** @type {Band} */ weather;
  /** @type {number} */ weatherRows;
  /** @type {Band} */ commits;
  /** @type {number} */ laneHeight;
  /** @type {number} */ lanesTop;
  /** @type {number} */ lanesBottom;
  /** @type {(Lane | null)[]} */ laneOf;
  /** @type {Lane[]} */ lanes;
  /** @type {number} */ barScale;
  static GUTTER = 74;
  static WEATHER_ROW = 13;
  static LANE_LEAST = 34;

  /** @param {Model} model */
  constructor(model) {
    this._model = model;
    this.width = 0;
    this.height = 0;
  }

  /** Lay out another run from the next `resize` on.
   * @param {Model} model */
  setModel(model) { this._model = model; }

  /** Lay all out anew, for a picture of this size and these lanes.
   * @param {number} width
   * @param {number} height
   * @param {number[]} visibleNodes */
  resize(width, height, visibleNodes) {
    this.width = width;
    this.height = height;
    let top = 0;
    /** @param {number} size */
    const band = (size) => {
      const made = { top, height: size, bottom: top + size };
      top += size;
      return made;
    };
    const model = this._model;
    this.axis = band(26);
    this.findings = band(model.findings.length ? 26 : 0);
    this.terms = band(model.terms.length ? 24 : 0);
    this.test = band(model.marks.length || model.node.includes(-1) ? 24 : 0);
    const rows = model.weather.reduce((most, one) => Math.max(most, one.row + 1), 0);
    // A low picture has its lanes first: of the weather one row, and what is committed stands
    // beside the lanes as a number, too.
    const isLow = height < top + visibleNodes.length * Layout.LANE_LEAST + 90;
    this.weatherRows = isLow ? Math.min(rows, 1) : rows;
    this.weather = band(rows ? this.weatherRows * Layout.WEATHER_ROW + 4 : 0);
    const commitHeight = model.maxCommit > 0 && !isLow ? clamp(height * 0.13, 40, 84) : 0;
    const room = Math.max(height - top - commitHeight - 4,
      visibleNodes.length * (isLow ? 17 : Layout.LANE_LEAST));
    this._layLanes(top, room, visibleNodes);
    top = this.lanesBottom;
    this.commits = band(commitHeight);
  }

  /** @param {number} top
   * @param {number} room
   * @param {number[]} nodes */
  _layLanes(top, room, nodes) {
    const height = nodes.length ? Math.min(room / nodes.length, 190) : 0;
    this.laneHeight = height;
    this.lanesBottom = top + height * nodes.length;
    this.laneOf = new Array(this._model.nodes.length).fill(null);
    nodes.forEach((node, i) => {
      const laneTop = top + i * height;
      this.laneOf[node] = { node, top: laneTop, bottom: laneTop + height,
        y: laneTop + height * 0.47 };
    });
    this.lanes = this.laneOf.filter((lane) => lane !== null);
    /** How much of its full size a role's bar has, in lanes that are low. */
    this.barScale = clamp(height / 70, 0.55, 1.15);
  }

  /** Where an entry is, from top to bottom: its node's lane, or the test's; null if hidden.
   * @param {number} node */
  yOfNode(node) {
    if (node < 0) return this.test.top + this.test.height / 2;
    const lane = this.laneOf[node];
    return lane && lane.y;
  }
}
