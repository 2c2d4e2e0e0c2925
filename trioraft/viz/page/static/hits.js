/* What is under the pointer: everything that was drawn says here where it is.

   Rules of this file:
   - Filled anew by every frame, from what is really drawn: nothing invisible can be hit.
   - A target is {type, id}: "message", "role", "timer", "mark", "term", "finding", "commit",
     "outage", "weather" or "entry"; a "density" column has its numbers with it. */

class Hits {
  /** @type {{ x: number, y: number, width: number, height: number, target: Target }[]} */ _boxes;
  /** @type {number[]} */ _segments;
  /** @type {number[]} */ _segmentIds;
  static REACH = 7;
  static BEHIND = new Set(["role", "density", "outage"]);

  clear() {
    this._boxes = [];
    this._segments = [];
    this._segmentIds = [];
  }

  /** A box; later ones are above earlier ones. */
  box(x, y, width, height, target) {
    this._boxes.push({ x, y, width, height, target });
  }

  /** A message's arrow. */
  arrow(x0, y0, x1, y1, id) {
    this._segments.push(x0, y0, x1, y1);
    this._segmentIds.push(id);
  }

  /** The target at this pixel, or null. Small things come before arrows, arrows before bars.
   * @param {number} x
   * @param {number} y
   * @returns {Target | null} */
  at(x, y) {
    const box = this._boxAt(x, y);
    if (box && !Hits.BEHIND.has(box.target.type)) return box.target;
    const message = this._arrowAt(x, y);
    if (message >= 0) return { type: "message", id: message };
    return box ? box.target : null;
  }

  _boxAt(x, y) {
    for (let i = this._boxes.length - 1; i >= 0; i--) {
      const box = this._boxes[i];
      const reach = box.width < 6 ? 3 : 0;
      if (x >= box.x - reach && x <= box.x + box.width + reach &&
          y >= box.y && y <= box.y + box.height) return box;
    }
    return null;
  }

  _arrowAt(x, y) {
    let nearest = -1;
    let least = Hits.REACH ** 2;
    const s = this._segments;
    for (let i = 0; i < this._segmentIds.length; i++) {
      const at = i * 4;
      const distance = squaredDistance(x, y, s[at], s[at + 1], s[at + 2], s[at + 3]);
      if (distance < least) {
        least = distance;
        nearest = this._segmentIds[i];
      }
    }
    return nearest;
  }
}

/** From a point to the nearest point of a segment. */
function squaredDistance(x, y, x0, y0, x1, y1) {
  const dx = x1 - x0;
  const dy = y1 - y0;
  const length = dx * dx + dy * dy;
  const along = length ? clamp(((x - x0) * dx + (y - y0) * dy) / length, 0, 1) : 0;
  return (x - x0 - along * dx) ** 2 + (y - y0 - along * dy) ** 2;
}
