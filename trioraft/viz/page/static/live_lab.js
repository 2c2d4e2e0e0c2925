/* The laboratory: what can be done to the cluster, and how it stands.

   Rules of this file:
   - Everything is done by a line of text to `/lab`, as from a scenario's file; nothing here knows how.
   - The token came with the page's address (`#token=…`), and goes into one header. Without it the
     buttons say so. */

class LiveLab {
  /** @param {HTMLElement} said
   * @param {() => void} onState */
  constructor(said, onState) {
    this._said = said;
    this._onState = onState;
    this._token = new URLSearchParams(location.hash.slice(1)).get("token") ?? "";
    /** @type {LabState | null} */
    this.state = null;
    /** @type {Map<string, { disconnect: HTMLButtonElement, pause: HTMLButtonElement, kill: HTMLButtonElement }>} */
    this._buttons = new Map();
    /** @type {Map<string, HTMLButtonElement>} */
    this._sides = new Map();
    byId("partition").addEventListener("click", () => this._partition());
    byId("heal").addEventListener("click", () => this.send("heal"));
    byId("propose").addEventListener("click", () => this.send("propose"));
    byId("pre-vote").addEventListener("click", () =>
      this.send(`pre-vote ${this.state?.pre_vote === false ? "on" : "off"}`));
    if (!this._token) {
      this._say("To do something, open the address that trioraft cluster --lab has printed: " +
        "it ends in #token=…", true);
    }
  }

  /** Have these lines carried out.
   * @param {string} text
   * @returns {Promise<boolean>} whether all were */
  async send(text) {
    this._say(`${text.replaceAll("\n", "; ")} …`);
    let answer;
    try {
      answer = await fetch("lab", { method: "POST", body: text, headers: {
        "content-type": "text/plain", authorization: `Bearer ${this._token}` } });
    } catch {
      this._say("The laboratory does not answer: it has ended, or this machine is busy.", true);
      return false;
    }
    const isJson = answer.headers.get("content-type")?.startsWith("application/json");
    if (!isJson) {
      this._say((await answer.text()).trim(), true);
      return false;
    }
    const told = await answer.json();
    this.take(told.lab);
    if (told.problem) this._say(told.problem, true);
    else this._say(told.done.join("; "));
    return !told.problem;
  }

  _say(text, isProblem = false) {
    this._said.textContent = text;
    this._said.classList.toggle("problem", isProblem);
  }

  /** Whether what this member sends does not get there.
   * @param {string} from
   * @param {string} to */
  isCut(from, to) {
    return this.state?.blocked.some(([a, b]) => a === from && b === to) ?? false;
  }

  /** @param {LabState} state */
  take(state) {
    this.state = state;
    for (const member of state.members) this._showMember(member);
    this._showSides(state);
    const preVote = byId("pre-vote");
    preVote.setAttribute("aria-pressed", String(state.pre_vote));
    preVote.textContent = state.pre_vote ? "Pre-vote" : "No pre-vote";
    this._onState();
  }

  /** The cell of a member's buttons.
   * @param {string} id */
  buttonsOf(id) {
    const cell = element("td", { className: "do" });
    const button = (key) => {
      const made = element("button", { type: "button", disabled: true });
      made.dataset.act = key;
      made.addEventListener("click", () => this.send(`${made.dataset.say} ${id}`));
      cell.append(made);
      return made;
    };
    this._buttons.set(id, { disconnect: button("disconnect"), pause: button("pause"),
      kill: button("kill") });
    const known = this.state?.members.find((member) => member.id === id);
    if (known) this._showMember(known);
    return cell;
  }

  /** @param {LabMember} member */
  _showMember(member) {
    const buttons = this._buttons.get(member.id);
    if (!buttons) return;
    const show = (button, say, label, isOn, isPossible = true) => {
      button.dataset.say = say;
      if (button.textContent !== label) button.textContent = label;
      button.setAttribute("aria-label", `${label} ${member.id}`);
      button.classList.toggle("on", isOn);
      button.disabled = !isPossible;
    };
    const isAlive = member.state !== "dead";
    show(buttons.disconnect, member.connected ? "disconnect" : "reconnect",
      member.connected ? "Disconnect" : "Reconnect", !member.connected);
    show(buttons.pause, member.state === "paused" ? "resume" : "pause",
      member.state === "paused" ? "Resume" : "Pause", member.state === "paused", isAlive);
    show(buttons.kill, isAlive ? "kill" : "restart", isAlive ? "Kill" : "Restart", !isAlive);
  }

  /** On which side of the next partition each member is.
   * @param {LabState} state */
  _showSides(state) {
    const ids = state.members.map((member) => member.id);
    if ([...this._sides.keys()].join() === ids.join()) return;
    this._sides.clear();
    byId("groups").replaceChildren(...ids.map((id, i) => {
      const button = element("button", { type: "button", title: "Its side of a partition" });
      button.dataset.side = i < ids.length / 2 - 0.5 ? "A" : "B";
      const show = () => {
        button.textContent = `${id} ${button.dataset.side}`;
        button.setAttribute("aria-label", `${id} on side ${button.dataset.side}`);
        button.className = `side-${button.dataset.side}`;
      };
      button.addEventListener("click", () => {
        button.dataset.side = button.dataset.side === "A" ? "B" : "A";
        show();
      });
      show();
      this._sides.set(id, button);
      return button;
    }));
  }

  _partition() {
    const of = (side) => [...this._sides].filter(([, button]) => button.dataset.side === side)
      .map(([id]) => id).join(" ");
    if (!of("A") || !of("B")) {
      this._say("All are on one side: put some on the other first.", true);
      return;
    }
    this.send(`partition ${of("A")} | ${of("B")}`);
  }
}
