/* On paper: the light theme, the picture as wide as the sheet, and the log of what it shows.

   Rules of this file: everything is put back after printing. */

class Printing {
  static WIDTH = 1030;
  static LINES_MOST = 300;

  /** @param {App} app */
  constructor(app) {
    this._app = app;
    /** @type {Cursor | null} */
    this._cursor = null;
    window.addEventListener("beforeprint", () => this._prepare());
    window.addEventListener("afterprint", () => this._restore());
  }

  _prepare() {
    const { theme, diagram, model } = this._app;
    this._app.isPrinting = true;
    theme.force("light");
    const height = clamp(130 + model.nodes.length * 90, 300, 620);
    // What stands behind buttons on a screen stands on paper.
    for (const id of ["facts", "filters", "legend", "findings-pane"]) byId(id).hidden = false;
    this._cursor = diagram.cursor;
    diagram.cursor = null;
    const stage = byId("stage");
    stage.style.width = `${Printing.WIDTH}px`;
    stage.style.height = `${height}px`;
    diagram.resize(2.5, Printing.WIDTH, height);
    diagram.draw();
    this._printLines();
  }

  _restore() {
    byId("printed").replaceChildren();
    byId("stage").style.width = byId("stage").style.height = "";
    this._app.isPrinting = false;
    this._app.theme.force(null);
    this._app.diagram.cursor = this._cursor;
    this._app.panes.lay();
  }

  _printLines() {
    const { model, table, view } = this._app;
    const inside = [...table.shown].filter((entry) =>
      model.time[entry] >= view.fromTime && model.time[entry] <= view.toTime);
    const rows = inside.slice(0, Printing.LINES_MOST).map((entry) => {
      const cells = LogTable.cells(model, entry);
      return element("tr", {}, ...cells.map((cell) =>
        element("td", { textContent: [...cell.childNodes].map((n) => n.textContent).join(" ") })));
    });
    const left = inside.length - rows.length;
    const title = left > 0 ? `Log (the first ${rows.length} lines; ${left} more)` : "Log";
    byId("printed").replaceChildren(element("h2", { textContent: title }),
      element("table", {}, element("tbody", {}, ...rows)));
  }
}
