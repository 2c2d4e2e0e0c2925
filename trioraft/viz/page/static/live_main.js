/* Puts the live page together: news from the server, the picture that follows them, and the rest.

   Rules of this file:
   - What comes is put down when it comes, and drawn once a frame; a page that nobody sees draws
     nothing, and after a while listens to nothing.
   - A picture that somebody has moved stays where it is until it is let go on.
   - `window.trioraftLive` is for scripts (tests, screenshots). */

class LiveApp {
  static SPANS = [["5 s", 5], ["20 s", 20], ["1 min", 60], ["5 min", 300]];
  static HIDDEN_MS = 30000;
  static RETRY_MS = 1000;
  static LINES_MOST = 200;
  static QUIET = new Set(["heartbeat", "entries", "commit"]);

  /** @type {FindingData[]} */ _findings;
  /** @type {number | undefined} */ _start;
  /** @type {Describer | null} */ _describer = null;
  /** @type {number | undefined} */ _retry;
  /** @type {number | undefined} */ _hidden;

  constructor() {
    this.store = new LiveStore();
    /** @type {LiveCluster | null} */
    this.cluster = null;
    this.isFollowed = true;
    this.span = 20e6;
    this.frames = { count: 0, slowestMs: 0, lastMs: 0 };
    /** @type {Picture | null} */
    this.picture = null;
    this._request = 0;
    this._moves = 0;
    this._lines = { shown: -1, isAtEnd: true };
    this.theme = new Theme(byId("theme-button"), () => this.picture?.diagram.invalidate());
    this.lab = document.getElementById("lab") ? new LiveLab(byId("lab-said"), () => this._showCluster())
      : null;
    this.stories = this.lab && new LiveStories(byId("stories"), this.lab);
    this.members = new LiveMembers(byId("members"), this.lab);
    this.tooltip = new Tooltip(byId("tooltip"), byId("stage"));
    this._connectControls();
    this._listen();
  }

  // -- news ---------------------------------------------------------------------------------

  _listen() {
    this._source?.close();
    const source = this._source = new EventSource("live");
    source.addEventListener("all", (event) => {
      this.store.clear();
      this._lines.shown = -1;
      byId("rows").replaceChildren();
      this._take(event);
    });
    source.addEventListener("more", (event) => this._take(event));
    source.addEventListener("refused", (event) => {
      source.close();
      this._say("refused", "fail", event.data);
    });
    source.addEventListener("open", () => this._say("live", "pass"));
    source.addEventListener("error", () => {
      this._say("no connection", "fail", "The server does not answer; it is tried again.");
      // The browser tries again by itself, unless the answer was a refusal.
      if (source.readyState === EventSource.CLOSED) {
        clearTimeout(this._retry);
        this._retry = setTimeout(() => this._listen(), LiveApp.RETRY_MS);
      }
    });
  }

  _say(text, kind, title = "") {
    const badge = byId("connection");
    badge.textContent = text;
    badge.className = `badge ${kind}`;
    badge.title = title;
  }

  _take(event) {
    const told = JSON.parse(event.data);
    this.store.take(told.run);
    if (told.cluster) this.cluster = told.cluster;
    if (told.lab && this.lab) this.lab.take(told.lab);
    if (told.cluster) this.stories?.take(told.cluster);
    this._schedule();
  }

  _schedule() {
    if (!this._request) this._request = requestAnimationFrame(() => this._frame());
  }

  _frame() {
    this._request = 0;
    const began = performance.now();
    this._showCluster();
    this._showPicture();
    this._showFindings();
    this._showLines();
    const took = performance.now() - began;
    this.frames.count++;
    this.frames.lastMs = took;
    this.frames.slowestMs = Math.max(this.frames.slowestMs, took);
  }

  // -- what is shown ------------------------------------------------------------------------

  _showCluster() {
    const { cluster } = this;
    if (!cluster) return;
    this.members.show(cluster);
    const text = LiveMembers.headline(cluster, this.store.now);
    const headline = byId("headline");
    if (headline.textContent !== text) headline.textContent = text;
    headline.classList.toggle("nobody", cluster.leader === null);
    byId("cluster-id").textContent = cluster.id ?? "";
    byId("sampled").textContent = cluster.every > 1 ?
      `1 of ${cluster.every} rounds of heartbeats is drawn` : "";
  }

