/* Which part of the run is on screen: time to pixels and back, zooming and panning.

   Rules of this file:
   - The window is `start` and `span` in microseconds, over the plot: from `left` for `width`.
   - Whatever is asked for, some of the run stays visible. */

class View {
  /** @type {number} */ start;
  /** @type {number} */ span;
  static SPAN_LEAST = 20;
  static MARGIN = 0.025;

  /** @param {number} duration */
  constructor(duration) {
    // A run of a single entry has no length: give it one to be drawn on.
    this.duration = Math.max(duration, 1000);
    this.left = 0;
    this.width = 100;
    this.onChange = () => {};
    this.showAll();
  }

  get end() { return this.start + this.span; }

  /** Microseconds of one pixel. */
  get scale() { return this.span / this.width; }

  x(time) { return this.left + (time - this.start) / this.span * this.width; }

  time(x) { return this.start + (x - this.left) / this.width * this.span; }

  /** Lay the window: `from` and `to` in microseconds. */
  show(from, to) {
    const all = this.duration * (1 + 2 * View.MARGIN);
    const { start, span } = this;
    this.span = clamp(to - from, View.SPAN_LEAST, all);
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
    const all = this.duration * (1 + 2 * View.MARGIN);
    const span = clamp(this.span * factor, View.SPAN_LEAST, all);
    const from = this.time(x) - (x - this.left) / this.width * span;
    this.show(from, from + span);
  }

  pan(pixels) {
    const shift = pixels * this.scale;
    this.show(this.start + shift, this.start + shift + this.span);
  }

  /** Bring a moment well into the window, if it is not there yet. */
  reveal(time) {
    const edge = this.span * 0.06;
    if (time >= this.start + edge && time <= this.end - edge) return;
    this.show(time - this.span / 2, time + this.span / 2);
  }

  /** Bring a stretch of time into the window, with room around it. */
  revealRange(from, to) {
    const room = Math.max((to - from) * 0.35, this.duration * 0.01, 1000);
    this.show(from - room, to + room);
  }
}
