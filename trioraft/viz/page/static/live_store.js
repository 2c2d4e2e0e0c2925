/* What the server has told of the last minutes, and the run that it makes.

   Rules of this file:
   - Rows as `viz/live.py` has them, field by field; a row that comes again takes the old one's place.
   - What the server forgets is forgotten here: the page grows no further, however long it is open.
   - Times of the run count from the oldest moment that is kept; `start` says which one that is. */

class LiveStore {
  /** @type {KindName[]} */
  static KINDS = ["vote", "prevote", "heartbeat", "entries", "snapshot", "transfer", "read",
    "message", "role", "timer", "commit", "link", "test", "other"];
  /** @type {RoleName[]} */
  static ROLES = ["Follower", "PreCandidate", "Candidate", "Leader", "Dead"];
  /** Lines that a frame has time for; of more, what comes all the time is thinned out, by slots of
      time, so that both ends of an arrow go or stay. */
  static LINES_MOST = 2500;
  static SLOT = 400e3;
  static OFTEN = new Set(["heartbeat", "entries"]);
  static FATES = ["delivered", "lost", "unknown"];
  static COLUMNS = ["entries", "messages", "roles", "timers", "commits", "marks", "outages"];
  /** Where a row says how long it lasts; -1 there is "still". */
  static END = { entries: [1], messages: [7, 8], roles: [5], timers: [4], commits: [2], marks: [2],
    outages: [3] };

  /** @type {Record<string, Map<number, any[]>>} */ rows;
  /** @type {Map<number, TermData>} */ terms;
  /** @type {FindingData[]} */ findings;
  /** @type {number} */ now;
  /** @type {number} */ start;
  /** @type {string[]} */ names;

  constructor() { this.clear(); }

  clear() {
    this.rows = Object.fromEntries(LiveStore.COLUMNS.map((name) => [name, new Map()]));
    this.terms = new Map();
    this.findings = [];
    this.now = 0;
    this.start = 0;
    this.names = [];
  }

  /** Take what has changed.
   * @param {any} told */
  take(told) {
    this.now = told.now;
    this.start = Math.max(told.before, 0);
    for (const name of LiveStore.COLUMNS) {
      const rows = this.rows[name];
      for (const row of told[name] ?? []) rows.set(row[0], row);
      this._forget(name, told.first[name], told.before);
    }
    for (const term of told.terms ?? []) this.terms.set(term.number, term);
    for (const number of this.terms.keys()) {
      if (number < told.first.terms) this.terms.delete(number);
    }
    if (told.findings) this.findings = told.findings;
  }

  _forget(name, first, before) {
    const ends = LiveStore.END[name];
    for (const [id, row] of this.rows[name]) {
      const end = Math.max(...ends.map((place) => row[place]));
      if (id < first || end >= 0 && end < before) this.rows[name].delete(id);
      else if (id >= first && end >= before && name !== "roles" && name !== "outages") return;
    }
  }

  /** The nodes that are to have a lane, in their order.
   * @param {string[]} names */
  setNames(names) {
    const number = (name) => (/^\d{1,9}$/.test(name) ? Number(name) : Infinity);
    const all = new Set([...names, ...[...this.rows.roles.values()].map((row) => row[1])]);
    this.names = [...all].sort((a, b) => number(a) - number(b) || (a < b ? -1 : 1));
  }

  /** The rows of a kind that do not end before that.
   * @param {string} name
   * @param {number} start
   * @returns {Map<number, any[]>} */
  _since(name, start) {
    if (start <= this.start) return this.rows[name];
    const ends = LiveStore.END[name];
    const kept = new Map();
    // How far the log was committed before is the last that each node said of it.
    const before = new Map();
    for (const [id, row] of this.rows[name]) {
      const end = Math.max(row[ends[0]], row[ends[ends.length - 1]]);
      if (end < 0 || end >= start) kept.set(id, row);
      else if (name === "commits") before.set(row[1], [id, row]);
    }
    return before.size ? new Map([...before.values(), ...kept]) : kept;
  }

  /** Some of these rows, if they are too many.
   * @param {Map<number, any[]>} rows
   * @param {number} share one slot of so many stays
   * @param {number} kindAt
   * @param {number[]} timesAt */
  static _thinned(rows, share, kindAt, timesAt) {
    if (share <= 1) return rows;
    const kept = new Map();
    for (const [id, row] of rows) {
      const time = Math.max(...timesAt.map((place) => row[place]));
      const isKept = !LiveStore.OFTEN.has(row[kindAt]) ||
        Math.floor(time / LiveStore.SLOT) % share === 0;
      if (isKept) kept.set(id, row);
    }
    return kept;
  }