  _showPicture() {
    const { store, picture } = this;
    store.setNames(this.cluster?.members.map((member) => member.id ?? "")
      .filter((id) => id) ?? []);
    // Who follows sees the end: what is far to the left need not be put together every time.
    const start = Math.max(store.start, this.isFollowed ? store.now - this.span * 1.3 : 0);
    const run = store.run(start);
    const before = this._start ?? start;
    this._start = start;
    if (!picture) {
      this._makePicture(run);
      return;
    }
    const { view } = picture;
    const [from, to] = [view.fromTime - start + before, view.toTime - start + before];
    this._moves++;
    view.origin = run.duration; // the axis counts back from now
    picture.update(run, false, () => {
      if (this.isFollowed) this._follow();
      else view.show(from, to);
    });
    this._moves--;
    this._describer = null;
  }

  _makePicture(run) {
    this._moves++;
    const picture = this.picture = new Picture(byId("stage"), run, this.theme);
    picture.view.origin = run.duration;
    this._describer = null;
    this._follow();
    this._moves--;
    picture.onChange = () => this._onMove();
    picture.onPoint = (target, x, y) => this._onPoint(target, x, y);
    picture.onClick = (target) => this._onClick(target);
  }

  /** What is pointed at, in words. Made when it is asked for: a frame has no time for it. */
  get describer() {
    const { model } = /** @type {Picture} */ (this.picture);
    this._describer ??= new Describer(model, new Words(model));
    return this._describer;
  }

  /** The end of the run at the right edge. */
  _follow() {
    const { view, model } = /** @type {Picture} */ (this.picture);
    if (view.axis.isOrder) view.showPlaces(view.duration - 160, view.duration + 2);
    else view.show(model.duration - this.span, model.duration + this.span * 0.01);
  }

  /** Somebody has moved the picture: it stays there; who has only zoomed at its end follows on. */
  _onMove() {
    if (this._moves || !this.picture) return;
    const { view, model } = this.picture;
    const isAtEnd = view.toTime >= model.duration - (view.toTime - view.fromTime) * 0.02;
    if (isAtEnd && this.isFollowed) this.span = clamp(view.toTime - view.fromTime, 20e3, 300e6);
    else if (this.isFollowed) this.follow(false);
    this._showSpans();
  }

  /** @param {boolean} isFollowed */
  follow(isFollowed) {
    this.isFollowed = isFollowed;
    const button = byId("follow");
    button.setAttribute("aria-pressed", String(isFollowed));
    button.textContent = isFollowed ? "Live" : "Held";
    if (this.picture) this._showPicture();
  }

  _showFindings() {
    const { findings } = this.store;
    if (this._findings === findings) return;
    this._findings = findings;
    byId("findings-count").textContent = findings.length ? String(findings.length) : "";
    const latest = [...findings].sort((a, b) => b.start - a.start);
    byId("findings").replaceChildren(...latest.map((finding) => {
      const button = element("button", { type: "button" },
        element("span", { className: `severity ${finding.severity}`,
          textContent: `${SEVERITY_SIGNS[finding.severity]} ${finding.kind}` }),
        element("span", { className: "detail", textContent: finding.detail }));
      button.addEventListener("click", () => this._showFinding(finding));
      return element("li", {}, button);
    }));
    if (!findings.length) {
      byId("findings").append(element("li", { className: "none", textContent: "Nothing to report." }));
    }
  }

  _showFinding(finding) {
    if (!this.picture) return;
    this.follow(false);
    const start = this._start ?? 0;
    this.picture.view.revealRange(finding.start - start, finding.end - start);
  }

  /** The last lines of the log, without what comes all the time. */
  _showLines() {
    const place = byId("rows");
    const fresh = [];
    for (const [id, row] of this.store.rows.entries) {
      if (id > this._lines.shown && !LiveApp.QUIET.has(row[3])) fresh.push(row);
    }
    this._lines.shown = Math.max(this._lines.shown, ...this.store.rows.entries.keys());
    if (!fresh.length) return;
    fresh.sort((a, b) => a[1] - b[1]);
    const began = this.cluster?.began ?? 0;
    for (const [, time, node, kind, text] of fresh.slice(-LiveApp.LINES_MOST)) {
      const moment = new Date(began + time / 1000);
      place.append(element("div", { className: `row kind-${kind}`, title: text },
        element("span", { className: "time", textContent: LiveApp._clock(moment) }),
        element("b", { textContent: node ?? "you" }),
        element("span", { className: "text", textContent: text })));
    }
    while (place.childElementCount > LiveApp.LINES_MOST) place.firstElementChild?.remove();
    if (this._lines.isAtEnd) place.scrollTop = place.scrollHeight;
  }

