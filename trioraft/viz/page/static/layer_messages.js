/* Messages: an arrow each, from the sender when it was sent to the receiver when it arrived.

   Rules of this file:
   - As in layer_frame.js. A request's head is filled, a reply's hollow, a refusal's is a bar; what
     was lost ends short in a ×, what nobody says more about in a small circle.
   - A crowd of arrows is drawn in hairlines, and once where several would cover each other: only
     then does a picture of a thousand cost less than a frame.
   - Arrows have a budget a frame. Kinds get it by rarity, so that a vote is seen among a thousand
     heartbeats; a kind that does not fit becomes columns at its receivers, which count. */

class MessageLayer {
  static ARROWS_MOST = 600;
  static CROWD = 250;
  static COLUMN = 4;
  static COLUMN_HEIGHT = 16;

  /** @param {Frame} frame */
  draw(frame) {
    const { model, view, filters } = frame;
    // An arrow is drawn a little beyond its times (heads, lost ones): look as far beyond.
    const slack = this._lostPixels(frame) + 8;
    const from = view.time(view.left - slack);
    const to = view.time(view.left + view.width + slack);
    const crowds = [];
    model.kinds.forEach((name, kind) => {
      const index = model.messagesOfKind[kind];
      if (!index.ids.length || !filters.showsKind(name)) return;
      const count = index.count(from, to);
      if (count) crowds.push({ kind, name, index, count });
    });
    crowds.sort((a, b) => a.count - b.count);
    let budget = MessageLayer.ARROWS_MOST;
    const columns = new Columns(frame);
    const drawn = [];
    for (const crowd of crowds) {
      if (crowd.count <= budget) {
        budget -= crowd.count;
        drawn.push(crowd);
      } else {
        columns.add(crowd);
      }
    }
    columns.draw();
    // The rarest last, above the others.
    const isCrowded = MessageLayer.ARROWS_MOST - budget > MessageLayer.CROWD;
    for (const crowd of drawn.reverse()) this._drawArrows(frame, crowd, from, to, isCrowded);
  }

  /** How long the stub of a lost message is, in pixels: like others, but to be seen. */
  _lostPixels({ model, view }) {
    return view.axis.isOrder ? 34 : clamp(model.typicalDelay / view.scale, 14, view.width);
  }

  _drawArrows(frame, { name, index }, from, to, isCrowded) {
    const { c, model, theme } = frame;
    const style = KIND_STYLES[name];
    const m = model.message;
    const requests = new ArrowBatch(style, false, isCrowded);
    const replies = new ArrowBatch(style, true, isCrowded);
    const lost = this._lostPixels(frame);
    index.visit(from, to, (id) => {
      this._place(frame, id, lost, m.reply[id] ? replies : requests);
    });
    const color = theme.color(style.color);
    replies.paint(c, color, theme.color("--panel"));
    requests.paint(c, color, theme.color("--panel"));
  }

  _place({ model, view, layout, hits }, id, lost, batch) {
    const m = model.message;
    const from = layout.laneOf[m.from[id]];
    const to = layout.laneOf[m.to[id]];
    if (!from || !to || from === to) return;
    const sent = m.sent[id];
    const received = m.received[id];
    let x0 = view.x(sent, m.sentEntry[id]);
    let x1 = view.x(received, m.receivedEntry[id]);
    let y0 = from.y;
    let y1 = to.y;
    let end = m.reply[id] && m.positive[id] === 0 ? "bar" : "head";
    if (received < 0) {
      // It never arrived, or nobody said so: the arrow goes half the way.
      x1 = x0 + lost * 0.5;
      y1 = y0 + (y1 - y0) * 0.5;
      end = m.fates[m.fate[id]] === "lost" ? "lost" : "open";
    } else if (sent < 0) {
      x0 = x1 - lost * 0.35;
      y0 = y1 + (y0 - y1) * 0.35;
    }
    batch.add(x0, y0, x1, y1, end);
    hits.arrow(x0, y0, x1, y1, id);
  }
}

/** Arrows of one look, collected and then painted. */
class ArrowBatch {
  /** @param {KindStyle} style
   * @param {boolean} isReply */
  constructor(style, isReply, isCrowded = false) {
    this._style = /** @type {ArrowStyle} */ (style);
    this._isReply = isReply;
    this._isCrowded = isCrowded;
    this._lines = [];
    this._seen = new Set();
    this._heads = new Path2D();
    this._bars = new Path2D();
  }

  add(x0, y0, x1, y1, end) {
    if (this._isCrowded) {
      const place = `${Math.round(x0)} ${Math.round(x1)} ${y0} ${y1}`;
      if (this._seen.has(place)) return;
      this._seen.add(place);
    }
    this._lines.push(x0, y0, x1, y1);
    const length = Math.hypot(x1 - x0, y1 - y0) || 1;
    const ux = (x1 - x0) / length;
    const uy = (y1 - y0) / length;
    const size = this._style.head * (this._isReply ? 0.85 : 1) * (this._isCrowded ? 0.7 : 1);
    if (end === "head") this._head(x1, y1, ux, uy, size);
    else if (end === "bar") this._bar(x1, y1, ux, uy, size);
    else if (end === "lost") this._cross(x1, y1);
    else this._circle(x1, y1);
  }

