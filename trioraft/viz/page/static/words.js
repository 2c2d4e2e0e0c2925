/* What a line of the log says, in plain words, for somebody who learns Raft.

   Rules of this file:
   - A sentence tells who did what; a second one, where that helps, what it is for.
   - Only what the log says: what a line leaves open, the sentence leaves open. */

class Words {
  /** @param {Model} model */
  constructor(model) {
    this._model = model;
    this._roleOf = new Map();
    model.role.entry.forEach((entry, id) => entry >= 0 && this._roleOf.set(entry, id));
    this._timerOf = new Map();
    model.timer.startEntry.forEach((entry, id) => this._timerOf.set(entry, id));
    this._markOf = new Map();
    model.marks.forEach((mark, id) => this._markOf.set(mark.entry, id));
    this._commitOf = new Map();
    for (const { entry, index } of model.commitsOfNode) {
      entry.forEach((one, i) => this._commitOf.set(one, index[i]));
    }
  }

  /** "node 1", "the test", "somebody". */
  who(node) {
    return node < 0 ? "somebody" : `node ${this._model.nodeName(node)}`;
  }

  /** What happened at this entry, in one or two sentences.
   * @param {number} entry
   * @returns {string} */
  entry(entry) {
    const model = this._model;
    const node = model.node[entry];
    if (this._roleOf.has(entry)) return this.role(this._roleOf.get(entry));
    const message = model.messageOf(entry);
    if (message >= 0) return this.message(message, model.receivedBy[entry] === message);
    if (this._timerOf.has(entry)) return this.timer(this._timerOf.get(entry));
    if (this._markOf.has(entry)) return this.mark(this._markOf.get(entry));
    if (this._commitOf.has(entry)) {
      return upper(`${this.who(node)} knows the log to be committed up to entry ` +
        `${this._commitOf.get(entry)}: a majority has it, and it stays.`);
    }
    if (node < 0) return "A remark of the test.";
    return upper(`a remark of ${this.who(node)}; the picture shows it as a tick in its lane.`);
  }

  /** @param {number} id of a message
   * @param {boolean} isArrival */
  message(id, isArrival) {
    const m = this._model.message;
    const type = m.types[m.type[id]];
    const [from, to] = [this.who(m.from[id]), this.who(m.to[id])];
    const rule = MESSAGE_WORDS[type];
    const said = rule ? rule({ from, to, term: m.term[id] < 0 ? "its term" : `term ${m.term[id]}`,
      count: m.entries[id], yes: m.positive[id], answered: this._answered(id) })
      : `${from} sends ${to} a message of the type ${type}.`;
    return upper(isArrival && m.sent[id] >= 0 ? `here arrives what was sent before: ${said}` : said);
  }

  /** How many entries the message carries that this one answers. */
  _answered(id) {
    const partner = this._model.message.partner[id];
    return partner < 0 ? null : this._model.message.entries[partner];
  }

  /** What became of a message.
   * @param {number} id
   * @returns {string} */
  fate(id) {
    const m = this._model.message;
    if (m.sent[id] < 0) return "When it was sent is not in the log.";
    if (m.received[id] < 0) {
      return m.fates[m.fate[id]] === "lost" ? "The message was lost: it never arrived." :
        "Whether it arrived is not in the log.";
    }
    const took = `The message was on its way for ${durationText(Math.max(m.received[id] - m.sent[id], 0))}`;
    const partner = m.partner[id];
    return !m.reply[id] && partner >= 0 && m.received[partner] >= 0 ?
      `${took}, and answered after ${durationText(m.received[partner] - m.sent[id])}.` : `${took}.`;
  }

  /** @param {number} id of a span of a role */
  role(id) {
    const { role, roleNames } = this._model;
    const who = this.who(role.node[id]);
    const because = role.reason[id] ? ` It says why: ${role.reason[id]}.` : "";
    return upper(ROLE_WORDS[roleNames[role.role[id]]](who, role.term[id])) + because;
  }

  /** @param {number} id of a timer */
  timer(id) {
    const { timer } = this._model;
    return upper(`${this.who(timer.node[id])} starts an election timer: if it hears no leader for ` +
      `${durationText(timer.timeout[id])}, it begins an election.`) + ` ${this.timerEnd(id)}`;
  }

  /** How a timer ended. */
  timerEnd(id) {
    const { timer } = this._model;
    const ran = durationText(Math.max(timer.end[id] - timer.start[id], 0));
    return {
      expired: `It ran out after ${ran}.`,
      replaced: `It was replaced after ${ran}.`,
      "bailed out": `After ${ran} it noticed that it was of no use any more.`,
      stopped: `It was stopped after ${ran}: the node led, or died.`,
      open: "It ran until the log ends.",
    }[timer.endKind[id]] ?? "";
  }

