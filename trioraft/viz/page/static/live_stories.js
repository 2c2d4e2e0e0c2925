/* The eight stories of docs/elections.md, to be played on the cluster of the laboratory.

   Rules of this file: a story is a table of steps; a step is a line for the laboratory, and what is
   waited for. `{leader}`, `{follower}` and `{all}` stand for who that is when the step is done,
   `{old}` for the leader of the beginning. */

/** @type {LiveStory[]} */
const LIVE_STORIES = [
  { name: "election_basic", title: "1. The first election", watch: "One loses patience first, asks, and leads.",
    steps: [{ say: "kill {all}", text: "All are switched off" },
      { say: "restart {all}", text: "and on again", until: "leader" }] },
  { name: "leader_disconnect", title: "2. The leader disappears",
    watch: "The others notice when their timers run out. The old leader does not know, until its majority is silent.",
    steps: [{ say: "disconnect {leader}", text: "The leader's cable is cut", until: "another" },
      { say: "heal", text: "All is well again", until: "calm" }] },
  { name: "leader_and_another_disconnect", title: "3. The leader and another one disappear",
    watch: "Who is left asks, and nobody answers: without a majority there is no leader.",
    steps: [{ say: "disconnect {leader} {follower}", text: "Two cables are cut", until: "wait" },
      { say: "reconnect {old2}", text: "One comes back", until: "leader" },
      { say: "heal", text: "and the other", until: "calm" }] },
  { name: "disconnect_all_then_restore", title: "4. Nobody hears anybody",
    watch: "The leader steps down by itself; nobody wins until they hear each other.",
    steps: [{ say: "disconnect {all}", text: "All cables are cut", until: "none" },
      { say: "heal", text: "All are mended", until: "leader" }] },
  { name: "leader_disconnect_then_reconnect", title: "5. The old leader comes back",
    watch: "It meets a later term, and follows.",
    steps: [{ say: "disconnect {leader}", text: "The leader's cable is cut", until: "another" },
      { say: "reconnect {old}", text: "It is back", until: "calm" }] },
  { name: "follower_comes_back", title: "6. A follower comes back",
    watch: "Alone, it asks for pre-votes only: its term stays, and it disturbs nobody.",
    steps: [{ say: "disconnect {follower}", text: "A follower's cable is cut", until: "wait" },
      { say: "heal", text: "It is back", until: "calm" }] },
  { name: "follower_comes_back_without_pre_vote", title: "7. The same, without pre-vote",
    watch: "Alone, it raises its term again and again; back, it deposes a healthy leader.",
    steps: [{ say: "pre-vote off", text: "All start again, without pre-vote", until: "leader" },
      { say: "disconnect {follower}", text: "A follower's cable is cut", until: "wait" },
      { say: "heal", text: "It is back", until: "later" },
      { say: "pre-vote on", text: "All start again, with pre-vote", until: "leader" }] },
  { name: "disconnect_loop", title: "8. Again and again", watch: "Leader after leader goes; each time there is another.",
    steps: [1, 2, 3].flatMap(() => [
      { say: "disconnect {leader}", text: "The leader goes", until: "another" },
      { say: "heal", text: "It comes back", until: "calm" }]) },
];

class LiveStories {
  /** How long a step may wait for what it waits for, and how long one that only waits does. */
  static PATIENCE_MS = 30000;
  static WAIT_MS = 2500;
  static CALM_MS = 1500;

  /** @param {HTMLElement} place
   * @param {LiveLab} lab */
  constructor(place, lab) {
    this._lab = lab;
    /** @type {LiveCluster | null} */
    this._cluster = null;
    this._old = "";
    this._old2 = "";
    this._oldTerm = 0;
    /** Those that wait for a change of the cluster. @type {Set<() => void>} */
    this._waiting = new Set();
    this.playing = "";
    place.append(element("h2", { textContent: "Stories" }),
      ...LIVE_STORIES.map((story) => this._make(story)));
  }

  /** @param {LiveCluster} cluster */
  take(cluster) {
    this._cluster = cluster;
    for (const look of [...this._waiting]) look();
  }

