/* In words: what is selected (below the picture, read aloud), and what is pointed at (tooltip).

   Rules of this file: sentences for somebody who learns Raft; values as the log has them. */

/** What a target is, as a headline and lines. */
class Describer {
  /** @param {Model} model
   * @param {Words} words */
  constructor(model, words) {
    this._model = model;
    this._words = words;
  }

  /** {title, lines, log} of anything that Hits gives.
   * @param {Target} target
   * @param {number} x
   * @returns {Described} */
  describe(target, x) {
    const make = this[`_${target.type}`];
    return make.call(this, /** @type {any} */ (target), x);
  }

  /** The entry that a click on the target selects, or -1. */
  entryOf(target) {
    const model = this._model;
    switch (target.type) {
      case "entry": case "commit": return target.id;
      case "message": return model.entryOfMessage(target.id);
      case "role": return model.role.entry[target.id];
      case "timer": return model.timer.startEntry[target.id];
      case "mark": return model.marks[target.id].entry;
      case "weather": return model.weather[target.id].entry;
      default: return -1;
    }
  }

  _entry({ id }) {
    const model = this._model;
    return { title: `${this._who(model.node[id])} at ${momentText(model.time[id])}`,
      lines: [this._words.entry(id)], log: model.text(id) };
  }

  _message({ id }) {
    const m = this._model.message;
    const end = (node) => (node < 0 ? "somebody" : this._model.nodeName(node));
    const count = m.entries[id];
    const size = count ? ` with ${count === 1 ? "1 entry" : `${count} entries`}` : "";
    const yes = m.positive[id] === 1 ? ": yes" : m.positive[id] === 0 ? ": no" : "";
    const term = m.term[id] >= 0 ? `, term ${m.term[id]}` : "";
    return {
      title: `${m.types[m.type[id]]}${yes}${size}, ${end(m.from[id])} → ${end(m.to[id])}${term}`,
      lines: [this._words.message(id, false), this._words.fate(id)],
    };
  }

  _role({ id }) {
    const { role, roleNames } = this._model;
    const name = ROLE_STYLES[roleNames[role.role[id]]].label;
    return { title: `${this._who(role.node[id])}: ${name} in term ${role.term[id]}`,
      lines: [this._words.role(id), `For ${durationText(role.end[id] - role.start[id])}, ` +
        `from ${momentText(role.start[id])}.`] };
  }

  _timer({ id }) {
    const { timer } = this._model;
    return { title: `Election timer of ${this._who(timer.node[id])}, term ${timer.term[id]}`,
      lines: [`Drawn: ${durationText(timer.timeout[id])}. ${this._words.timerEnd(id)}`] };
  }

  _mark({ id }) {
    const mark = this._model.marks[id];
    return { title: this._words.mark(id), lines: [`At ${momentText(mark.time)}.`], log: mark.text };
  }

  _outage({ id }) {
    const { node, level, text, start, end } = this._model.outages[id];
    const what = { off: "does not run", alone: "is cut off", partly: "lacks some lines" }[level];
    return { title: `${upper(this._who(node))} ${what}`, lines: [`${upper(text)}.`,
      `For ${durationText(end - start)}, from ${momentText(start)}.`] };
  }

  _weather({ id }) {
    const { label, start, end } = this._model.weather[id];
    return { title: upper(label), lines: [`The simulation has it so for ` +
      `${durationText(end - start)}, from ${momentText(start)}.`] };
  }

  _term({ id }) {
    const term = this._model.terms[id];
    const lines = [term.candidates.length ? `Candidates: ${term.candidates.join(", ")}.` :
      "Nobody is known to have asked for votes."];
    if (term.won >= 0) {
      lines.push(`A leader after ${durationText(Math.max(term.won - term.start, 0))}.`);
    }
    const leader = term.leader === null ? "nobody won" : `leader ${term.leader}`;
    return { title: `Term ${term.number}: ${leader}`, lines };
  }

  _finding({ id }) {
    const finding = this._model.findings[id];
    return { title: `${SEVERITY_SIGNS[finding.severity]} ${finding.kind}`,
      lines: [finding.detail] };
  }

  _commit({ node, value, id }) {
    return { title: `${upper(this._who(node))}: committed up to ${value}`,
      lines: [`at ${momentText(this._model.time[id])}`] };
  }

  _density({ id, countAt }, x) {
    const counts = countAt(x);
    return { title: `${upper(this._who(id))} received here`,
      lines: counts.length ? [...counts.map(({ label, count }) => counted(count, label)),
        "Zoom in to see each."] : ["nothing"] };
  }

