/* The run, decoded: typed arrays, and the look-ups that the picture and the log need.

   Rules of this file:
   - Made once, from the JSON that data.py wrote; never changed afterwards.
   - An event is an entry of the log, known by its index; everything else points to entries.
   - -1 stands for "none" in every array of indexes or times. */

/** Intervals by start, with the latest end of every block: what overlaps a window is found
    without looking at all that ended long before. */
class IntervalIndex {
  static BLOCK = 128;

  /** @param {number[]} ids
   * @param {(id: number) => number} startOf
   * @param {(id: number) => number} endOf */
  constructor(ids, startOf, endOf) {
    this.ids = Int32Array.from(ids).sort((a, b) => startOf(a) - startOf(b));
    const size = this.ids.length;
    this.starts = new Float64Array(size);
    this.ends = new Float64Array(size);
    this.blockEnds = new Float64Array(Math.ceil(size / IntervalIndex.BLOCK)).fill(-Infinity);
    for (let i = 0; i < size; i++) {
      this.starts[i] = startOf(this.ids[i]);
      this.ends[i] = endOf(this.ids[i]);
      const block = Math.floor(i / IntervalIndex.BLOCK);
      this.blockEnds[block] = Math.max(this.blockEnds[block], this.ends[i]);
    }
    this._sortedEnds = this.ends.slice().sort();
  }

  /** Call with each id that overlaps [from, to], by start.
   * @param {number} from
   * @param {number} to
   * @param {(id: number) => void} call */
  visit(from, to, call) {
    const end = firstAfter(this.starts, to);
    for (let block = 0; block * IntervalIndex.BLOCK < end; block++) {
      if (this.blockEnds[block] < from) continue;
      const first = block * IntervalIndex.BLOCK;
      const last = Math.min(first + IntervalIndex.BLOCK, end);
      for (let i = first; i < last; i++) {
        if (this.ends[i] >= from) call(this.ids[i]);
      }
    }
  }

  /** How many overlap [from, to]: those that began, less those that had ended.
   * @param {number} from
   * @param {number} to */
  count(from, to) {
    return firstAfter(this.starts, to) - firstAfter(this._sortedEnds, from);
  }
}

/** Index of the first value greater than `limit` in a sorted array.
 * @param {ArrayLike<number>} sorted
 * @param {number} limit */
function firstAfter(sorted, limit) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle] <= limit) low = middle + 1;
    else high = middle;
  }
  return low;
}

class Model {
  static NAME_CHARS = 8;
  /** @type {string[] | undefined} */ _shortNames;
  /** @type {number} */ size;
  /** @type {Float64Array} */ time;
  /** @type {Int16Array} */ node;
  /** @type {Uint8Array} */ kind;
  /** @type {Int32Array} */ line;
  /** @type {Int32Array} */ textOf;
  /** @type {string[]} */ texts;
  /** @type {Int32Array} */ byTime;
  /** @type {Float64Array} */ sortedTime;
  /** @type {Int32Array} */ kindCounts;
  /** @type {RoleSpans} */ role;
  /** @type {IntervalIndex[]} */ rolesOfNode;
  /** @type {MessageColumns} */ message;
  /** @type {Int32Array} */ sentBy;
  /** @type {Int32Array} */ receivedBy;
  /** @type {Int32Array} */ position;
  /** @type {Arrivals[][]} */ arrivals;
  /** @type {IntervalIndex[]} */ messagesOfKind;
  /** @type {number} */ typicalDelay;
  /** @type {TimerSpans} */ timer;
  /** @type {Uint8Array} */ timerRow;
  /** @type {IntervalIndex[]} */ timersOfNode;
  /** @type {CommitCurve[]} */ commitsOfNode;
  /** @type {number} */ maxCommit;

  /** @param {RunData} data */
  constructor(data) {
    this.duration = Math.max(data.duration, 0);
    this.nodes = data.nodes;
    this.kinds = data.kinds;
    this.roleNames = data.roles.names;
    this.marks = data.marks;
    this.terms = data.terms;
    this.findings = data.findings;
    this.outages = data.outages;
    this.weather = data.weather;
    this.states = data.states;
    this.sources = data.sources;
    this.explanations = data.explanations;
    this.sourceOf = data.sourceOf;
    this.unknowns = data.unknowns;
    this._takeEntries(data.entries);
    this._takeRoles(data.roles);
    this._takeMessages(data.messages);
    this._takeTimers(data.timers);
    this._takeCommits(data.commits);
  }

