/* The state of every node at a moment: term, role, vote, log, votes, commit.

   Rules of this file:
   - A moment is a position: of an event among all, by time. What was so before it is found by
     halving the list of changes, for any moment in the same time; nothing is replayed.
   - What no line tells is null, not "nobody". */

class StateIndex {
  /** So many changes of a log are looked at for the terms of its last entries. */
  static BACK_MOST = 64;

  /** @param {Model} model */
  constructor(model) {
    this._model = model;
    const { states } = model;
    /** By field, then by node. @type {Record<string, Changes[]>} */
    this._changes = {};
    states.names.forEach((name, field) => {
      this._changes[name] = this._byNode(states.entry, states.node, states.value,
        (i) => states.field[i] === field);
    });
    this._commits = model.commitsOfNode.map(({ entry, index }) =>
      ({ position: Int32Array.from(entry, (e) => model.position[e]).sort(), value: index }));
    // What is committed a node that dies forgets, until it hears of it again.
    this._deaths = model.nodes.map((_, node) => {
      const { role } = model;
      const dead = model.roleNames.indexOf("Dead");
      return Int32Array.from([...role.node.keys()].filter((id) => role.node[id] === node &&
        role.role[id] === dead && role.entry[id] >= 0), (id) => model.position[role.entry[id]]).sort();
    });
  }

  _commit(node, position) {
    const { position: points, value } = this._commits[node];
    const at = firstAfter(points, position) - 1;
    const death = firstAfter(this._deaths[node], position) - 1;
    if (at < 0 || death >= 0 && this._deaths[node][death] > points[at]) return null;
    return value[at];
  }

  /** @returns {Changes[]} */
  _byNode(entries, nodes, values, isWanted) {
    /** @type {{ position: number[], value: number[] }[]} */
    const own = this._model.nodes.map(() => ({ position: [], value: [] }));
    for (let i = 0; i < entries.length; i++) {
      if (!isWanted(i)) continue;
      own[nodes[i]].position.push(this._model.position[entries[i]]);
      own[nodes[i]].value.push(values[i]);
    }
    return own.map(({ position, value }) => ({ position: Int32Array.from(position), value }));
  }

  /** The state of every node after the event at this position; -1 is before the first.
   * @param {number} position
   * @returns {NodeState[]} */
  at(position) { return this._model.nodes.map((_, node) => this.ofNode(node, position)); }

  /** @param {number} node
   * @param {number} position
   * @returns {NodeState} */
  ofNode(node, position) {
    const model = this._model;
    const time = position < 0 ? -1 : model.sortedTime[position];
    const span = model.roleAt(node, time, position);
    const text = (field) => {
      const value = StateIndex._last(this._changes[field]?.[node], position);
      return value === null ? null : model.states.texts[value];
    };
    return {
      role: span < 0 ? null : model.roleNames[model.role.role[span]],
      term: span < 0 ? null : model.role.term[span],
      vote: text("vote"), leader: text("leader"), votes: text("votes"),
      lastIndex: StateIndex._last(this._changes.lastIndex?.[node], position),
      lastTerm: StateIndex._last(this._changes.lastTerm?.[node], position),
      commit: this._commit(node, position),
    };
  }

  /** @param {Changes | undefined} changes
   * @param {number} position
   * @returns {number | null} */
  static _last(changes, position) {
    if (!changes) return null;
    const at = firstAfter(changes.position, position) - 1;
    return at < 0 ? null : changes.value[at];
  }

  /** The last entries of a node's log with their terms, oldest first; of a term that is too long
   * ago to look for, null.
   * @param {number} node
   * @param {number} position
   * @param {number} most
   * @returns {{ index: number, term: number | null }[]} */
  tail(node, position, most) {
    const indexes = this._changes.lastIndex?.[node];
    const last = StateIndex._last(indexes, position);
    if (!indexes || last === null || last < 1) return [];
    const first = Math.max(1, last - most + 1);
    /** @type {(number | null)[]} */
    const terms = new Array(last - first + 1).fill(null);
    let upTo = last;
    let at = firstAfter(indexes.position, position) - 1;
    for (let back = 0; back < StateIndex.BACK_MOST && at >= 0 && upTo >= first; back++, at--) {
      const term = StateIndex._last(this._changes.lastTerm?.[node], indexes.position[at]);
      const before = at > 0 ? indexes.value[at - 1] : 0;
      // Entries after those of the change before came with this one, or were there in its place.
      for (let index = Math.max(Math.min(before, upTo) + 1, first); index <= upTo; index++) {
        terms[index - first] = term;
      }
      upTo = Math.min(upTo, before);
    }
    return terms.map((term, i) => ({ index: first + i, term }));
  }
}