  /** What has not ended before that moment, as a run that begins there.
   * @param {number} from
   * @returns {RunData} */
  run(from) {
    const start = Math.max(this.start, from);
    const rows = Object.fromEntries(
      LiveStore.COLUMNS.map((name) => [name, this._since(name, start)]));
    const share = Math.ceil(rows.entries.size / LiveStore.LINES_MOST);
    rows.entries = LiveStore._thinned(rows.entries, share, 3, [1]);
    rows.messages = LiveStore._thinned(rows.messages, share, 1, [7, 8]);
    const duration = Math.max(this.now - start, 1);
    const at = (time) => (time < 0 ? -1 : clamp(time - start, 0, duration));
    const until = (time) => (time < 0 ? duration : at(time));
    const numbers = new Map(this.names.map((name, number) => [name, number]));
    const node = (name) => numbers.get(name) ?? -1;
    const placeOf = (rows) => {
      const places = new Map();
      for (const id of rows.keys()) places.set(id, places.size);
      return (id) => places.get(id) ?? -1;
    };
    const entry = placeOf(rows.entries);
    return {
      name: "live", duration, sources: ["live"], sourceOf: [], unknowns: [], explanations: {},
      states: { names: [], field: [], node: [], entry: [], value: [], texts: [] },
      nodes: this.names.map((name) => ({ name, fullName: null })),
      kinds: LiveStore.KINDS,
      entries: this._entries(rows.entries, at, node),
      roles: this._roles(rows.roles, at, until, node, entry),
      messages: this._messages(rows.messages, at, node, entry, placeOf(rows.messages)),
      timers: this._timers(rows.timers, at, until, node, entry),
      commits: this._commits(rows.commits, at, node, entry),
      marks: [...rows.marks.values()].map(([, kind, time, nodes, names, text, place]) => ({
        kind, time: at(time), nodes: nodes.map(node).filter((number) => number >= 0), names, text,
        entry: Math.max(entry(place), 0) })),
      terms: [...this.terms.values()].sort((a, b) => a.number - b.number)
        .filter((_, i, terms) => i + 1 >= terms.length || terms[i + 1].start >= start)
        .map((term) => ({ ...term, start: at(term.start), won: at(term.won) })),
      findings: this.findings.filter((finding) => finding.end >= start)
        .map((finding) => ({ ...finding, start: at(finding.start), end: at(finding.end) })),
      outages: [...rows.outages.values()].filter((row) => node(row[1]) >= 0)
        .map(([, name, from, to, level, text]) => ({
          node: node(name), start: at(from), end: until(to), level, text })),
      weather: [],
    };
  }

  _entries(rows, at, node) {
    /** @type {RunData["entries"]} */
    const made = { time: [], node: [], kind: [], line: [], text: [], texts: [] };
    const kinds = new Map(LiveStore.KINDS.map((kind, number) => [kind, number]));
    for (const [id, time, name, kind, text] of rows.values()) {
      made.text.push(made.time.length);
      made.time.push(at(time));
      made.node.push(name === null ? -1 : node(name));
      made.kind.push(kinds.get(kind) ?? 0);
      made.line.push(id + 1);
      made.texts.push(text);
    }
    return made;
  }

  _roles(rows, at, until, node, entry) {
    /** @type {RunData["roles"]} */
    const made = { names: LiveStore.ROLES, node: [], role: [], term: [], start: [], end: [],
      entry: [], reason: [] };
    for (const [, name, role, term, from, to, place, reason] of rows.values()) {
      made.node.push(node(name));
      made.role.push(LiveStore.ROLES.indexOf(role));
      made.term.push(term);
      made.start.push(at(from));
      made.end.push(until(to));
      made.entry.push(entry(place));
      made.reason.push(reason);
    }
    return made;
  }

  _messages(rows, at, node, entry, place) {
    /** @type {RunData["messages"]} */
    const made = { kind: [], type: [], types: [], from: [], to: [], term: [], sent: [],
      received: [], fate: [], fates: LiveStore.FATES, reply: [], positive: [], entries: [],
      partner: [], sentEntry: [], receivedEntry: [] };
    const types = new Map();
    for (const row of rows.values()) {
      if (!types.has(row[2])) types.set(row[2], types.size);
      made.kind.push(LiveStore.KINDS.indexOf(row[1]));
      made.type.push(types.get(row[2]));
      made.from.push(node(row[3]));
      made.to.push(node(row[4]));
      made.term.push(row[5]);
      made.entries.push(row[6]);
      made.sent.push(at(row[7]));
      made.received.push(at(row[8]));
      made.fate.push(LiveStore.FATES.indexOf(row[9]));
      made.reply.push(row[10]);
      made.positive.push(row[11]);
      made.partner.push(place(row[12]));
      made.sentEntry.push(entry(row[13]));
      made.receivedEntry.push(entry(row[14]));
    }
    made.types = [...types.keys()];
    return made;
  }

  _timers(rows, at, until, node, entry) {
    /** @type {RunData["timers"]} */
    const made = { node: [], term: [], start: [], end: [], timeout: [], endKind: [],
      startEntry: [], endEntry: [] };
    const sorted = [...rows.values()]
      .sort((a, b) => node(a[1]) - node(b[1]) || a[3] - b[3]);
    for (const [, name, term, from, to, timeout, end, first, last] of sorted) {
      made.node.push(node(name));
      made.term.push(term);
      made.start.push(at(from));
      made.end.push(until(to));
      made.timeout.push(timeout);
      made.endKind.push(end);
      made.startEntry.push(entry(first));
      made.endEntry.push(entry(last));
    }
    return made;
  }

  _commits(rows, at, node, entry) {
    /** @type {RunData["commits"]} */
    const made = { node: [], time: [], index: [], entry: [] };
    for (const [, name, time, index, place] of rows.values()) {
      made.node.push(node(name));
      made.time.push(at(time));
      made.index.push(index);
      made.entry.push(entry(place));
    }
    return made;
  }
}