  _head(x, y, ux, uy, size) {
    const half = size * 0.42;
    const backX = x - ux * size;
    const backY = y - uy * size;
    this._heads.moveTo(x, y);
    this._heads.lineTo(backX - uy * half, backY + ux * half);
    this._heads.lineTo(backX + uy * half, backY - ux * half);
    this._heads.closePath();
  }

  _bar(x, y, ux, uy, size) {
    const half = size * 0.6;
    const backX = x - ux * 3;
    const backY = y - uy * 3;
    this._bars.moveTo(backX - uy * half, backY + ux * half);
    this._bars.lineTo(backX + uy * half, backY - ux * half);
  }

  _cross(x, y) {
    this._bars.moveTo(x - 3.5, y - 3.5);
    this._bars.lineTo(x + 3.5, y + 3.5);
    this._bars.moveTo(x - 3.5, y + 3.5);
    this._bars.lineTo(x + 3.5, y - 3.5);
  }

  _circle(x, y) {
    this._bars.moveTo(x + 2.5, y);
    this._bars.arc(x, y, 2.5, 0, 2 * Math.PI);
  }

  paint(c, color, ground) {
    c.strokeStyle = color;
    c.fillStyle = color;
    if (this._isCrowded) {
      this._paintHairlines(c);
      c.fill(this._heads);
    } else {
      this._paintLines(c);
      if (this._isReply) c.fillStyle = ground;
      c.fill(this._heads);
      c.lineWidth = this._isReply ? 1.1 : 0.6;
      c.stroke(this._heads);
    }
    c.lineWidth = this._isCrowded ? 1 : 1.6;
    c.stroke(this._bars);
  }

  /** One by one: software paints many thick or dashed lines faster than one path of them. */
  _paintLines(c) {
    c.lineWidth = this._style.width * (this._isReply ? 0.6 : 1);
    c.setLineDash(this._style.dash);
    const lines = this._lines;
    for (let i = 0; i < lines.length; i += 4) {
      c.beginPath();
      c.moveTo(lines[i], lines[i + 1]);
      c.lineTo(lines[i + 2], lines[i + 3]);
      c.stroke();
    }
    c.setLineDash([]);
  }

  /** All at once: hairlines are what is painted fastest. */
  _paintHairlines(c) {
    c.lineWidth = this._isReply ? 0.6 : 1;
    const lines = this._lines;
    c.beginPath();
    for (let i = 0; i < lines.length; i += 4) {
      c.moveTo(lines[i], lines[i + 1]);
      c.lineTo(lines[i + 2], lines[i + 3]);
    }
    c.stroke();
  }
}

/** Kinds too many for arrows: how many arrived at each lane, a column every few pixels. */
class Columns {
  /** @type {number} */ _first;
  /** @type {number} */ _left;

  /** @param {Frame} frame */
  constructor(frame) {
    this._frame = frame;
    /** @type {Crowd[]} */
    this._crowds = [];
  }

  /** @param {{ kind: number, name: KindName }} crowd */
  add({ kind, name }) {
    const { model, view, layout } = this._frame;
    // Columns stand at fixed times, or they would flicker while the picture is panned.
    const width = view.scale * MessageLayer.COLUMN;
    this._first = Math.floor(view.start / width) * width;
    const slots = Math.ceil((view.end - this._first) / width);
    const counts = layout.laneOf.map((lane) => {
      if (!lane) return null;
      const places = view.axis.places(model.arrivals[kind][lane.node]);
      const own = new Int32Array(slots);
      let before = firstAfter(places, this._first);
      for (let slot = 0; slot < slots; slot++) {
        const upTo = firstAfter(places, this._first + (slot + 1) * width);
        own[slot] = upTo - before;
        before = upTo;
      }
      return own;
    });
    this._crowds.push({ name, counts });
  }

  draw() {
    const { c, view, layout, theme, hits } = this._frame;
    if (!this._crowds.length) return;
    let most = 1;
    for (const { counts } of this._crowds) {
      for (const own of counts) if (own) for (const count of own) if (count > most) most = count;
    }
    const logMost = Math.log1p(most);
    this._left = view.left + (this._first - view.start) / view.scale;
    const columnWidth = MessageLayer.COLUMN - 1;
    for (const lane of layout.lanes) {
      const room = Math.min(MessageLayer.COLUMN_HEIGHT, lane.y - lane.top - 14);
      const bottom = lane.y - 12 * layout.barScale;
      this._crowds.forEach(({ name, counts }, i) => {
        c.fillStyle = theme.color(KIND_STYLES[name].color);
        // Two crowds stand beside each other in a column, each with its own colour and width.
        const share = columnWidth / this._crowds.length;
        counts[lane.node]?.forEach((count, slot) => {
          if (!count) return;
          const height = Math.max(1, Math.log1p(count) / logMost * room);
          const x = this._left + slot * MessageLayer.COLUMN + i * share;
          c.fillRect(x, bottom - height, share, height);
        });
      });
      hits.box(view.left, bottom - room, layout.width, room,
        { type: "density", id: lane.node, countAt: (x) => this._countAt(lane.node, x) });
    }
  }

  _countAt(node, x) {
    const slot = Math.floor((x - this._left) / MessageLayer.COLUMN);
    return this._crowds.map(({ name, counts }) =>
      ({ label: KIND_STYLES[name].label, count: counts[node]?.[slot] ?? 0 }))
      .filter(({ count }) => count > 0);
  }
}