  /** @param {number} id of a mark */
  mark(id) {
    const mark = this._model.marks[id];
    const node = this._model.node[mark.entry];
    const teller = node < 0 ? "The test" : upper(this.who(node));
    const words = MARK_WORDS[mark.kind];
    return words ? `${teller}: ${words(mark.names)}` : `${teller} says so.`;
  }
}

/** @type {(text: string) => string} */
const upper = (text) => text.charAt(0).toUpperCase() + text.slice(1);

/** @type {Record<RoleName, (who: string, term: number) => string>} */
const ROLE_WORDS = {
  Follower: (who, term) => `${who} is a follower in term ${term}: it waits for a leader's messages.`,
  PreCandidate: (who, term) => `${who} has heard no leader for its election timeout, and asks ` +
    `whether it could win: a pre-vote, which leaves everybody's term (${term}) as it is.`,
  Candidate: (who, term) => `${who} is a candidate: it begins term ${term}, votes for itself, and ` +
    "asks the others for their votes.",
  Leader: (who, term) => `${who} leads term ${term}: a majority voted for it. From here on its ` +
    "heartbeats keep the others from electing somebody else.",
  Dead: (who) => `${who} does not run any more.`,
};

/** @type {Record<string, (m: MessageFacts) => string>} */
const MESSAGE_WORDS = {
  RequestVote: ({ from, to, term }) => `${from} asks ${to} for its vote in ${term}.`,
  RequestVoteReply: ({ from, to, term, yes }) => (yes === 1 ?
    `${from} gives ${to} its vote in ${term}. It has one a term.` : `${from} refuses ${to} its ` +
    `vote: it has voted, has a longer log, or knows a later term than it was asked in.`),
  RequestPreVote: ({ from, to }) => `${from} asks ${to} whether it would vote for it: a pre-vote.`,
  RequestPreVoteReply: ({ from, to, yes }) => (yes === 1 ? `${from} would vote for ${to}.` :
    `${from} would not vote for ${to}: it hears a leader, or its log is longer.`),
  AppendEntries: ({ from, to, term, count }) => (count ?
    `${from} leads ${term} and sends ${to} ${count === 1 ? "an entry" : `${count} entries`} of its log.` :
    `${from} leads ${term} and sends ${to} a heartbeat: no entry, only a sign that it lives.`),
  AppendEntriesReply: ({ from, to, yes, answered }) => (yes === 0 ? `${from} refuses what ${to} ` +
    "sent: its log has nothing that fits before these entries, or that term is over." : answered ?
    `${from} has taken the entries of ${to}: they count towards a majority.` :
    `${from} answers the heartbeat of ${to}: their logs agree so far.`),
  InstallSnapshot: ({ from, to }) => `${from} sends ${to} a part of a snapshot, in the place of ` +
    "entries that it does not keep any more.",
  InstallSnapshotReply: ({ from, to }) => `${from} tells ${to} how much of the snapshot it has.`,
  TimeoutNow: ({ from, to }) => `${from} hands its leadership over: ${to} shall ask for votes at once.`,
  RequestReadIndex: ({ from, to }) => `${from} asks leader ${to} up to where it must have applied ` +
    "the log before it answers a read.",
  RequestReadIndexReply: ({ from, to }) => `${from} tells ${to} up to where a read has to wait.`,
};

/** @type {Partial<Record<MarkKind, (names: string) => string>>} */
const MARK_WORDS = {
  crash: (names) => `node ${names} crashes. What was not on its disk is lost.`,
  restart: (names) => `node ${names} starts again, with what is on its disk.`,
  disconnect: (names) => `node ${names} is cut off from all others, and runs on.`,
  reconnect: (names) => `node ${names} can talk to the others again.`,
  partition: (names) => `the network falls into parts, which hear nothing of each other: ${names}.`,
  heal: () => "all lines work again.",
  propose: () => "a client has a command for the cluster.",
  join: (names) => `node ${names} joins.`,
  leave: (names) => `node ${names} leaves on purpose.`,
  drop: (names) => `the connection between ${names} breaks; it may be made again at once.`,
  cut: (names) => `lines between ${names} are cut, each in one direction.`,
  mend: (names) => `lines between ${names} work again.`,
  dead: (names) => `connections between ${names} carry nothing any more, until new ones are made.`,
  "link up": (names) => `there is a connection between ${names}.`,
  "link down": (names) => `the connection between ${names} is gone.`,
  transfer: (names) => `leadership moves on purpose, between ${names}.`,
  configuration: () => "other nodes are members from here on.",
};