/** The states beside their lanes, or as a table where there is no room for that. */
class StatePanel {
  static BOXES = 8;

  /** @param {HTMLElement} place
   * @param {Model} model
   * @param {StateIndex} states
   * @param {Diagram} diagram */
  constructor(place, model, states, diagram) {
    this._place = place;
    this._model = model;
    this._states = states;
    this._diagram = diagram;
    this._moment = element("div", { className: "moment" });
    place.append(this._moment);
    this._rows = model.nodes.map((_, node) => new StateRow(place, model.shortName(node),
      model.unknowns.length > 0));
    this._position = -2;
  }

  /** Put each row beside its lane. */
  resize() {
    const { laneOf, laneHeight } = this._diagram.layout;
    this._rows.forEach((row, node) => row.move(laneOf[node], laneHeight));
  }

  /** What is so after the event at this position.
   * @param {number} position
   * @param {number} time */
  show(position, time) {
    const after = position < 0 ? "before the first line" : `after line ` +
      `${this._model.lineName(this._model.byTime[position])}`;
    setText(this._moment, `State at ${momentText(Math.max(time, 0))}, ${after}`);
    if (position === this._position) return;
    this._position = position;
    this._rows.forEach((row, node) => {
      row.show(this._states.ofNode(node, position),
        this._states.tail(node, position, StatePanel.BOXES));
    });
  }
}

/** A node's line in the panel; only what has changed is written anew. */
class StateRow {
  /** @param {HTMLElement} place
   * @param {string} name
   * @param {boolean} isPartial whether a term of 0 is only what the log does not tell */
  constructor(place, name, isPartial) {
    this._isPartial = isPartial;
    const cell = (className) => element("span", { className });
    this._role = cell("role");
    this._term = cell("term");
    this._facts = cell("facts");
    this._log = element("span", { className: "boxes" });
    this._shownLog = "";
    this._row = element("div", { className: "state" },
      element("span", { className: "who" }, element("b", { textContent: name }), this._role,
        this._term), this._facts, this._log);
    place.append(this._row);
  }

  move(lane, height) {
    this._row.hidden = lane === null;
    if (!lane) return;
    this._row.style.setProperty("--top", `${lane.top}px`);
    this._row.style.setProperty("--height", `${height}px`);
    this._row.classList.toggle("low", height < 64);
  }

  /** @param {NodeState} state
   * @param {{ index: number, term: number | null }[]} tail */
  show(state, tail) {
    const { role, term } = state;
    setText(this._role, role === null ? "not known" : ROLE_STYLES[role].label);
    this._role.className = `role ${role ?? ""}`;
    setText(this._term, term === null ? "" : term === 0 && this._isPartial ? "term not known" :
      `term ${term}`);
    const facts = StateRow.facts(state).join(" · ");
    setText(this._facts, facts);
    if (this._row.title !== facts) this._row.title = facts;
    this._showLog(state, tail);
  }

  /** What is known, in a few words each.
   * @param {NodeState} state */
  static facts({ role, vote, leader, votes, lastIndex, commit }) {
    const facts = [];
    if (role === "Candidate" && votes) facts.push(`has votes of ${votes}`);
    if (vote !== null) facts.push(vote ? `voted for ${vote}` : "has not voted");
    if (role === "Follower" && leader !== null) {
      facts.push(leader ? `follows ${leader}` : "knows no leader");
    }
    if (lastIndex !== null) facts.push(lastIndex > 0 ? `log to ${lastIndex}` : "log empty");
    if (commit !== null) facts.push(`committed to ${commit}`);
    return facts;
  }

  /** A box for each of the last entries, with its term; those that are committed are filled. */
  _showLog({ commit, lastIndex }, tail) {
    const key = `${commit} ${lastIndex} ${tail.map(({ term }) => term).join()}`;
    if (key === this._shownLog) return;
    this._shownLog = key;
    const boxes = tail.map(({ index, term }) => element("i", {
      className: commit !== null && index <= commit ? "committed" : "",
      textContent: term === null ? "?" : String(term),
      title: `entry ${index}, of term ${term ?? "unknown"}` +
        (commit !== null && index <= commit ? ", committed" : ", not known to be committed here"),
      "data-term": term === null ? "" : String(term % 6),
    }));
    if (tail.length && tail[0].index > 1) boxes.unshift(element("i", { className: "more", textContent: "…" }));
    this._log.replaceChildren(...boxes);
  }
}
