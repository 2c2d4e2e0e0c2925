/* Findings: the list, and what the selected one means.

   Rules of this file: a finding selects (its lanes and its time are shaded), scrolls (its first line
   is shown) and explains (what it means and what to do), all at once. */

class FindingList {
  /** @param {HTMLElement} place
   * @param {HTMLElement} title
   * @param {Model} model
   * @param {(id: number) => void} onSelect */
  constructor(place, title, model, onSelect) {
    title.append(element("small", { textContent: model.findings.length
      ? model.findings.length.toLocaleString("en") : "" }));
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

/** What a finding means, in full: for the details below the picture.
 * @param {Model} model
 * @param {number} id
 * @param {(entry: number) => void} onSelect
 * @returns {HTMLElement[]} */
function explainedFinding(model, id, onSelect) {
  const finding = model.findings[id];
  const explained = model.explanations[finding.kind];
  const paragraph = (className, textContent) => element("p", { className, textContent });
  const links = element("div", { className: "links" });
  for (const entry of finding.entries) {
    const button = element("button", { type: "button",
      textContent: `line ${model.lineName(entry)}`, title: model.text(entry) });
    button.addEventListener("click", () => onSelect(entry));
    links.append(button);
  }
  const parts = [
    element("p", { className: "headline" },
      element("span", { className: `severity ${finding.severity}`,
        textContent: `${SEVERITY_SIGNS[finding.severity]} ${explained?.title ?? finding.kind}` }),
      element("span", { className: "context",
        textContent: ` · ${momentText(finding.start)}, for ${durationText(finding.end - finding.start)}` })),
    paragraph("said", finding.detail),
  ];
  if (explained) {
    parts.push(paragraph("context", explained.meaning), paragraph("context", `What to do: ${explained.advice}`));
  }
  if (finding.entries.length) parts.push(links);
  return parts;
}