  /** @param {RunData["entries"]} entries */
  _takeEntries(entries) {
    this.size = entries.time.length;
    this.time = Float64Array.from(entries.time);
    this.node = Int16Array.from(entries.node);
    this.kind = Uint8Array.from(entries.kind);
    this.line = Int32Array.from(entries.line);
    this.textOf = Int32Array.from(entries.text);
    this.texts = entries.texts;
    // A log's lines can be some microseconds out of order: what is searched is sorted first.
    this.byTime = Int32Array.from(this.time, (_, i) => i);
    this.byTime.sort((a, b) => this.time[a] - this.time[b] || a - b);
    this.sortedTime = Float64Array.from(this.byTime, (entry) => this.time[entry]);
    this.position = new Int32Array(this.size);
    for (let i = 0; i < this.size; i++) this.position[this.byTime[i]] = i;
    this.kindCounts = new Int32Array(this.kinds.length);
    for (const kind of this.kind) this.kindCounts[kind]++;
  }

  /** @param {RunData["roles"]} roles */
  _takeRoles(roles) {
    this.role = {
      node: roles.node, role: roles.role, term: roles.term, reason: roles.reason,
      entry: Int32Array.from(roles.entry),
      start: Float64Array.from(roles.start), end: Float64Array.from(roles.end),
      // A role ends with the line that begins the next one; the last with the run.
      endEntry: Int32Array.from(roles.entry, (_, id) =>
        (roles.node[id + 1] === roles.node[id] ? roles.entry[id + 1] : -1)),
    };
    this.rolesOfNode = this._intervalsByNode(this.role);
  }

  /** @param {RunData["messages"]} messages */
  _takeMessages(messages) {
    const count = messages.sent.length;
    this.message = {
      kind: Uint8Array.from(messages.kind), type: messages.type, types: messages.types,
      from: Int16Array.from(messages.from), to: Int16Array.from(messages.to),
      term: messages.term, sent: Float64Array.from(messages.sent),
      received: Float64Array.from(messages.received), fate: messages.fate,
      fates: messages.fates, reply: messages.reply, positive: messages.positive,
      entries: messages.entries, partner: Int32Array.from(messages.partner),
      sentEntry: Int32Array.from(messages.sentEntry),
      receivedEntry: Int32Array.from(messages.receivedEntry),
    };
    const m = this.message;
    /** @param {number} id */
    const startOf = (id) => (m.sent[id] < 0 ? m.received[id] : m.sent[id]);
    /** @param {number} id */
    const endOf = (id) => Math.max(m.sent[id], m.received[id]);
    /** @type {number[][]} */
    const ofKind = this.kinds.map(() => []);
    this.sentBy = new Int32Array(this.size).fill(-1);
    this.receivedBy = new Int32Array(this.size).fill(-1);
    for (let id = 0; id < count; id++) {
      if (m.sentEntry[id] >= 0) this.sentBy[m.sentEntry[id]] = id;
      if (m.receivedEntry[id] >= 0) this.receivedBy[m.receivedEntry[id]] = id;
      // An arrow needs two ends; a reply to nobody known stays a line of the log.
      if (m.from[id] >= 0 && m.to[id] >= 0) ofKind[m.kind[id]].push(id);
    }
    this.arrivals = ofKind.map((ids) => this._arrivalsByNode(ids));
    this.messagesOfKind = ofKind.map((ids) => new IntervalIndex(ids, startOf, endOf));
    this.typicalDelay = this._typicalDelay();
  }

  /** When messages reached each node, sorted; what never arrived counts when it was sent.
   * @param {number[]} ids
   * @returns {Arrivals[]} */
  _arrivalsByNode(ids) {
    const m = this.message;
    /** @type {number[][]} */
    const entries = this.nodes.map(() => []);
    for (const id of ids) {
      entries[m.to[id]].push(m.received[id] < 0 ? m.sentEntry[id] : m.receivedEntry[id]);
    }
    return entries.map((own) => {
      own.sort((a, b) => this.position[a] - this.position[b]);
      return { entry: own, time: Float64Array.from(own, (entry) => this.time[entry]) };
    });
  }

  _typicalDelay() {
    const m = this.message;
    /** @type {number[]} */
    const delays = [];
    const step = Math.max(1, Math.floor(m.sent.length / 2000));
    for (let id = 0; id < m.sent.length; id += step) {
      if (m.sent[id] >= 0 && m.received[id] >= m.sent[id]) delays.push(m.received[id] - m.sent[id]);
    }
    delays.sort((a, b) => a - b);
    return delays.length ? delays[delays.length >> 1] : 1000;
  }

  /** @param {RunData["timers"]} timers */
  _takeTimers(timers) {
    this.timer = {
      ...timers, start: Float64Array.from(timers.start), end: Float64Array.from(timers.end),
    };
    this.timerRow = this._timerRows();
    this.timersOfNode = this._intervalsByNode(this.timer);
  }

