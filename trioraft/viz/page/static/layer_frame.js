/* The frame of the picture: time axis, lanes' ground and names, term strip, commit curves.

   Rules of this file: a layer is an object with `draw(frame)`; a frame has the canvas context `c`,
   and model, view, layout, theme, hits, filters. Layers draw in the order that diagram.js gives. */

const FONT = '12px "Inter", "Segoe UI", "Noto Sans", "Liberation Sans", Arial, sans-serif';
const SMALL_FONT = FONT.replace("12px", "11px");
const BOLD_FONT = `600 ${FONT}`;

class AxisLayer {
  static BUTTONS = 92;

  /** @param {Frame} frame */
  draw({ c, view, layout, theme }) {
    const { axis, origin } = view;
    const shift = axis.isOrder ? 0 : origin;
    const step = Math.max(AxisLayer._step(view.scale * 96, axis), axis.isOrder ? 1 : 0);
    const first = Math.ceil((Math.max(view.start, 0) - shift) / step) * step;
    const last = Math.min(view.end, view.duration) - shift;
    // By order, the labels are times all the same: as exact as tells them apart.
    const apart = axis.isOrder ? Math.max(view.toTime - view.fromTime, 1) / view.span * step : step;
    c.font = SMALL_FONT;
    c.textBaseline = "middle";
    c.textAlign = "center";
    c.lineWidth = 1;
    c.strokeStyle = theme.color("--line");
    c.fillStyle = theme.color("--muted");
    c.beginPath();
    for (let i = 0; first + i * step <= last; i++) {
      const place = first + i * step + shift;
      const x = Math.round(view.left + (place - view.start) / view.scale) + 0.5;
      c.moveTo(x, layout.axis.bottom - 5);
      c.lineTo(x, layout.height);
      const text = AxisLayer._label(axis.time(place) - origin, origin, apart);
      const half = c.measureText(text).width / 2;
      // The zoom buttons lie over the right end of the axis.
      const isFree = x - half > view.left - 4 && x + half < layout.width - AxisLayer.BUTTONS;
      if (isFree) c.fillText(text, x, 12);
    }
    c.stroke();
  }

  /** Seconds since the run's beginning, or before and after the moment that counts as 0. */
  static _label(time, origin, apart) {
    if (!origin) return tickText(time, apart);
    const sign = Math.abs(time) < 0.5 ? "" : time < 0 ? "−" : "+";
    return `${sign}${tickText(Math.abs(time), apart)}`;
  }

  /** 1, 2 or 5 times a power of ten, at least `least`; from minutes on, what clocks show. */
  static _step(least, axis) {
    if (least > 30e6 && !axis.isOrder) {
      const clock = [1, 2, 5, 10, 30, 60, 120, 360, 720, 1440].map((minutes) => minutes * 60e6);
      return clock.find((step) => step >= least) ?? Math.ceil(least / 1440 / 60e6) * 1440 * 60e6;
    }
    const power = 10 ** Math.floor(Math.log10(least));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= least) ?? 10 * power;
  }
}

class LaneGroundLayer {
  /** @param {Frame} frame */
  draw({ c, view, layout, theme }) {
    for (const lane of layout.lanes) {
      if (lane.node % 2 === 0) {
        c.fillStyle = theme.color("--lane");
        c.fillRect(0, lane.top, layout.width, layout.laneHeight);
      }
      c.strokeStyle = theme.color("--line");
      c.lineWidth = 1;
      c.beginPath();
      c.moveTo(view.left, Math.round(lane.y) + 0.5);
      c.lineTo(layout.width, Math.round(lane.y) + 0.5);
      c.stroke();
    }
  }
}

/** Names of lanes and bands, over whatever ran under them. */
class GutterLayer {
  /** @param {Frame} frame */
  draw({ c, model, view, layout, theme }) {
    c.fillStyle = theme.color("--panel");
    c.fillRect(0, 0, view.left, layout.height);
    c.strokeStyle = theme.color("--line-strong");
    c.lineWidth = 1;
    c.beginPath();
    c.moveTo(view.left - 0.5, layout.axis.bottom - 5);
    c.lineTo(view.left - 0.5, layout.height);
    c.stroke();
    c.textBaseline = "middle";
    c.textAlign = "right";
    const x = view.left - 10;
    const caption = (text, band) => {
      if (!band.height) return;
      c.font = SMALL_FONT;
      c.fillStyle = theme.color("--muted");
      c.fillText(text, x, band.top + band.height / 2 + 0.5, view.left - 14);
    };
    caption("findings", layout.findings);
    caption("term", layout.terms);
    caption("test", layout.test);
    caption("weather", layout.weather);
    caption("commit", layout.commits);
    for (const lane of layout.lanes) {
      const node = model.nodes[lane.node];
      c.font = BOLD_FONT.replace("12px", "14px");
      c.fillStyle = theme.color("--text");
      c.fillText(model.shortName(lane.node), x, lane.y, view.left - 14);
      if (!node.fullName || layout.laneHeight < 44) continue;
      c.font = SMALL_FONT;
      c.fillStyle = theme.color("--muted");
      c.fillText(node.fullName, x, lane.y + 15, view.left - 14);
    }
  }
}