  _who(node) { return node < 0 ? "the test" : `node ${this._model.nodeName(node)}`; }
}

class Tooltip {
  /** @param {HTMLElement} place
   * @param {HTMLElement} stage */
  constructor(place, stage) {
    this._place = place;
    this._stage = stage;
  }

  hide() { this._place.hidden = true; }

  /** @param {Described} described
   * @param {number} x
   * @param {number} y */
  show({ title, lines, log }, x, y) {
    this._place.replaceChildren(element("b", { textContent: title }),
      ...lines.map((textContent) => element("div", { textContent })));
    if (log) this._place.append(element("div", { className: "mono", textContent: log }));
    this._place.hidden = false;
    const { offsetWidth, offsetHeight } = this._place;
    const left = x + 14 + offsetWidth > this._stage.clientWidth ? x - offsetWidth - 10 : x + 14;
    const top = y + 16 + offsetHeight > this._stage.clientHeight ? y - offsetHeight - 10 : y + 16;
    this._place.style.left = `${Math.max(left, 2)}px`;
    this._place.style.top = `${Math.max(top, 2)}px`;
  }
}

/** The selected event or finding in full. It is a live region: a screen reader says what changes. */
class Details {
  /** @param {HTMLElement} place
   * @param {Model} model
   * @param {Words} words
   * @param {(entry: number) => void} onSelect
   * @param {string} hint what stands here while nothing is selected */
  constructor(place, model, words, onSelect, hint) {
    this._place = place;
    this._model = model;
    this._words = words;
    this._onSelect = onSelect;
    this._hint = hint;
    this._isScrolled = false;
    place.addEventListener("scroll", () => { this._isScrolled = true; }, { passive: true });
    this.show(-1);
  }

  /** @param {number} entry */
  show(entry) {
    if (entry < 0) {
      this._place.replaceChildren(element("p", { className: "context", textContent: isFramed
        ? "▶ plays it. Click anything in the picture to hear what it is." : this._hint }));
      return;
    }
    const model = this._model;
    const message = model.messageOf(entry);
    /** @type {HTMLElement[]} */
    const parts = [
      element("p", { className: "context", textContent: this._context(entry) }),
      element("p", { className: "said", textContent: this._words.entry(entry) +
        (message < 0 ? "" : ` ${this._words.fate(message)}`) }),
    ];
    const links = this._links(entry, message);
    if (links.childElementCount) parts.push(links);
    parts.push(element("details", { className: "raw" },
      element("summary", { textContent: `line ${model.lineName(entry)} as it stands in the log` }),
      element("p", { className: "what", textContent: model.text(entry) })));
    this._replace(parts);
  }

  /** @param {number} id */
  showFinding(id) {
    this._replace(explainedFinding(this._model, id, this._onSelect));
  }

  /** A raw line that was unfolded stays so for the next one. */
  _replace(parts) {
    const wasOpen = this._place.querySelector("details")?.open ?? false;
    this._place.replaceChildren(...parts);
    const folded = this._place.querySelector("details");
    if (folded) folded.open = wasOpen;
    if (!this._isScrolled) return; // to ask where it is scrolled to costs a layout
    this._place.scrollTop = 0;
    this._isScrolled = false;
  }

  _context(entry) {
    const model = this._model;
    const node = model.node[entry];
    const role = node < 0 ? -1 : model.roleAt(node, model.time[entry], model.position[entry]);
    const as = role < 0 ? "" : `, ${ROLE_STYLES[model.roleNames[model.role.role[role]]].label}` +
      ` in term ${model.role.term[role]}`;
    const who = node < 0 ? "The test" : `Node ${model.nodeName(node)}`;
    return `${who}${as} · at ${momentText(model.time[entry])}`;
  }

  _links(entry, message) {
    const links = element("div", { className: "links" });
    if (message < 0) return links;
    const m = this._model.message;
    const add = (label, target) => {
      if (target < 0 || target === entry) return;
      const button = element("button", { type: "button", textContent: label });
      button.addEventListener("click", () => this._onSelect(target));
      links.append(button);
    };
    add("where it was sent", m.sentEntry[message]);
    add("where it arrived", m.receivedEntry[message]);
    if (m.partner[message] >= 0) {
      add(m.reply[message] ? "what it answers" : "its reply",
        this._model.entryOfMessage(m.partner[message]));
    }
    return links;
  }
}