  /**
   * The spans of each node, of columns with `node`, `start` and `end`.
   * @param {{ node: ArrayLike<number>, start: ArrayLike<number>, end: ArrayLike<number> }} columns
   * @returns {IntervalIndex[]}
   */
  _intervalsByNode({ node, start, end }) {
    /** @type {number[][]} */
    const ids = this.nodes.map(() => []);
    for (let id = 0; id < node.length; id++) ids[node[id]].push(id);
    return ids.map((own) => new IntervalIndex(own, (id) => start[id], (id) => end[id]));
  }

  /** Which row below the lane a timer has: several alive at once must not hide each other. */
  _timerRows() {
    const rowOf = new Uint8Array(this.timer.start.length);
    const busyUntil = this.nodes.map(() => [-1, -1, -1]);
    for (let id = 0; id < rowOf.length; id++) {
      const rows = busyUntil[this.timer.node[id]];
      // A millisecond of overlap is two lines of a log written the other way round.
      const free = rows.findIndex((until) => until <= this.timer.start[id] + 1000);
      rowOf[id] = free < 0 ? rows.length - 1 : free;
      rows[rowOf[id]] = Math.max(rows[rowOf[id]], this.timer.end[id]);
    }
    return rowOf;
  }

  /** @param {RunData["commits"]} commits */
  _takeCommits(commits) {
    this.commitsOfNode = this.nodes.map(() => ({ time: [], index: [], entry: [] }));
    this.maxCommit = 0;
    commits.node.forEach((node, i) => {
      const own = this.commitsOfNode[node];
      own.time.push(commits.time[i]);
      own.index.push(commits.index[i]);
      own.entry.push(commits.entry[i]);
      this.maxCommit = Math.max(this.maxCommit, commits.index[i]);
    });
  }

  /** @param {number} entry */
  text(entry) { return this.texts[this.textOf[entry]]; }

  /** @param {number} node */
  nodeName(node) { return node < 0 ? "TEST" : this.nodes[node].name; }

  /** A name that fits into a gutter: of a long one, as much of its beginning, or else of its end, as
   * tells it from the others.
   * @param {number} node */
  shortName(node) {
    if (node < 0) return "TEST";
    this._shortNames ??= this.nodes.map(({ name }) => {
      if (name.length <= Model.NAME_CHARS) return name;
      const tellsApart = (cut) => this.nodes.filter((other) => cut(other.name) === cut(name)).length === 1;
      const rest = Model.NAME_CHARS - 1;
      const begin = (text) => `${text.slice(0, rest)}…`;
      const end = (text) => `…${text.slice(-rest)}`;
      return tellsApart(begin) || !tellsApart(end) ? begin(name) : end(name);
    });
    return this._shortNames[node];
  }

  /** Where an entry stands: its line, and its file if there are several.
   * @param {number} entry */
  lineName(entry) {
    const line = this.line[entry];
    return this.sources.length > 1 ? `${this.sources[this.sourceOf[entry]]}:${line}` : String(line);
  }

  /** The role span of a node at a moment, or -1.
   * @param {number} node
   * @param {number} time
   * @param {number} [position] of the last event that counts, of several at this moment */
  roleAt(node, time, position = this.size) {
    const index = this.rolesOfNode[node];
    let found = firstAfter(index.starts, time) - 1;
    const isLater = (at) => {
      const entry = this.role.entry[index.ids[at]];
      return entry >= 0 && this.position[entry] > position;
    };
    while (found >= 0 && isLater(found)) found--;
    return found < 0 ? -1 : index.ids[found];
  }

  /** The message that this entry tells of, or -1.
   * @param {number} entry */
  messageOf(entry) {
    return this.sentBy[entry] >= 0 ? this.sentBy[entry] : this.receivedBy[entry];
  }

  /** A message's entry: of its sending, or if the log has only that, of its arrival.
   * @param {number} id */
  entryOfMessage(id) {
    const sent = this.message.sentEntry[id];
    return sent >= 0 ? sent : this.message.receivedEntry[id];
  }

  /** Where Enter leads from here: the other end of the message, from its arrival the reply.
   * @param {number} entry */
  otherEnd(entry) {
    const sent = this.sentBy[entry];
    if (sent >= 0) return this.message.receivedEntry[sent];
    const received = this.receivedBy[entry];
    if (received < 0) return -1;
    const partner = this.message.partner[received];
    if (partner >= 0 && !this.message.reply[received]) return this.entryOfMessage(partner);
    return this.message.sentEntry[received];
  }
}