class TermLayer {
  /** @param {Frame} frame */
  draw(frame) {
    const { model, view, layout } = frame;
    if (!layout.terms.height) return;
    let lastPixel = -1;
    const { fromTime, toTime } = view;
    model.terms.forEach((term, i) => {
      const next = model.terms[i + 1];
      const end = next ? Math.max(next.start, term.start) : model.duration;
      if (end < fromTime || term.start > toTime) return;
      const x0 = Math.max(view.x(term.start, term.entry), view.left);
      const x1 = Math.min(view.x(end, next && end === next.start ? next.entry : -1), layout.width);
      // Terms narrower than a pixel: one of them stands for its pixel.
      if (x1 - x0 < 1 && Math.floor(x0) === lastPixel) return;
      lastPixel = Math.floor(x0);
      this._drawTerm(frame, term, i, x0, Math.max(x1 - x0, 1));
    });
  }

  _drawTerm({ c, view, layout, theme, hits }, term, id, x, width) {
    const { top, height } = layout.terms;
    const inset = 3;
    const hasLeader = term.leader !== null;
    c.fillStyle = theme.color("--raised");
    c.fillRect(x, top + inset, width - 1, height - 2 * inset);
    if (!hasLeader || term.leaders > 1) {
      const color = term.leaders > 1 ? "--severity-error" : "--line-strong";
      c.fillStyle = theme.fill(c, color, "hatch");
      c.fillRect(x, top + inset, width - 1, height - 2 * inset);
    } else if (term.won > 0) {
      // Until the leader took office the term had none.
      const until = clamp(view.x(term.won, term.wonEntry), x, x + width - 1);
      c.fillStyle = theme.fill(c, "--line-strong", "hatch");
      c.fillRect(x, top + inset, until - x, height - 2 * inset);
    }
    hits.box(x, top + inset, width, height - 2 * inset, { type: "term", id });
    TermLayer._label(c, theme, term, x, top, width, height);
  }

  static _label(c, theme, term, x, top, width, height) {
    if (width < 15) return;
    const leaders = term.leaders > 1 ? `${term.leaders} leaders` :
      term.leader === null ? "no leader" : `leader ${term.leader}`;
    c.font = SMALL_FONT;
    c.textAlign = "left";
    c.textBaseline = "middle";
    for (const text of [`term ${term.number} · ${leaders}`, `${term.number} · ${term.leader ?? "–"}`,
      String(term.number)]) {
      const wide = c.measureText(text).width;
      if (wide + 10 > width) continue;
      c.fillStyle = theme.color("--raised");
      c.fillRect(x + 2, top + 5, wide + 6, height - 10);
      c.fillStyle = theme.color("--text");
      c.fillText(text, x + 5, top + height / 2 + 0.5);
      return;
    }
  }
}

/** How far each node knows the log to be committed; the area is the cluster's best. */
class CommitLayer {
  static DASHES = [[], [5, 3], [2, 2], [8, 3, 2, 3], [1, 3], [10, 4], [4, 2, 1, 2]];

  /** @param {Frame} frame */
  draw(frame) {
    const { c, model, view, layout, theme } = frame;
    if (!layout.commits.height) return;
    const { top, bottom, height } = layout.commits;
    c.save();
    c.beginPath();
    c.rect(view.left, top, layout.width - view.left, height);
    c.clip();
    const y = (index) => bottom - 5 - index / model.maxCommit * (height - 22);
    c.strokeStyle = theme.color("--line-strong");
    c.lineWidth = 1;
    c.strokeRect(view.left - 1, top + 0.5, layout.width, height);
    for (const lane of layout.lanes) this._curve(frame, lane.node, y);
    c.restore();
    c.font = SMALL_FONT;
    c.textAlign = "right";
    c.textBaseline = "top";
    c.fillStyle = theme.color("--muted");
    c.fillText(`commit index, to ${model.maxCommit}`, layout.width - 6, top + 4);
  }

  _curve({ c, model, view, theme, hits }, node, y) {
    const points = model.commitsOfNode[node];
    if (!points.time.length) return;
    const { fromTime, toTime } = view;
    const first = Math.max(firstAfter(points.time, fromTime) - 1, 0);
    c.beginPath();
    let value = points.time[first] <= fromTime ? points.index[first] : 0;
    c.moveTo(view.left, y(value));
    let lastX = -10;
    let steps = 0;
    for (let i = first; i < points.time.length && points.time[i] <= toTime; i++) {
      const x = view.x(points.time[i], points.entry[i]);
      // Steps within a pixel cannot be told apart: keep the last of them.
      if (x - lastX < 1 && i + 1 < points.time.length) continue;
      c.lineTo(x, y(value));
      value = points.index[i];
      c.lineTo(x, y(value));
      if (x - lastX > 4) {
        hits.box(x - 3, y(value) - 3, 6, 6, { type: "commit", id: points.entry[i], node, value });
      }
      lastX = x;
      steps++;
    }
    c.lineTo(Math.min(view.x(model.duration), view.left + view.width), y(value));
    // Many small steps are painted fast only as a plain hairline; dashes would not show anyway.
    const isSteep = steps >= 60;
    c.setLineDash(isSteep ? [] : CommitLayer.DASHES[node % CommitLayer.DASHES.length]);
    c.lineWidth = isSteep ? 1 : 1.5;
    c.strokeStyle = theme.color("--kind-commit");
    c.stroke();
    c.setLineDash([]);
  }
}
