/* What happened to the cluster: outages and weather as ground, marks of the test, and findings.

   Rules of this file: as in layer_frame.js. What is done to lines and machines is drawn for as long
   as it lasts; what is done at once is a sign. */

/** @type {Record<MarkKind, { sign: string, label: string }>} */
const MARK_STYLES = {
  crash: { sign: "✗", label: "crash" },
  restart: { sign: "↻", label: "restart" },
  disconnect: { sign: "⊘", label: "disconnect" },
  reconnect: { sign: "⊕", label: "reconnect" },
  partition: { sign: "∥", label: "partition" },
  heal: { sign: "∪", label: "heal" },
  propose: { sign: "▸", label: "propose" },
  join: { sign: "+", label: "join" },
  leave: { sign: "−", label: "leave" },
  drop: { sign: "≠", label: "connection lost" },
  cut: { sign: "∦", label: "cut" },
  mend: { sign: "∪", label: "mend" },
  dead: { sign: "≠", label: "connections dead" },
  "link up": { sign: "↔", label: "link up" },
  "link down": { sign: "↯", label: "link down" },
  transfer: { sign: "⇢", label: "transfer" },
  configuration: { sign: "☰", label: "" },
  test: { sign: "•", label: "" },
};

/** Times during which a node was cut off, or some of its ways were: hatched ground in its lane. */
class OutageLayer {
  /** @param {Frame} frame */
  draw({ c, model, view, layout, theme }) {
    const { fromTime, toTime } = view;
    for (const span of model.outages) {
      const lane = layout.laneOf[span.node];
      if (!lane || span.end < fromTime || span.start > toTime) continue;
      const x0 = Math.max(view.x(span.start), view.left);
      const x1 = Math.min(view.x(span.end), layout.width);
      OutageLayer.ground(c, theme, span.level, x0, lane.top + 1, Math.max(x1 - x0, 1),
        layout.laneHeight - 2);
    }
  }

  /** Cut off: all of the lane, hatched; some ways cut: a strip at its foot; off: plain. */
  static ground(c, theme, level, x, y, width, height) {
    const strip = Math.min(9, height);
    c.save();
    c.globalAlpha = { off: 0.1, alone: 0.24, partly: 0.6 }[level];
    c.fillStyle = level === "off" ? theme.color("--role-dead") : theme.fill(c, "--outage", "hatch");
    if (level === "partly") c.fillRect(x, y + height - strip, width, strip);
    else c.fillRect(x, y, width, height);
    c.restore();
  }

  /** Where these strips can be pointed at: below all that stands in the lane. */
  static hit({ model, view, layout, hits }) {
    const { fromTime, toTime } = view;
    model.outages.forEach((span, id) => {
      const lane = layout.laneOf[span.node];
      if (!lane || span.end < fromTime || span.start > toTime) return;
      const x0 = Math.max(view.x(span.start), view.left);
      const x1 = Math.min(view.x(span.end), layout.width);
      hits.box(x0, lane.bottom - 11, Math.max(x1 - x0, 2), 10, { type: "outage", id });
    });
  }
}

/** What is wrong with lines and machines for a while, as the simulation says: a bar each. */
class WeatherLayer {
  /** @param {Frame} frame */
  draw({ c, model, view, layout, theme, hits }) {
    if (!layout.weather.height) return;
    const { fromTime, toTime } = view;
    c.font = SMALL_FONT;
    c.textAlign = "left";
    c.textBaseline = "middle";
    /** @type {number[]} */
    const busyUntil = [];
    model.weather.forEach((one, id) => {
      if (one.end < fromTime || one.start > toTime) return;
      const x0 = Math.max(view.x(one.start, one.entry), view.left);
      const x1 = Math.min(view.x(one.end), layout.width);
      const row = Math.min(one.row, layout.weatherRows - 1);
      const y = layout.weather.top + 2 + row * Layout.WEATHER_ROW;
      const width = Math.max(x1 - x0, 2);
      WeatherLayer.bar(c, theme, x0, y, width);
      hits.box(x0, y, width, Layout.WEATHER_ROW - 1, { type: "weather", id });
      const isFree = x0 >= (busyUntil[row] ?? -1);
      busyUntil[row] = x0 + width;
      if (!isFree || c.measureText(one.label).width + 10 > width) return;
      c.fillStyle = theme.color("--text");
      c.fillText(one.label, x0 + 5, y + 5.5);
    });
  }

  static bar(c, theme, x, y, width) {
    c.save();
    c.globalAlpha = 0.28;
    c.fillStyle = theme.color("--weather");
    c.fillRect(x, y, width, 11);
    c.restore();
    c.fillStyle = theme.color("--weather");
    c.fillRect(x, y, 2, 11);
  }
}

/** What was done to the cluster: a sign and a word in the test's band, a line to the nodes. */
class MarkLayer {
  static SIGN_ROOM = 13;
  static LINES_MOST = 60;
  static QUIET = new Set(["test", "propose", "configuration", "cut", "mend", "dead"]);

  /** @param {Frame} frame */
  draw(frame) {
    const { c, model, view, filters, layout, theme } = frame;
    const { fromTime, toTime } = view;
    const visible = [];
    const links = [];
    model.marks.forEach((mark, id) => {
      if (mark.time < fromTime || mark.time > toTime) return;
      const isLink = mark.kind.startsWith("link");
      if (!filters.showsKind(isLink ? "link" : "test")) return;
      const placed = { mark, id, x: view.x(mark.time, mark.entry),
        lanes: MarkLayer._lanes(layout, mark) };
      (isLink ? links : visible).push(placed);
    });
    this._drawLinks(frame, links);
    c.strokeStyle = c.fillStyle = theme.color("--kind-test");
    MarkLayer._lines(frame, visible);
    c.textBaseline = "middle";
    let free = -Infinity;
    visible.forEach((placed, i) => {
      const next = i + 1 < visible.length ? visible[i + 1].x : layout.width + 8;
      if (placed.x < free) return;
      free = placed.x + MarkLayer.SIGN_ROOM;
      this._drawMark(frame, placed, next - placed.x);
    });
  }

