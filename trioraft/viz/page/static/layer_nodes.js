/* What each node was and did: role bars, election timers, ticks for lines.

   Rules of this file: as in layer_frame.js. What is narrower than a pixel is drawn once a pixel. */

class RoleLayer {
  /** @param {Frame} frame */
  draw(frame) {
    for (const lane of frame.layout.lanes) this._drawLane(frame, lane);
  }

  _drawLane({ c, model, view, layout, theme, hits }, lane) {
    let lastPixel = -1;
    let lastHeight = 0;
    const { role } = model;
    model.rolesOfNode[lane.node].visit(view.fromTime, view.toTime, (id) => {
      const name = model.roleNames[role.role[id]];
      const style = ROLE_STYLES[name];
      const x0 = Math.max(view.x(role.start[id], role.entry[id]), view.left);
      const x1 = Math.min(view.x(role.end[id], role.endEntry[id]), layout.width);
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
    const { role } = model;
    for (const lane of layout.lanes) {
      model.rolesOfNode[lane.node].visit(view.fromTime, view.toTime, (id) => {
        const x0 = Math.max(view.x(role.start[id], role.entry[id]), view.left);
        const x1 = Math.min(view.x(role.end[id], role.endEntry[id]), layout.width);
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
    const { timer } = model;
    model.timersOfNode[lane.node].visit(view.fromTime, view.toTime, (id) => {
      const x0 = view.x(timer.start[id], timer.startEntry[id]);
      const x1 = view.x(timer.end[id], timer.endEntry[id]);
      if (x1 - x0 < 2 && Math.floor(x1) === lastPixel) return;
      lastPixel = Math.floor(x1);
      const y = top + model.timerRow[id] * 7;
      if (y + 5 > lane.bottom) return;
      const left = Math.max(x0, view.left - 4);
      const right = Math.min(x1, layout.width + 4);
      c.rect(left, y + 0.5, Math.max(right - left, 1), 4);
      TimerLayer.end(c, timer.endKind[id], x1, y);
      hits.box(left, y - 1, Math.max(right - left, 2), 7, { type: "timer", id });
    });
    c.stroke();
  }

  /** How it ended: expired is a filled end, bailed out a stroke, replaced or open nothing. */
  static end(c, kind, x, y) {
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
    const first = firstAfter(model.sortedTime, view.fromTime - 0.5);
    const last = firstAfter(model.sortedTime, view.toTime);
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
      const x = view.x(model.sortedTime[i], entry);
      const pixel = Math.floor(x);
      if (pixel < lastPixel[node + 1] + (few ? 1 : TickLayer.APART)) continue;
      lastPixel[node + 1] = pixel;
      const low = node < 0 ? 4 : Math.min(13 * layout.barScale, 13);
      c.fillRect(pixel, y + low - 3, 1, 5);
      if (few) hits.box(x - 1, y + low - 4, 2, 8, { type: "entry", id: entry });
    }
  }
}
