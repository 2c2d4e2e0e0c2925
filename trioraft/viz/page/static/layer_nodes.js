/* What each node was and did: role bars, election timers, ticks for lines, outages and marks.

   Rules of this file: as in layer_frame.js. What is narrower than a pixel is drawn once a pixel. */

class RoleLayer {
  /** @param {Frame} frame */
  draw(frame) {
    for (const lane of frame.layout.lanes) this._drawLane(frame, lane);
  }

  _drawLane({ c, model, view, layout, theme, hits }, lane) {
    let lastPixel = -1;
    let lastHeight = 0;
    model.rolesOfNode[lane.node].visit(view.start, view.end, (id) => {
      const name = model.roleNames[model.role.role[id]];
      const style = ROLE_STYLES[name];
      const x0 = Math.max(view.x(model.role.start[id]), view.left);
      const x1 = Math.min(view.x(model.role.end[id]), layout.width);
      const height = Math.round(style.height * layout.barScale);
      const pixel = Math.floor(x1);
      // In a crowded pixel the tallest role shows: a short candidacy must not disappear.
      if (x1 - x0 < 1 && pixel === lastPixel && height <= lastHeight) return;
      lastPixel = pixel;
      lastHeight = height;
      const width = Math.max(x1 - x0, 1);
      RoleLayer.bar(c, theme, name, x0, lane.y, width, height);
      hits.box(x0, lane.y - Math.max(height, 8) / 2, width, Math.max(height, 8),
        { type: "role", id });
    });
  }

  /** The bar of a role, in its colour, height and pattern; of a dead node a dotted line. */
  static bar(c, theme, name, x, y, width, height) {
    const style = ROLE_STYLES[name];
    if (name === "Dead") {
      c.strokeStyle = theme.color(style.color);
      c.lineWidth = 2;
      c.setLineDash([2, 5]);
      c.beginPath();
      c.moveTo(x, y);
      c.lineTo(x + width, y);
      c.stroke();
      c.setLineDash([]);
      return;
    }
    const top = Math.round(y - height / 2);
    if (style.pattern) {
      c.fillStyle = theme.color("--panel");
      c.fillRect(x, top, width, height);
    }
    c.fillStyle = theme.fill(c, style.color, style.pattern);
    c.fillRect(x, top, width, height);
    if (!style.pattern || width < 3) return;
    c.strokeStyle = theme.color(style.color);
    c.lineWidth = 1.2;
    c.strokeRect(x + 0.6, top + 0.6, width - 1.2, height - 1.2);
  }
}

/** Which role a bar is, in letters: above the arrows, which would cross them out. */
class RoleNameLayer {
  /** @param {Frame} frame */
  draw({ c, model, view, layout, theme }) {
    c.font = BOLD_FONT.replace("12px", "11px");
    c.textAlign = "left";
    c.textBaseline = "middle";
    for (const lane of layout.lanes) {
      model.rolesOfNode[lane.node].visit(view.start, view.end, (id) => {
        const x0 = Math.max(view.x(model.role.start[id]), view.left);
        const x1 = Math.min(view.x(model.role.end[id]), layout.width);
        const name = model.roleNames[model.role.role[id]];
        if (x1 - x0 < 14 || name === "Follower" || name === "Dead") return;
        const height = Math.round(ROLE_STYLES[name].height * layout.barScale);
        RoleNameLayer._draw(c, theme, name, model.role.term[id], x0, lane.y, x1 - x0, height);
      });
    }
  }

  static _draw(c, theme, name, term, x, y, width, height) {
    if (height < 9) return;
    const { letter, pattern, color } = ROLE_STYLES[name];
    const text = name === "Leader" && width > 96 ? `Leader, term ${term}` : letter;
    const wide = c.measureText(text).width;
    if (wide + 8 > width) return;
    c.fillStyle = theme.color(pattern ? "--panel" : color);
    c.fillRect(x + 3, y - height / 2 + 2, wide + 4, height - 4);
    c.fillStyle = theme.color(pattern ? "--text" : "--on-solid");
    c.fillText(text, x + 5, y + 0.5);
  }
}

class TimerLayer {
  /** @param {Frame} frame */
  draw(frame) {
    if (!frame.filters.showsKind("timer")) return;
    for (const lane of frame.layout.lanes) this._drawLane(frame, lane);
  }

  _drawLane({ c, model, view, layout, theme, hits }, lane) {
    const top = lane.y + 13 * layout.barScale + 5;
    c.strokeStyle = c.fillStyle = theme.color("--kind-timer");
    c.lineWidth = 1;
    c.beginPath();
    let lastPixel = -1;
    model.timersOfNode[lane.node].visit(view.start, view.end, (id) => {
      const x0 = view.x(model.timer.start[id]);
      const x1 = view.x(model.timer.end[id]);
      if (x1 - x0 < 2 && Math.floor(x1) === lastPixel) return;
      lastPixel = Math.floor(x1);
      const y = top + model.timerRow[id] * 7;
      if (y + 5 > lane.bottom) return;
      const left = Math.max(x0, view.left - 4);
      const right = Math.min(x1, layout.width + 4);
      c.rect(left, y + 0.5, Math.max(right - left, 1), 4);
      TimerLayer._end(c, model.timer.endKind[id], x1, y);
      hits.box(left, y - 1, Math.max(right - left, 2), 7, { type: "timer", id });
    });
    c.stroke();
  }

