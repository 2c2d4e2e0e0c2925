/* Which part of the run is on screen: moments to pixels and back, zooming and panning.

   Rules of this file:
   - The window is `start` and `span` in the units of its axis (axis.js), over the plot: from `left`
     for `width` pixels. Whoever asks for a part of the run names it by its times.
   - Whatever is asked for, some of the run stays visible. */

class View {
  /** @type {number} */ start;
  /** @type {number} */ span;
  static MARGIN = 0.025;

  /** @param {Axis} axis */
  constructor(axis) {
    this.axis = axis;
    this.left = 0;
    this.width = 100;
    /** The moment from which the axis counts: 0 is the run's beginning. */
    this.origin = 0;
    /** Whether the window may leave the run: it is laid over that of another one. */
    this.isFree = false;
    this.onChange = () => {};
    this.showAll();
  }

  /** How long the run is, in the axis' units. */
  get duration() { return this.axis.length; }

  get end() { return this.start + this.span; }

  /** The time at the left edge of the window, and at its right. */
  get fromTime() { return this.axis.time(this.start); }

  get toTime() { return this.axis.time(this.end); }

  /** Units of one pixel. */
  get scale() { return this.span / this.width; }

  /** The pixel of a moment; of an event that is known by its entry, exactly its own.
   * @param {number} time
   * @param {number} [entry] */
  x(time, entry = -1) {
    return this.left + (this.axis.place(time, entry) - this.start) / this.span * this.width;
  }

  /** @param {number} x */
  place(x) { return this.start + (x - this.left) / this.width * this.span; }

  /** @param {number} x */
  time(x) { return this.axis.time(this.place(x)); }

  /** Count in other units; the same part of the run stays on screen.
   * @param {Axis} axis */
  setAxis(axis) {
    const [from, to] = [this.fromTime, this.toTime];
    const isWhole = this.span >= this.duration;
    this.axis = axis;
    if (isWhole) this.showAll();
    else this.show(from, to);
    this.onChange();
  }

  /** Lay the window: `from` and `to` in microseconds.
   * @param {number} from
   * @param {number} to */
  show(from, to) { this.showPlaces(this.axis.place(from), this.axis.place(to)); }

  /** Lay the window, in the axis' units.
   * @param {number} from
   * @param {number} to */
  showPlaces(from, to) {
    const all = this.duration * (1 + 2 * View.MARGIN);
    const { start, span } = this;
    if (this.isFree) {
      this.span = Math.max(to - from, this.axis.spanLeast);
      this.start = (from + to) / 2 - this.span / 2;
      if (this.start !== start || this.span !== span) this.onChange();
      return;
    }
    this.span = clamp(to - from, Math.min(this.axis.spanLeast, all), all);
    const slack = Math.min(this.duration * View.MARGIN, this.span * 0.5);
    const middle = (from + to) / 2;
    this.start = clamp(middle - this.span / 2, -slack, this.duration + slack - this.span);
    // At the end of the run there is nothing new to draw, however far somebody drags.
    if (this.start !== start || this.span !== span) this.onChange();
  }

  showAll() {
    const margin = this.duration * View.MARGIN;
    this.start = -margin;
    this.span = this.duration + 2 * margin;
    this.onChange();
  }

  /** Zoom by a factor (below 1: closer) around the pixel that shall stay where it is. */
  zoom(factor, x = this.left + this.width / 2) {
    const all = this.isFree ? Infinity : this.duration * (1 + 2 * View.MARGIN);
    const span = clamp(this.span * factor, Math.min(this.axis.spanLeast, all), all);
    const from = this.place(x) - (x - this.left) / this.width * span;
    this.showPlaces(from, from + span);
  }

  pan(pixels) {
    const shift = pixels * this.scale;
    this.showPlaces(this.start + shift, this.start + shift + this.span);
  }

  /** Bring a moment well into the window, if it is not there yet.
   * @param {number} time
   * @param {number} [entry] */
  reveal(time, entry = -1) {
    const edge = this.span * 0.06;
    const place = this.axis.place(time, entry);
    if (place >= this.start + edge && place <= this.end - edge) return;
    this.showPlaces(place - this.span / 2, place + this.span / 2);
  }

  /** Bring a stretch of time into the window, with room around it. */
  revealRange(from, to) {
    const [first, last] = [this.axis.place(from), this.axis.place(to)];
    const least = this.axis.isOrder ? this.axis.spanLeast : 1000;
    const room = Math.max((last - first) * 0.35, this.duration * 0.01, least);
    this.showPlaces(first - room, last + room);
  }
}
