/* Which kinds and nodes are shown: chips that are switch and legend at once.

   Rules of this file: the one place that knows what is hidden; picture, log and keys ask it. */

class Filters {
  /** @param {Model} model
   * @param {Theme} theme
   * @param {HTMLElement} place
   * @param {() => void} onChange */
  constructor(model, theme, place, onChange) {
    this._model = model;
    this._theme = theme;
    this._hiddenKinds = new Set();
    this._hiddenNodes = new Set();
    this._onChange = onChange;
    this._chips = [];
    this._build(place);
  }

  get visibleNodes() {
    return this._model.nodes.map((_, node) => node).filter((node) => !this._hiddenNodes.has(node));
  }

  showsKind(name) { return !this._hiddenKinds.has(name); }

  showsNode(node) { return !this._hiddenNodes.has(node); }

  shows(entry) {
    const model = this._model;
    return this.showsKind(model.kinds[model.kind[entry]]) && this.showsNode(model.node[entry]);
  }

  /** Make sure that this entry is shown, whatever was hidden. */
  reveal(entry) {
    if (this.shows(entry)) return;
    this._hiddenKinds.delete(this._model.kinds[this._model.kind[entry]]);
    this._hiddenNodes.delete(this._model.node[entry]);
    this._changed();
  }

  /** Paint the samples anew: the theme has changed. */
  repaint() {
    for (const { canvas, name } of this._chips) if (canvas) this._paintSample(canvas, name);
  }

  _build(place) {
    const model = this._model;
    const messages = this._group("Messages");
    const lines = this._group("Lines");
    model.kinds.forEach((name, kind) => {
      if (!model.kindCounts[kind]) return;
      const style = KIND_STYLES[name];
      const group = style.width ? messages : lines;
      group.append(this._chip(this._hiddenKinds, name, style.label, model.kindCounts[kind],
        style.width ? name : null));
    });
    const nodes = this._group("Nodes");
    model.nodes.forEach((node, i) => {
      nodes.append(this._chip(this._hiddenNodes, i, node.name, null, null));
    });
    for (const group of [messages, lines, nodes]) if (group.childElementCount > 1) place.append(group);
  }

  _group(caption) {
    const group = element("div", { className: "group", role: "group", "aria-label": caption });
    group.append(element("span", { className: "caption", textContent: caption }));
    return group;
  }

  _chip(hidden, key, label, count, sample) {
    const chip = element("button", { type: "button", className: "chip", "aria-pressed": "true",
      title: (count === null ? "" : `${counted(count, "line")}. `) +
        "Click: show or hide. Shift-click: only this." });
    let canvas = null;
    if (sample) {
      canvas = element("canvas", { width: 60, height: 28, "aria-hidden": "true" });
      chip.append(canvas);
    }
    chip.append(label);
    if (count !== null) {
      chip.append(element("span", { className: "count", textContent: count.toLocaleString("en") }));
    }
    this._chips.push({ chip, canvas, name: sample, hidden, key });
    chip.addEventListener("click", (event) => {
      if (event.shiftKey) this._only(hidden, key);
      else if (!hidden.delete(key)) hidden.add(key);
      this._changed();
    });
    return chip;
  }

  /** Only this one of its group; a second time, all of them again. */
  _only(hidden, key) {
    const others = this._chips.filter((chip) => chip.hidden === hidden && chip.key !== key);
    const isAlone = !hidden.has(key) && others.every((chip) => hidden.has(chip.key));
    hidden.clear();
    if (!isAlone) for (const other of others) hidden.add(other.key);
  }

  _changed() {
    for (const { chip, hidden, key } of this._chips) {
      chip.setAttribute("aria-pressed", String(!hidden.has(key)));
    }
    this._onChange();
  }

  _paintSample(canvas, name) {
    const c = contextOf(canvas);
    c.setTransform(2, 0, 0, 2, 0, 0);
    c.clearRect(0, 0, 30, 14);
    const batch = new ArrowBatch(KIND_STYLES[name], false);
    batch.add(1, 7, 29, 7, "head");
    batch.paint(c, this._theme.color(KIND_STYLES[name].color), this._theme.color("--panel"));
    canvas.className = "sample";
  }
}
