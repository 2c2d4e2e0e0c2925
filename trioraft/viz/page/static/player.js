/* The cursor: a moment of the run, where it is played, stepped and scrubbed to.

   Rules of this file:
   - The cursor is a place on the axis; which event is the last before it follows from that. All that
     shows a moment asks `Player.cursor`.
   - Playing turns pages: the window stays until the cursor has left most of it behind, so that most
     frames move a line and write a few numbers, however large the run. */

class Player {
  static RATES = [0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100];
  static EVENT_RATES = [1, 2, 5, 10, 25, 50, 100, 250, 1000, 5000];
  /** What a window takes to be played, at first. */
  static WINDOW_S = 12;

  /** @param {Model} model
   * @param {View} view
   * @param {{ onMove: (cursor: Cursor, isPlaying: boolean) => void, onState: () => void }} callbacks */
  constructor(model, view, { onMove, onState }) {
    this._model = model;
    this._view = view;
    this._onMove = onMove;
    this._onState = onState;
    /** @type {Cursor} */
    this.cursor = { place: 0, time: 0, position: -1 };
    this.isPlaying = false;
    this.rate = 1;
    this._last = 0;
    this.chooseRate();
    this.put(0);
  }

  get rates() { return this._view.axis.isOrder ? Player.EVENT_RATES : Player.RATES; }

  /** A rate at which what is on screen takes some seconds. */
  chooseRate() {
    const { view, rates } = { view: this._view, rates: this.rates };
    const perS = view.span / Player.WINDOW_S / (view.axis.isOrder ? 1 : 1e6);
    this.rate = rates.reduce((best, rate) =>
      (Math.abs(Math.log(rate / perS)) < Math.abs(Math.log(best / perS)) ? rate : best), rates[0]);
  }

  /** Put the cursor to a place of the axis.
   * @param {number} place */
  put(place) {
    const { axis } = this._view;
    const at = clamp(place, 0, axis.length);
    const time = axis.time(at);
    this.cursor = { place: at, time, position: this._positionAt(at, time) };
    this._onMove(this.cursor, this.isPlaying);
  }

  /** Put the cursor to an event.
   * @param {number} entry */
  putAt(entry) {
    const time = this._model.time[entry];
    const place = this._view.axis.place(time, entry);
    this.cursor = { place, time, position: this._model.position[entry] };
    this._onMove(this.cursor, this.isPlaying);
  }

  /** The axis counts otherwise now: the same event, in its new place. */
  renew() {
    const { position, time } = this.cursor;
    const entry = position < 0 ? -1 : this._model.byTime[position];
    const isAt = entry >= 0 && this._model.time[entry] === time;
    this.cursor.place = this._view.axis.place(time, isAt ? entry : -1);
    this.chooseRate();
    this._onMove(this.cursor, this.isPlaying);
    this._onState();
  }

  _positionAt(place, time) {
    const { axis } = this._view;
    if (axis instanceof OrderAxis) {
      const entry = axis.entries[Math.floor(place + 1e-9)];
      if (entry !== undefined) return this._model.position[entry];
    }
    return firstAfter(this._model.sortedTime, time + 0.5) - 1;
  }

  /** @param {boolean} isPlaying */
  play(isPlaying = !this.isPlaying) {
    if (isPlaying === this.isPlaying) return;
    const { axis } = this._view;
    if (isPlaying && this.cursor.place >= axis.length) this.put(0);
    this.isPlaying = isPlaying;
    this._last = 0;
    if (isPlaying) requestAnimationFrame((now) => this._tick(now));
    this._onState();
    if (!isPlaying) this._onMove(this.cursor, false);
  }

  _tick(now) {
    if (!this.isPlaying) return;
    // Who looks at another page for a minute comes back to where it was.
    const passedS = this._last ? Math.min((now - this._last) / 1000, 0.25) : 0;
    this._last = now;
    const { axis } = this._view;
    const place = this.cursor.place + passedS * this.rate * (axis.isOrder ? 1 : 1e6);
    this._turnPage(place);
    this.put(place);
    if (place >= axis.length) this.play(false);
    else requestAnimationFrame((later) => this._tick(later));
  }

  _turnPage(place) {
    const view = this._view;
    if (view.span >= view.duration) return;
    if (place > view.start + view.span * 0.9 || place < view.start) {
      view.showPlaces(place - view.span * 0.1, place + view.span * 0.9);
    }
  }
}

/** Buttons, the slider and the rate, below the picture. */
class Transport {
  /** @param {HTMLElement} place
   * @param {Player} player
   * @param {View} view
   * @param {{ onScrub: (place: number) => void, onStep: (by: number) => void,
   *   onAxis: () => void }} callbacks */
  constructor(place, player, view, { onScrub, onStep, onAxis }) {
    this._player = player;
    this._view = view;
    const button = (label, title, action) => {
      const made = element("button", { type: "button", textContent: label, title,
        "aria-label": title });
      made.addEventListener("click", action);
      return made;
    };
    this._play = button("▶", "Play", () => player.play());
    this._slider = element("input", { type: "range", min: "0", max: "1000", step: "any",
      value: "0", "aria-label": "Moment of the run" });
    this._slider.addEventListener("input", () => {
      player.play(false);
      onScrub(Number(this._slider.value) / 1000 * view.duration);
    });
    this._rate = element("select", { "aria-label": "How fast it is played" });
    this._rate.addEventListener("change", () => { player.rate = Number(this._rate.value); });
    this._axis = button("", "Count the axis by time, or by the order of events", onAxis);
    place.append(button("‹", "Previous event", () => onStep(-1)), this._play,
      button("›", "Next event", () => onStep(1)), this._slider, this._rate, this._axis);
    this.renew();
  }

  /** Playing has begun or ended, or the axis counts otherwise. */
  renew() {
    const { isPlaying, rates, rate } = this._player;
    setText(this._play, isPlaying ? "❚❚" : "▶");
    this._play.title = isPlaying ? "Pause" : "Play";
    this._play.setAttribute("aria-label", this._play.title);
    const { isOrder } = this._view.axis;
    setText(this._axis, isOrder ? "Axis: order" : "Axis: time");
    this._axis.setAttribute("aria-pressed", String(isOrder));
    this._rate.replaceChildren(...rates.map((value) => element("option", {
      value: String(value), selected: value === rate,
      textContent: isOrder ? `${value.toLocaleString("en")} events/s` : Transport._times(value) })));
  }

  static _times(rate) {
    return rate === 1 ? "as it was" : rate < 1 ? `${Math.round(1 / rate)}× slower` : `${rate}× faster`;
  }

  /** @param {Cursor} cursor */
  show(cursor) {
    this._slider.value = String(cursor.place / this._view.duration * 1000);
    this._slider.setAttribute("aria-valuetext", momentText(Math.max(cursor.time, 0)));
  }
}
