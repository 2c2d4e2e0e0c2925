/* The legend: a sample of everything that this picture draws, made by what draws it.

   Rules of this file: an item is a text and a function that paints it on 30 by 18 pixels. What the run
   does not have is left out; what the chips of filters.js show stands there. */

class Legend {
  /** @param {Model} model
   * @param {Theme} theme
   * @param {HTMLElement} place */
  constructor(model, theme, place) {
    this._theme = theme;
    this._model = model;
    this._samples = [];
    this._place = place;
    this._addRoles();
    this._addTimers();
    if (model.message.sent.length) this._addMessages();
    this._addMarks();
    this._addGround();
    this._addFindings();
  }

  _addRoles() {
    const used = new Set(this._model.role.role);
    for (const [number, name] of this._model.roleNames.entries()) {
      if (!used.has(number)) continue;
      const style = ROLE_STYLES[name];
      this._add(`${style.label}${style.letter === "F" ? "" : ` (${style.letter})`}`, (c) =>
        RoleLayer.bar(c, this._theme, name, 2, 9, 26, style.height * 0.75));
    }
  }

  _addTimers() {
    const { endKind } = this._model.timer;
    if (!endKind.length) return;
    const timer = (kind) => (c) => {
      c.strokeStyle = c.fillStyle = this._theme.color("--kind-timer");
      c.lineWidth = 1;
      c.beginPath();
      c.rect(3, 7.5, 23, 4);
      TimerLayer.end(c, kind, 26, 7);
      c.stroke();
    };
    this._add("election timer", timer("replaced"));
    if (endKind.includes("expired")) this._add("timer that ran out", timer("expired"));
    if (endKind.includes("bailed out") || endKind.includes("stopped")) {
      this._add("timer that was stopped", timer("stopped"));
    }
  }

  _addMessages() {
    const { message } = this._model;
    const arrow = (isReply, end) => (c) => {
      const batch = new ArrowBatch(KIND_STYLES.vote, isReply);
      batch.add(1, 9, end === "lost" || end === "open" ? 20 : 28, 9, end);
      batch.paint(c, this._theme.color("--text"), this._theme.color("--panel"));
    };
    this._add("message", arrow(false, "head"));
    this._add("reply", arrow(true, "head"));
    if (message.positive.includes(0)) this._add("refusal", arrow(true, "bar"));
    if (message.fate.includes(message.fates.indexOf("lost"))) this._add("lost", arrow(false, "lost"));
    if (message.fate.includes(message.fates.indexOf("unknown"))) {
      this._add("arrival not in the log", arrow(false, "open"));
    }
    if (message.sent.length > MessageLayer.ARROWS_MOST) {
      this._add("how many arrived (too many for arrows)", (c) => {
        c.fillStyle = this._theme.color("--kind-heartbeat");
        [5, 9, 7, 12, 6].forEach((height, i) => c.fillRect(3 + i * 5, 15 - height, 3, height));
      });
    }
  }

  _addMarks() {
    const { marks, node } = this._model;
    const used = new Set(marks.map(({ kind }) => kind));
    const sign = (text, color) => (c) => {
      c.fillStyle = this._theme.color(color);
      c.font = BOLD_FONT.replace("12px", "14px");
      c.textAlign = "center";
      c.textBaseline = "middle";
      c.fillText(text, 15, 9);
    };
    for (const [kind, style] of Object.entries(MARK_STYLES)) {
      if (!used.has(/** @type {MarkKind} */ (kind))) continue;
      const label = { test: "remark of the test", configuration: "other members" }[kind] ?? style.label;
      this._add(label, sign(style.sign, kind.startsWith("link") ? "--kind-link" : "--kind-test"));
    }
    if (node.length) {
      this._add("any other line", (c) => {
        c.fillStyle = this._theme.color("--muted");
        for (const x of [9, 15, 19]) c.fillRect(x, 7, 1, 5);
      });
    }
  }

  _addGround() {
    const { outages, weather, terms, maxCommit } = this._model;
    const ground = (level) => (c) => OutageLayer.ground(c, this._theme, level, 2, 1, 26, 16);
    const levels = new Set(outages.map(({ level }) => level));
    if (levels.has("alone")) this._add("cut off", ground("alone"));
    if (levels.has("off")) this._add("does not run", ground("off"));
    if (levels.has("partly")) this._add("some lines cut", ground("partly"));
    if (weather.length) {
      this._add("weather: what is wrong for a while", (c) => WeatherLayer.bar(c, this._theme, 2, 4, 26));
    }
    if (terms.length) {
      this._add("term without a leader yet", (c) => {
        c.fillStyle = this._theme.color("--raised");
        c.fillRect(2, 2, 26, 14);
        c.fillStyle = this._theme.fill(c, "--line-strong", "hatch");
        c.fillRect(2, 2, 14, 14);
      });
    }
    if (maxCommit > 0) {
      this._add("commit index of a node", (c) => {
        c.strokeStyle = this._theme.color("--kind-commit");
        c.lineWidth = 1.5;
        c.beginPath();
        [[2, 15], [10, 15], [10, 9], [20, 9], [20, 3], [28, 3]].forEach(([x, y]) => c.lineTo(x, y));
        c.stroke();
      });
    }
  }

  _addFindings() {
    for (const severity of /** @type {Severity[]} */ (["error", "warning", "info"])) {
      if (!this._model.findings.some((finding) => finding.severity === severity)) continue;
      const label = { error: "finding: an error", warning: "finding: a warning", info: "finding" };
      this._add(label[severity], (c) => FindingLayer.pin(c, this._theme, severity, 15, 8));
    }
    this._add("cursor: the state is that of this moment", (c) => {
      c.fillStyle = this._theme.color("--cursor");
      c.fillRect(14.2, 5, 1.6, 13);
      c.beginPath();
      [[9, 1], [21, 1], [15, 9]].forEach(([x, y]) => c.lineTo(x, y));
      c.fill();
    });
    this._add("selected", (c) => {
      c.strokeStyle = this._theme.color("--focus");
      c.lineWidth = 2.5;
      c.beginPath();
      c.arc(15, 9, 6, 0, 2 * Math.PI);
      c.stroke();
    });
  }

  _add(text, paint) {
    // Two runs share one legend: what stands there already needs no second sample.
    if ([...this._place.children].some((item) => item.textContent === text)) return;
    const canvas = element("canvas", { width: 60, height: 36, "aria-hidden": "true" });
    canvas.className = "role-sample";
    this._samples.push({ canvas, paint });
    this._place.append(element("span", {}, canvas, text));
  }

  repaint() {
    for (const { canvas, paint } of this._samples) {
      const c = contextOf(canvas);
      c.setTransform(2, 0, 0, 2, 0, 0);
      c.clearRect(0, 0, 30, 18);
      paint(c);
    }
  }
}