  /** @param {LiveStory} story */
  _make(story) {
    const play = element("button", { type: "button", className: "play", textContent: "Play",
      "aria-label": `Play: ${story.title}` });
    play.dataset.story = story.name;
    const steps = story.steps.map((step) => {
      const item = element("li", {});
      const button = element("button", { type: "button", textContent: step.text, title: step.say });
      button.addEventListener("click", () => this._step(step));
      item.append(button);
      return item;
    });
    play.addEventListener("click", () => this._play(story, play, steps));
    return element("details", {}, element("summary", {}, story.title, " ", play),
      element("p", { textContent: story.watch }), element("ol", {}, ...steps));
  }

  async _play(story, play, items) {
    if (this.playing) return;
    this.playing = story.name;
    for (const other of document.querySelectorAll("#stories details")) other.removeAttribute("open");
    play.closest("details")?.setAttribute("open", "");
    play.closest("details")?.scrollIntoView({ block: "nearest" }); // the panel is low: its steps are below
    play.textContent = "Playing";
    let isDone = true;
    for (let i = 0; i < story.steps.length && isDone; i++) {
      items[i].setAttribute("aria-current", "step");
      isDone = await this._step(story.steps[i]) && await this._until(story.steps[i].until);
      items[i].removeAttribute("aria-current");
    }
    play.textContent = isDone ? "Play again" : "Play (it stopped)";
    play.dataset.played = String(isDone);
    this.playing = "";
  }

  /** @param {LiveStep} step */
  _step(step) {
    const members = this._cluster?.members.filter((member) => member.id) ?? [];
    const all = this._lab.state?.members.map((member) => member.id) ?? [];
    const leader = this._leader?.id ?? all[0];
    const follower = members.find((member) => member.problem === null && member.id !== leader)?.id ??
      all.find((id) => id !== leader) ?? "";
    if (step.say.includes("{leader}")) {
      this._old = leader;
      this._old2 = follower;
    }
    this._oldTerm = Math.max(0, ...members.map((member) => member.term ?? 0));
    const names = { leader, follower, all: all.join(" "), old: this._old, old2: this._old2 };
    return this._lab.send(step.say.replace(/\{(\w+)\}/g, (_, name) => names[name] ?? ""));
  }

  get _leader() {
    const cluster = this._cluster;
    return cluster?.members.find((each) => each.id === cluster.leader && each.problem === null);
  }

  /** What a step waits for.
   * @param {string} [what]
   * @returns {Promise<boolean>} whether it came */
  async _until(what) {
    if (!what || what === "wait") return LiveStories._sleep(LiveStories.WAIT_MS);
    const before = this._old;
    const term = this._oldTerm;
    const isSo = {
      leader: () => this._follows(),
      another: () => this._leader !== undefined && this._leader.id !== before,
      later: () => this._follows() && (this._leader?.term ?? 0) > term,
      none: () => this._leader === undefined,
      calm: () => this._follows(),
    }[what];
    if (what === "leader") await LiveStories._sleep(700); // who has just been ended is still in the news
    if (!isSo || !await this._wait(isSo)) return false;
    return LiveStories._sleep(LiveStories.CALM_MS);
  }

  /** Whether all that are there follow one leader. */
  _follows() {
    const leader = this._leader;
    const others = this._cluster?.members.filter((each) => each.id && each.problem === null) ?? [];
    return leader !== undefined && others.length > 1 && others.every((each) =>
      each.term === leader.term || !this._isConnected(each.id));
  }

  _isConnected(id) {
    return this._lab.state?.members.find((member) => member.id === id)?.connected ?? true;
  }

  /** @param {() => boolean} isSo
   * @returns {Promise<boolean>} */
  _wait(isSo) {
    return new Promise((done) => {
      const end = (value) => {
        this._waiting.delete(look);
        clearTimeout(timer);
        done(value);
      };
      const look = () => { if (isSo()) end(true); };
      const timer = setTimeout(() => end(false), LiveStories.PATIENCE_MS);
      this._waiting.add(look);
      look();
    });
  }

  /** @param {number} ms
   * @returns {Promise<boolean>} */
  static _sleep(ms) { return new Promise((done) => setTimeout(() => done(true), ms)); }
}
