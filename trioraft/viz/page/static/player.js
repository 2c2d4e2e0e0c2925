/* Plays a run: selects one event after the other, a few a second, to the end or until somebody
   takes over.

   Rules of this file: it selects, as the right arrow does, and draws nothing. */

class Player {
  static STEP_MS = 300;

  /** @param {HTMLButtonElement} button
   * @param {() => boolean} step selects the next event; false at the end */
  constructor(button, step) {
    this._button = button;
    this._step = step;
    this._timer = 0;
    button.addEventListener("click", () => this.toggle());
    // Whoever points at something, or presses a key, wants to look at that.
    for (const type of ["pointerdown", "keydown"]) {
      document.addEventListener(type, (event) => {
        if (event.target !== button && /** @type {KeyboardEvent} */ (event).key !== " ") this.stop();
      }, true);
    }
  }

  toggle() {
    if (this._timer) {
      this.stop();
      return;
    }
    this._say("❚❚", "Pause");
    this._timer = window.setInterval(() => this._next(), Player.STEP_MS);
    this._next();
  }

  stop() {
    window.clearInterval(this._timer);
    this._timer = 0;
    this._say("▶", "Play");
  }

  _next() {
    if (!this._step()) this.stop();
  }

  _say(sign, label) {
    this._button.textContent = sign;
    this._button.setAttribute("aria-label", label);
  }
}