  /** How it ended: expired is a filled end, bailed out a stroke, replaced or open nothing. */
  static _end(c, kind, x, y) {
    if (kind === "expired") {
      c.fillRect(x - 5, y - 1, 6, 7);
    } else if (kind === "bailed out" || kind === "stopped") {
      c.moveTo(x, y - 2);
      c.lineTo(x, y + 7);
    }
  }
}

/** A tick for every line of a node that nothing else shows; columns when there are too many. */
class TickLayer {
  static MOST = 3000;
  static APART = 4;

  /** @param {Frame} frame */
  draw({ c, model, view, layout, theme, hits, filters }) {
    const first = firstAfter(model.sortedTime, view.start);
    const last = firstAfter(model.sortedTime, view.end);
    const few = last - first <= TickLayer.MOST;
    const lastPixel = new Int32Array(model.nodes.length + 1).fill(-1);
    c.fillStyle = theme.color("--muted");
    // A whole run of 100,000 lines has some hundred pixels: look at no more lines than matter.
    const stride = Math.max(1, Math.floor((last - first) / 10000));
    for (let i = first - first % stride; i < last; i += stride) {
      const entry = model.byTime[i];
      const node = model.node[entry];
      const y = layout.yOfNode(node);
      if (y === null || !layout.test.height && node < 0 || !filters.shows(entry)) continue;
      const x = view.x(model.sortedTime[i]);
      const pixel = Math.floor(x);
      if (pixel < lastPixel[node + 1] + (few ? 1 : TickLayer.APART)) continue;
      lastPixel[node + 1] = pixel;
      const low = node < 0 ? 4 : Math.min(13 * layout.barScale, 13);
      c.fillRect(pixel, y + low - 3, 1, 5);
      if (few) hits.box(x - 1, y + low - 4, 2, 8, { type: "entry", id: entry });
    }
  }
}

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
  transfer: { sign: "⇢", label: "transfer" },
  configuration: { sign: "☰", label: "" },
  test: { sign: "•", label: "" },
};

/** Times during which a node was cut off or crashed: hatched ground in its lane. */
class OutageLayer {
  /** @param {Model} model */
  constructor(model) {
    this._spans = OutageLayer._find(model);
  }

  /** @param {Frame} frame */
  draw({ c, view, layout, theme }) {
    for (const span of this._spans) {
      const lane = layout.laneOf[span.node];
      if (!lane || span.end < view.start || span.start > view.end) continue;
      const x0 = Math.max(view.x(span.start), view.left);
      const x1 = Math.min(view.x(span.end), layout.width);
      c.save();
      c.globalAlpha = 0.24;
      c.fillStyle = theme.fill(c, "--outage", "hatch");
      c.fillRect(x0, lane.top + 1, Math.max(x1 - x0, 1), layout.laneHeight - 2);
      c.restore();
    }
  }

  static _find(model) {
    const spans = [];
    const cutSince = new Map();
    const end = (node, time) => {
      if (!cutSince.has(node)) return;
      spans.push({ node, start: cutSince.get(node), end: time });
      cutSince.delete(node);
    };
    for (const mark of model.marks) {
      const goes = mark.kind === "disconnect" || mark.kind === "crash";
      const comes = mark.kind === "reconnect" || mark.kind === "restart";
      for (const node of mark.nodes) {
        if (goes && !cutSince.has(node)) cutSince.set(node, mark.time);
        if (comes) end(node, mark.time);
      }
    }
    for (const node of [...cutSince.keys()]) end(node, Math.max(model.duration, 1000));
    return spans;
  }
}

/** What was done to the cluster: a sign and a word in the test's band, a line to the nodes. */
class MarkLayer {
  static SIGN_ROOM = 13;
  static LINES_MOST = 60;
  static QUIET = new Set(["test", "propose", "configuration", "cut", "mend"]);

  /** @param {Frame} frame */
  draw(frame) {
    const { c, model, view, filters, layout, theme } = frame;
    if (!filters.showsKind("test")) return;
    const visible = [];
    model.marks.forEach((mark, id) => {
      if (mark.time < view.start || mark.time > view.end || !MARK_STYLES[mark.kind]) return;
      visible.push({ mark, id, x: view.x(mark.time), lanes: MarkLayer._lanes(layout, mark) });
    });
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
        c.fillText(words, x + 8, y + 0.5);
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
      if (finding.start > view.end || finding.end < view.start) continue;
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
