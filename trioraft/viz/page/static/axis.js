/* What the picture's horizontal axis counts: microseconds, or events in their order.

   Rules of this file:
   - An axis turns a moment, and the event that it belongs to if one is known, into a place, and a
     place into a moment. Nothing else knows which of the two it is.
   - By order, the events that the filters show stand one unit apart: a heartbeat that is hidden
     takes no room, so that an election of 5 ms fills the picture. */

class TimeAxis {
  /** @param {Model} model */
  constructor(model) {
    this.isOrder = false;
    // A run of a single entry has no length: give it one to be drawn on.
    this.length = Math.max(model.duration, 1000);
    this.spanLeast = 20;
  }

  /** @param {number} time
   * @param {number} [_entry] */
  place(time, _entry) { return time; }

  /** @param {number} place */
  time(place) { return place; }

  /** Where each of these sorted events is. @param {Arrivals} arrivals */
  places(arrivals) { return arrivals.time; }
}

class OrderAxis {
  /** @param {Model} model
   * @param {Shown} filters */
  constructor(model, filters) {
    this.isOrder = true;
    this.spanLeast = 4;
    const times = new Float64Array(model.size);
    this._rank = new Float64Array(model.size);
    this.entries = new Int32Array(model.size);
    let count = 0;
    for (let i = 0; i < model.size; i++) {
      const entry = model.byTime[i];
      const isShown = filters.shows(entry);
      // What is hidden stands between the two that are shown.
      this._rank[entry] = isShown ? count : count - 0.5;
      if (!isShown) continue;
      this.entries[count] = entry;
      times[count++] = model.time[entry];
    }
    this.entries = this.entries.subarray(0, count);
    this._times = times.subarray(0, count);
    this.length = Math.max(count - 1, 1);
    /** @type {Map<Arrivals, Float64Array>} */
    this._places = new Map();
  }

  /** @param {number} time
   * @param {number} [entry] */
  place(time, entry = -1) {
    if (entry >= 0) return this._rank[entry];
    const times = this._times;
    const at = firstAfter(times, time) - 1;
    if (at < 0) return -0.5;
    if (at + 1 >= times.length) return at;
    return at + (time - times[at]) / (times[at + 1] - times[at]);
  }

  /** @param {number} place */
  time(place) {
    const times = this._times;
    if (!times.length) return 0;
    if (place <= 0) return times[0] + Math.min(place, 0);
    const at = Math.floor(place);
    if (at + 1 >= times.length) return times[times.length - 1] + (place - at);
    return times[at] + (place - at) * (times[at + 1] - times[at]);
  }

  /** Where each of these sorted events is; found once, for every frame needs it.
   * @param {Arrivals} arrivals */
  places(arrivals) {
    let known = this._places.get(arrivals);
    if (!known) {
      known = Float64Array.from(arrivals.entry, (entry, i) => this.place(arrivals.time[i], entry));
      known.sort();
      this._places.set(arrivals, known);
    }
    return known;
  }
}