  /** @param {Date} moment */
  static _clock(moment) {
    const two = (value) => String(value).padStart(2, "0");
    return `${two(moment.getHours())}:${two(moment.getMinutes())}:${two(moment.getSeconds())}.` +
      String(moment.getMilliseconds()).padStart(3, "0");
  }

  // -- controls -----------------------------------------------------------------------------

  _connectControls() {
    byId("follow").addEventListener("click", () => this.follow(!this.isFollowed));
    byId("by-order").addEventListener("click", () => this._toggleOrder());
    byId("spans").append(...LiveApp.SPANS.map(([label, seconds]) => {
      const button = element("button", { type: "button", textContent: String(label) });
      button.dataset.seconds = String(seconds);
      button.addEventListener("click", () => this._setSpan(Number(seconds) * 1e6));
      return button;
    }));
    this._showSpans();
    byId("help-button").addEventListener("click", () => this._help());
    byId("rows").addEventListener("scroll", ({ target }) => {
      const place = /** @type {HTMLElement} */ (target);
      this._lines.isAtEnd = place.scrollTop + place.clientHeight >= place.scrollHeight - 30;
    }, { passive: true });
    new ResizeObserver(() => {
      if (this._lines.isAtEnd) byId("rows").scrollTop = byId("rows").scrollHeight;
    }).observe(byId("rows"));
    document.addEventListener("keydown", (event) => this._onKey(event));
    document.addEventListener("visibilitychange", () => this._onVisibility());
  }

  _help() { /** @type {HTMLDialogElement} */ (byId("help")).showModal(); }

  _toggleOrder() {
    if (!this.picture) return;
    const isByOrder = !this.picture.isByOrder;
    byId("by-order").setAttribute("aria-pressed", String(isByOrder));
    this._moves++;
    this.picture.countByOrder(isByOrder);
    if (this.isFollowed) this._follow();
    this._moves--;
  }

  /** @param {number} span */
  _setSpan(span) {
    this.span = span;
    this.follow(true);
    this._showSpans();
  }

  _showSpans() {
    for (const button of byId("spans").querySelectorAll("button")) {
      const isNow = Math.abs(Number(button.dataset.seconds) * 1e6 - this.span) < 1e5;
      button.setAttribute("aria-pressed", String(isNow));
    }
  }

  _onPoint(target, x, y) {
    byId("stage").classList.toggle("pointing", target !== null);
    if (target && this.picture) this.tooltip.show(this.describer.describe(target, x), x, y);
    else this.tooltip.hide();
  }

  /** What was clicked at stays in words below the picture, which is held. */
  _onClick(target) {
    const place = byId("kept");
    if (!target || !this.picture) {
      place.replaceChildren();
      return;
    }
    const { title, lines, log } = this.describer.describe(target, 0);
    place.replaceChildren(element("b", { textContent: title }),
      element("span", { textContent: [...lines, log ?? ""].filter((line) => line).join(" · ") }));
    this.follow(false);
  }

  _onKey(event) {
    const help = /** @type {HTMLDialogElement} */ (byId("help"));
    if (event.ctrlKey || event.altKey || event.metaKey || help.open || !this.picture) return;
    const onControl = event.target instanceof Element && event.target.closest("button, a, input, summary");
    if (onControl && (event.key.length > 1 || event.key === " ")) return;
    const { view } = this.picture;
    const action = {
      " ": () => this.follow(!this.isFollowed),
      ArrowLeft: () => view.pan(-120),
      ArrowRight: () => view.pan(120),
      "+": () => view.zoom(0.6),
      "=": () => view.zoom(0.6),
      "-": () => view.zoom(1 / 0.6),
      0: () => this._setSpan(300e6),
      o: () => this._toggleOrder(),
      "?": () => this._help(),
      Escape: () => byId("kept").replaceChildren(),
    }[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  }

  /** Who is not seen for a while asks for nothing: the server need not watch for nobody. */
  _onVisibility() {
    clearTimeout(this._hidden);
    if (document.hidden) {
      this._hidden = setTimeout(() => {
        this._source?.close();
        this._isAsleep = true;
        this._say("asleep", "none", "Nobody looked: it listens again when somebody does.");
      }, LiveApp.HIDDEN_MS);
    } else if (this._isAsleep) {
      this._isAsleep = false;
      this._listen();
    }
  }
}

window.trioraftLive = new LiveApp();
