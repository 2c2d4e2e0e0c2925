/* Mouse, touch and wheel on the picture: pan by dragging, zoom by wheel or two fingers, point; drag
   on the axis to scrub.

   Rules of this file: gestures become calls of View and of the callbacks; nothing is drawn. */

class Pointer {
  static CLICK_PIXELS = 4;

  /** @param {HTMLElement} stage
   * @param {View} view
   * @param {PointerCallbacks} callbacks */
  constructor(stage, view, { onPoint, onClick, onLeave, scrubs = () => false, onScrub = () => {} }) {
    this._stage = stage;
    this._view = view;
    this._callbacks = { onPoint, onClick, onLeave, scrubs, onScrub };
    this._isScrubbing = false;
    this._fingers = new Map();
    this._moved = 0;
    stage.addEventListener("wheel", (event) => this._onWheel(event), { passive: false });
    stage.addEventListener("pointerdown", (event) => this._onDown(event));
    stage.addEventListener("pointermove", (event) => this._onMove(event));
    stage.addEventListener("pointerup", (event) => this._onUp(event));
    stage.addEventListener("pointercancel", (event) => this._onUp(event));
    stage.addEventListener("pointerleave", () => onLeave());
    stage.addEventListener("dblclick", (event) => view.zoom(0.4, this._place(event).x));
  }

  _place(event) {
    const box = this._stage.getBoundingClientRect();
    return { x: event.clientX - box.left, y: event.clientY - box.top };
  }

  _onWheel(event) {
    if (isFramed && !event.ctrlKey && !event.shiftKey) return; // whoever reads the page scrolls it
    event.preventDefault();
    const pixels = event.deltaMode === 1 ? 30 : 1;
    const across = event.shiftKey && !event.deltaX ? event.deltaY : event.deltaX;
    if (Math.abs(across) > Math.abs(event.deltaY) || event.shiftKey) {
      this._view.pan(across * pixels);
    } else {
      // A trackpad's pinch arrives as a wheel with Ctrl, in smaller steps.
      const rate = event.ctrlKey ? 0.01 : 0.0018;
      this._view.zoom(Math.exp(event.deltaY * pixels * rate), this._place(event).x);
    }
  }

  _onDown(event) {
    if (event.button !== 0 || event.target.closest("button")) return;
    this._stage.setPointerCapture(event.pointerId);
    this._fingers.set(event.pointerId, this._place(event));
    if (this._fingers.size > 1) return;
    this._moved = 0;
    const { x, y } = this._place(event);
    this._isScrubbing = x >= this._view.left && this._callbacks.scrubs(y);
    if (this._isScrubbing) this._callbacks.onScrub(x);
  }

  _onMove(event) {
    const now = this._place(event);
    const before = this._fingers.get(event.pointerId);
    if (!before) {
      this._callbacks.onPoint(now.x, now.y);
      return;
    }
    if (this._isScrubbing) {
      this._callbacks.onScrub(now.x);
      return;
    }
    const others = [...this._fingers].filter(([id]) => id !== event.pointerId);
    if (others.length) {
      const other = others[0][1];
      const apart = (place) => Math.max(Math.abs(place.x - other.x), 20);
      this._view.zoom(apart(before) / apart(now), (now.x + other.x) / 2);
      this._moved = Infinity;
    } else {
      this._moved += Math.abs(now.x - before.x) + Math.abs(now.y - before.y);
      if (this._moved > Pointer.CLICK_PIXELS) {
        this._stage.classList.add("dragging");
        this._callbacks.onLeave();
        this._view.pan(before.x - now.x);
      }
    }
    this._fingers.set(event.pointerId, now);
  }

  _onUp(event) {
    if (!this._fingers.delete(event.pointerId)) return;
    this._stage.classList.remove("dragging");
    if (this._isScrubbing) {
      this._isScrubbing = false;
      return;
    }
    if (event.type === "pointerup" && this._moved <= Pointer.CLICK_PIXELS) {
      const { x, y } = this._place(event);
      this._callbacks.onClick(x, y);
    }
  }
}