  static _lanes(layout, mark) {
    if (MarkLayer.QUIET.has(mark.kind)) return [];
    if (mark.kind === "partition" || mark.kind === "heal") return layout.lanes;
    return mark.nodes.map((node) => layout.laneOf[node]).filter((lane) => lane);
  }

  /** A link that one node sees go up or down: in its own lane, one sign where several would meet. */
  _drawLinks({ c, layout, hits, theme }, links) {
    const lastX = layout.laneOf.map(() => -Infinity);
    c.fillStyle = theme.color("--kind-link");
    c.font = BOLD_FONT;
    c.textAlign = "center";
    c.textBaseline = "middle";
    for (const { mark, id, x } of links) {
      const lane = layout.laneOf[mark.nodes[0]];
      if (!lane || x < lastX[mark.nodes[0]] + 9) continue;
      lastX[mark.nodes[0]] = x;
      c.fillText(MARK_STYLES[mark.kind].sign, x, lane.bottom - 9);
      hits.box(x - 5, lane.bottom - 16, 10, 14, { type: "mark", id });
    }
  }

  /** All lines in one stroke, each down to the last lane that it concerns. */
  static _lines({ c, layout }, visible) {
    if (visible.length > MarkLayer.LINES_MOST) return; // a fence of lines would hide all else
    c.lineWidth = 1;
    c.setLineDash([3, 3]);
    c.beginPath();
    for (const { x, lanes } of visible) {
      if (!lanes.length) continue;
      c.moveTo(x, layout.test.bottom - 5);
      c.lineTo(x, Math.max(...lanes.map((lane) => lane.bottom)) - 2);
    }
    c.stroke();
    c.setLineDash([]);
  }

  _drawMark({ c, layout, hits }, { mark, id, x, lanes }, room) {
    const { sign, label } = MARK_STYLES[mark.kind];
    const y = layout.test.top + layout.test.height / 2;
    const isForAll = lanes === layout.lanes;
    c.font = BOLD_FONT.replace("12px", "13px");
    c.textAlign = "center";
    c.fillText(sign, x, y);
    let wide = 14;
    if (room > 40) {
      const words = label === "" ? mark.text : isForAll ? label : `${label} ${mark.names}`;
      c.font = SMALL_FONT;
      c.textAlign = "left";
      const needs = c.measureText(words).width;
      if (needs <= room - 16) {
        c.fillText(words, x + 10, y + 0.5);
        wide += needs + 4;
      }
    }
    hits.box(x - 7, layout.test.top + 1, wide, layout.test.height - 2, { type: "mark", id });
    if (isForAll) return;
    c.font = BOLD_FONT.replace("12px", "15px");
    c.textAlign = "center";
    for (const lane of lanes) {
      c.fillText(sign, x, lane.top + 9);
      hits.box(x - 7, lane.top + 1, 14, 16, { type: "mark", id });
    }
  }
}

/** Findings pinned where they happened, and a shade over their nodes' lanes for how long. */
class FindingLayer {
  /** @param {Frame} frame */
  draw(frame) {
    const { c, model, view, layout, theme, hits } = frame;
    let lastX = -100;
    const order = model.findings.map((finding, id) => ({ finding, id }))
      .sort((a, b) => a.finding.start - b.finding.start);
    for (const { finding, id } of order) {
      if (finding.start > view.toTime || finding.end < view.fromTime) continue;
      const color = theme.color(`--severity-${finding.severity}`);
      const x0 = clamp(view.x(finding.start), view.left, layout.width);
      const x1 = clamp(view.x(finding.end), x0, layout.width);
      const y = layout.findings.top + 13;
      c.fillStyle = color;
      c.fillRect(x0, y - 1, Math.max(x1 - x0, 1), 3);
      hits.box(x0, y - 5, x1 - x0, 10, { type: "finding", id });
      const x = Math.max(x0, lastX + 17, view.left + 8);
      if (x > layout.width - 8) continue;
      lastX = x;
      FindingLayer.pin(c, theme, finding.severity, x, y);
      hits.box(x - 8, y - 9, 16, 18, { type: "finding", id });
    }
  }

  /** The shape tells the severity: an octagon an error, a triangle a warning, a disc the rest. */
  static pin(c, theme, severity, x, y) {
    const corners = { error: 8, warning: 3, info: 24 }[severity];
    const turn = { error: Math.PI / 8, warning: -Math.PI / 2, info: 0 }[severity];
    const radius = severity === "warning" ? 10 : 8;
    const middle = severity === "warning" ? y + 2 : y;
    c.beginPath();
    for (let i = 0; i < corners; i++) {
      const angle = turn + i / corners * 2 * Math.PI;
      c.lineTo(x + radius * Math.cos(angle), middle + radius * Math.sin(angle));
    }
    c.closePath();
    c.fillStyle = theme.color(`--severity-${severity}`);
    c.strokeStyle = theme.color("--panel");
    c.lineWidth = 2;
    c.stroke();
    c.fill();
    c.fillStyle = theme.color("--on-solid");
    c.font = BOLD_FONT;
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(SEVERITY_SIGNS[severity], x, middle + 0.5);
  }
}
