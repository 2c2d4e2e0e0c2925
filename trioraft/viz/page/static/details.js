/* In words: what is selected (below the picture, read aloud), and what is pointed at (tooltip).

   Rules of this file: sentences for somebody who learns Raft; values as the log has them. */

/** What a target is, as a headline and lines. */
class Describer {
  /** @param {Model} model */
  constructor(model) {
    this._model = model;
  }

  /** {title, lines, log} of anything that Hits gives. */
  describe(target, x) {
    const make = this[`_${target.type}`];
    return make.call(this, target, x);
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
      default: return -1;
    }
  }

  _entry({ id }) {
    const model = this._model;
    return { title: `${this._who(model.node[id])} at ${momentText(model.time[id])}`,
      lines: [], log: model.text(id) };
  }

  _message({ id }) {
    const m = this._model.message;
    const end = (node) => (node < 0 ? "somebody" : this._model.nodeName(node));
    const lines = [];
    const count = m.entries[id];
    const size = count ? ` with ${count === 1 ? "1 entry" : `${count} entries`}` : "";
    if (m.sent[id] >= 0 && m.received[id] >= 0) {
      lines.push(`on its way for ${durationText(Math.max(m.received[id] - m.sent[id], 0))}`);
    } else {
      const fate = m.fates[m.fate[id]];
      lines.push(m.sent[id] < 0 ? "when it was sent is not in the log" :
        fate === "lost" ? "lost: it never arrived" : "whether it arrived is not in the log");
    }
    const partner = m.partner[id];
    if (!m.reply[id] && partner >= 0 && m.sent[id] >= 0 && m.received[partner] >= 0) {
      lines.push(`answered after ${durationText(m.received[partner] - m.sent[id])}`);
    }
    const yes = m.positive[id] === 1 ? ": yes" : m.positive[id] === 0 ? ": no" : "";
    const term = m.term[id] >= 0 ? `, term ${m.term[id]}` : "";
    return {
      title: `${m.types[m.type[id]]}${yes}${size}, ${end(m.from[id])} → ${end(m.to[id])}${term}`,
      lines, log: this._model.text(this._model.entryOfMessage(id)),
    };
  }

  _role({ id }) {
    const { role, roleNames } = this._model;
    const name = ROLE_STYLES[roleNames[role.role[id]]].label;
    const lines = [`for ${durationText(role.end[id] - role.start[id])}, ` +
      `from ${momentText(role.start[id])}`];
    if (role.reason[id]) lines.push(`because: ${role.reason[id]}`);
    return { title: `${this._who(role.node[id])}: ${name} in term ${role.term[id]}`, lines };
  }

  _timer({ id }) {
    const { timer } = this._model;
    return {
      title: `Election timer of ${this._who(timer.node[id])}, term ${timer.term[id]}`,
      lines: [`drawn: ${durationText(timer.timeout[id])}; it ran ` +
        `${durationText(timer.end[id] - timer.start[id])}: ${timer.endKind[id]}`],
    };
  }

  _mark({ id }) {
    const mark = this._model.marks[id];
    const node = this._model.node[mark.entry];
    const who = node < 0 ? "The test" : `Node ${this._model.nodeName(node)}`;
    return { title: `${who}, at ${momentText(mark.time)}`, lines: [], log: mark.text };
  }

  _term({ id }) {
    const term = this._model.terms[id];
    const lines = [term.candidates.length ? `candidates: ${term.candidates.join(", ")}` :
      "nobody is known to have asked for votes"];
    if (term.won >= 0) {
      lines.push(`leader after ${durationText(Math.max(term.won - term.start, 0))}`);
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
    return { title: `${this._who(node)}: committed up to ${value}`,
      lines: [`at ${momentText(this._model.time[id])}`] };
  }

  _density({ id, countAt }, x) {
    const counts = countAt(x);
    return { title: `${this._who(id)} received here`,
      lines: counts.length ? [...counts.map(({ label, count }) => counted(count, label)),
        "zoom in to see each"] : ["nothing"] };
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

/** The selected event in full. It is a live region: a screen reader says what changes here. */
class Details {
  /** @param {HTMLElement} place
   * @param {Model} model
   * @param {Describer} describer
   * @param {(entry: number) => void} onSelect */
  constructor(place, model, describer, onSelect) {
    this._place = place;
    this._model = model;
    this._describer = describer;
    this._onSelect = onSelect;
    this.show(-1);
  }

  show(entry) {
    if (entry < 0) {
      this._place.replaceChildren(element("p", { className: "context", textContent:
        isFramed ? "▶ plays it. Click anything in the picture to hear what it is." :
        "Click anything in the picture or a line of the log; with the arrow keys you step " +
        "through the events. “Keys”, above, has the rest." }));
      return;
    }
    const model = this._model;
    const node = model.node[entry];
    const role = node < 0 ? -1 : model.roleAt(node, model.time[entry]);
    const as = role < 0 ? "" : `, ${ROLE_STYLES[model.roleNames[model.role.role[role]]].label}` +
      ` in term ${model.role.term[role]}`;
    const who = node < 0 ? "The test" : `Node ${model.nodeName(node)}`;
    const parts = [
      element("p", { className: "context", textContent:
        `${who}${as} · at ${momentText(model.time[entry])} · line ${model.line[entry]}` }),
      element("p", { className: "what", textContent: model.text(entry) }),
    ];
    const message = model.messageOf(entry);
    const target = message >= 0 ? { type: "message", id: message } : null;
    if (target) {
      const { title, lines } = this._describer.describe(target);
      parts.push(element("p", { className: "context", textContent:
        [title, ...lines].join(" · ") }));
    }
    const links = this._links(entry, message);
    if (links.childElementCount) parts.push(links);
    this._place.replaceChildren(...parts);
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

/** The list of findings. */
class FindingList {
  /** @param {HTMLElement} place
   * @param {HTMLElement} title
   * @param {Model} model
   * @param {(id: number) => void} onSelect */
  constructor(place, title, model, onSelect) {
    this._model = model;
    title.append(element("small", { textContent: model.findings.length
      ? counted(model.findings.length, "finding").replace(/ findings?$/, "") : "" }));
    this._buttons = model.findings.map((finding, id) => {
      const button = element("button", { type: "button" });
      const terms = finding.terms.length ? ` · term ${FindingList._terms(finding.terms)}` : "";
      button.append(
        element("span", { className: "head" },
          element("span", { className: `severity ${finding.severity}`,
            textContent: `${SEVERITY_SIGNS[finding.severity]} ${finding.kind}` }),
          element("span", { className: "where",
            textContent: `${durationText(finding.start)}${terms}` })),
        element("span", { className: "detail", textContent: finding.detail }));
      button.addEventListener("click", () => onSelect(id));
      place.append(element("li", {}, button));
      return button;
    });
    if (!model.findings.length) {
      place.append(element("li", { className: "none",
        textContent: "Nothing to report." }));
    }
  }

  static _terms(terms) {
    return terms.length > 3 ? `${terms[0]}–${terms[terms.length - 1]}` : terms.join(", ");
  }

  /** Mark one as the current; -1: none. */
  mark(id) {
    this._buttons.forEach((button, i) => {
      button.setAttribute("aria-current", String(i === id));
      if (i === id) button.scrollIntoView({ block: "nearest" });
    });
  }
}
