/* Who is what now: the headline, and a row a member.

   Rules of this file:
   - Rows are made once a member and changed in place: a button that is pressed stays the same one.
   - What members say reaches the document through textContent only. */

class LiveMembers {
  /** Shorter than in the legend: a row has little room. */
  static ROLES = { PreCandidate: "pre-vote" };

  /** @param {HTMLElement} place
   * @param {LiveLab | null} lab */
  constructor(place, lab) {
    this._place = place;
    this._lab = lab;
    /** @type {Map<string, { row: HTMLTableRowElement, cells: Record<string, HTMLElement> }>} */
    this._rows = new Map();
  }

  /** Show the cluster as it is told.
   * @param {LiveCluster} cluster */
  show(cluster) {
    const keys = new Set();
    const members = [...cluster.members].sort((a, b) => LiveMembers._order(a, b));
    members.forEach((member, i) => {
      const key = member.id ?? member.address;
      keys.add(key);
      const made = this._rows.get(key) ?? this._make(key);
      if (this._place.children[i] !== made.row) {
        this._place.insertBefore(made.row, this._place.children[i] ?? null);
      }
      this._fill(made, member, cluster);
    });
    for (const [key, { row }] of this._rows) {
      if (keys.has(key)) continue;
      row.remove();
      this._rows.delete(key);
    }
  }

  static _order(a, b) {
    const [one, two] = [a.id ?? a.address, b.id ?? b.address];
    return one.localeCompare(two, "en", { numeric: true });
  }

  _make(key) {
    /** @type {Record<string, HTMLElement>} */
    const cells = {};
    const cell = (name, kind = "") => {
      cells[name] = element("td", { className: `${name} ${kind}` });
      return cells[name];
    };
    const row = element("tr", {}, element("th", { scope: "row", textContent: key }), cell("role"),
      cell("term", "number"), cell("commit", "number"), cell("lag", "number"), cell("links"),
      cell("rate", "number"));
    if (this._lab) row.append(this._lab.buttonsOf(key));
    const made = { row, cells };
    this._rows.set(key, made);
    return made;
  }

  /** @param {{ row: HTMLTableRowElement, cells: Record<string, HTMLElement> }} made
   * @param {LiveMember} member
   * @param {LiveCluster} cluster */
  _fill({ row, cells }, member, cluster) {
    const isSilent = member.problem !== null;
    row.classList.toggle("silent", isSilent);
    row.title = isSilent ? member.problem ?? "" : `${member.address}: ${member.why ?? ""}`;
    const role = isSilent ? "silent" : member.role ?? "";
    const style = ROLE_STYLES[/** @type {RoleName} */ (role)];
    const text = isSilent ? (member.silent === null ? "not reached" : `silent ${member.silent} s`)
      : LiveMembers.ROLES[role] ?? style?.label ?? role;
    this._set(cells.role, text, `role-name ${role}`);
    const known = (value) => (isSilent || value === null || value === undefined ? ""
      : value.toLocaleString("en"));
    this._set(cells.term, member.term === undefined ? "" : String(member.term));
    this._set(cells.commit, known(member.commit));
    this._set(cells.lag, known(member.lag));
    cells.lag.classList.toggle("behind", (member.lag ?? 0) > 1000);
    this._set(cells.rate, known(member.rate));
    this._links(cells.links, isSilent ? {} : member.links ?? {}, member.id ?? "", cluster);
  }

  _set(cell, text, kind = "") {
    if (cell.textContent !== text) cell.textContent = text;
    if (kind) cell.className = `${kind.includes("role-name") ? "role " : ""}${kind}`;
  }

  /** A mark a peer: reached or not; in a laboratory a button that cuts the way there. */
  _links(cell, links, from, cluster) {
    const lab = this._lab;
    const shown = Object.entries(links)
      .sort(([a], [b]) => a.localeCompare(b, "en", { numeric: true }))
      .map(([peer, isUp]) => [peer, lab?.isCut(from, peer) ? "cut" : isUp ? "up" : "down"]);
    const key = JSON.stringify(shown);
    if (cell.dataset.key === key) return;
    cell.dataset.key = key;
    const signs = { up: "✓", down: "✗", cut: "⊘" };
    cell.replaceChildren(...shown.map(([peer, state]) => {
      const says = `${from} → ${peer}: ${{ up: "connected", down: "not connected", cut: "cut" }[state]}`;
      if (!lab) {
        return element("span", { className: `link ${state}`, title: says,
          textContent: `${peer}${signs[state]}` });
      }
      const button = element("button", { type: "button", className: `link ${state}`,
        title: `${says}. Click: ${state === "cut" ? "mend" : "cut"} this way.`,
        "aria-label": `${says}. ${state === "cut" ? "Mend" : "Cut"} this way`,
        textContent: `${peer}${signs[state]}` });
      button.addEventListener("click", () =>
        lab.send(`${state === "cut" ? "mend" : "cut"} ${from}>${peer}`));
      return button;
    }));
  }

  /** Who leads, since when and why, in a sentence.
   * @param {LiveCluster} cluster
   * @param {number} now */
  static headline(cluster, now) {
    if (cluster.problem) return cluster.problem;
    const leader = cluster.members.find((member) => member.id === cluster.leader &&
      member.problem === null);
    if (!leader) {
      const named = new Set(cluster.members.filter((each) => each.problem === null)
        .map((each) => each.leader).filter((id) => id));
      const waiting = cluster.members.find((each) => each.waiting?.length);
      if (waiting) return `The cluster is forming: ${waiting.id} waits for ${waiting.waiting?.join(", ")}`;
      return named.size ? `${[...named].join(", ")} is said to lead, and is not heard` :
        "Nobody leads";
    }
    const since = leader.since === null || leader.since === undefined ? "" :
      ` for ${durationText(Math.max(Math.round((now - leader.since) / 1e6), 0) * 1e6)}`;
    const parts = [`${leader.id} leads term ${leader.term}${since}`];
    if (leader.why) parts.push(`because ${leader.why}`);
    const voters = cluster.configuration?.voters.length ?? 0;
    const text = `${parts.join(", ")} · ${counted(voters, "voter")}`;
    const { change } = cluster;
    return change ? `${text} · changing to ${change.voters.join(", ")} (${change.stage})` : text;
  }
}
