"use strict";
(() => {
  const root = document.documentElement;
  const MISSING = "—";
  const FEW = 2; // so many boards are open from the start

  // The theme first, before anything is painted.
  const stored = { // a page opened as a file may have no storage
    get() { try { return localStorage.getItem("contiseg-theme"); } catch { return null; } },
    set(value) { try { localStorage.setItem("contiseg-theme", value); } catch { /* then only this once */ } },
  };
  const dark = () => (root.dataset.theme || (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  if (["dark", "light"].includes(stored.get())) root.dataset.theme = stored.get();
  root.classList.add("js");

  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // Sorting. A row under another one, its drill-down, moves along with it.

  const below = (row) => row.nextElementSibling?.classList.contains("drill") ? [row.nextElementSibling] : [];
  const cellText = (row, column) => row.cells[column] ? row.cells[column].textContent.trim() : "";

  function keyOf(row, column, numeric) {
    if (row.classList.contains("failed")) return null;
    const text = cellText(row, column);
    if (text === "" || text === MISSING) return null;
    if (!numeric) return text.toLowerCase();
    const number = parseFloat(text.replace("−", "-").match(/[-+]?\d+(\.\d+)?/)?.[0]);
    return Number.isNaN(number) ? null : number;
  }

  function compare(one, other, sign) {
    if (one === null || other === null) return (one === null) - (other === null);
    return sign * (typeof one === "number" ? one - other : one.localeCompare(other, "en", { numeric: true }));
  }

  function sortBy(table, header) {
    const column = header.cellIndex;
    const numeric = header.classList.contains("n");
    const first = numeric && !header.textContent.includes("↓") ? "descending" : "ascending";
    const opposite = first === "ascending" ? "descending" : "ascending";
    const direction = header.getAttribute("aria-sort") === first ? opposite : first;
    for (const other of header.parentElement.cells) other.removeAttribute("aria-sort");
    header.setAttribute("aria-sort", direction);
    const body = table.tBodies[0];
    const rows = [...body.rows].filter((row) => !row.classList.contains("drill"));
    const keyed = rows.map((row) => [keyOf(row, column, numeric), row]);
    keyed.sort((one, other) => compare(one[0], other[0], direction === "ascending" ? 1 : -1));
    body.append(...keyed.flatMap(([, row]) => [row, ...below(row)]));
  }

  function makeSortable(table) {
    for (const header of table.tHead.rows[0].cells) {
      const button = make("button", { type: "button", className: "sort" }, ...header.childNodes);
      button.addEventListener("click", () => sortBy(table, header));
      header.append(button);
    }
  }

  // The drill-down: a row opens to its classes.

  const CLASS_COLUMNS = [
    ["class", "", false],
    ["step", "the step that learnt the class", true],
    ["when learnt ↑", "after the step that learnt the class", true],
    ["best ↑", "the best value after any step", true],
    ["last ↑", "after the last step", true],
    ["change ↑", "last minus when learnt, in points; not defined for classes of the last step", true],
  ];
  const shown = (tenths) => tenths === null ? MISSING : (tenths / 10).toFixed(1).replace("-", "−");

  function classTable(data, values) {
    const head = make("tr");
    for (const [title, meaning, numeric] of CLASS_COLUMNS) {
      head.append(make("th", { scope: "col", className: numeric ? "n" : "", title: meaning }, title));
    }
    const body = make("tbody");
    data.classes.forEach(([name, step], index) => {
      const [learnt, best, last] = values[index];
      const change = learnt === null || last === null || step === data.steps - 1 ? null : last - learnt;
      const row = make("tr", {}, make("th", { scope: "row" }, name), make("td", { className: "n" }, String(step)));
      for (const value of [learnt, best, last]) row.append(make("td", { className: "n" }, shown(value)));
      row.append(make("td", { className: "n" }, (change > 0 ? "+" : "") + shown(change)));
      body.append(row);
    });
    const table = make("table", {}, make("thead", {}, head), body);
    makeSortable(table);
    return table;
  }

  function drillDown(row, button, data, quality) {
    const close = () => {
      row.nextElementSibling.remove();
      button.setAttribute("aria-expanded", "false");
    };
    if (button.getAttribute("aria-expanded") === "true") return close();
    const name = row.querySelector(".method").textContent;
    const title = `${name}: ${quality} of its ${data.classes.length} classes in %, mean over seeds`;
    const box = make("div", { className: "scroll", tabIndex: 0 }, classTable(data, data.rows[row.dataset.row]));
    box.setAttribute("role", "region");
    box.setAttribute("aria-label", title);
    const cell = make("td", { colSpan: row.cells.length }, make("div", { className: "inside" }, make("p", {}, title), box));
    const drill = make("tr", { className: "drill" }, cell);
    drill.addEventListener("keydown", (event) => {
      if (event.key !== "Escape") return;
      close();
      button.focus();
    });
    row.after(drill);
    button.setAttribute("aria-expanded", "true");
  }

  function addDrillDowns(section) {
    const json = document.querySelector(`script[data-of="${section.id}"]`);
    const data = JSON.parse(json.textContent);
    for (const row of section.querySelectorAll("table.main > tbody > tr")) {
      if (!data.rows[row.dataset.row]) continue;
      const name = row.querySelector(".method").textContent;
      const button = make("button", { type: "button", className: "drill-button", title: "Show its classes" });
      button.setAttribute("aria-expanded", "false");
      button.setAttribute("aria-label", `Classes of ${name}`);
      button.addEventListener("click", () => drillDown(row, button, data, section.dataset.quality));
      button.addEventListener("keydown", (event) => {
        if (event.key === "Escape" && button.getAttribute("aria-expanded") === "true") button.click();
      });
      row.cells[0].prepend(button);
    }
  }

  // Boards: their content waits as the text of a noscript element until they are opened.

  function unpack(board) {
    const packed = board.querySelector(":scope > noscript");
    if (!packed) return;
    const content = make("div", { className: "content" });
    content.innerHTML = packed.textContent;
    packed.replaceWith(content);
    for (const table of content.querySelectorAll("table")) makeSortable(table);
    for (const section of content.querySelectorAll("section")) addDrillDowns(section);
    filterMethods(board);
  }

  function openTarget() {
    const board = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!board?.matches(".board")) return;
    board.hidden = false;
    board.open = true;
    unpack(board);
    board.scrollIntoView();
    board.querySelector("summary").focus({ preventScroll: true });
  }

  // Filters: every word must occur.

  const wordsOf = (input) => (input?.value || "").toLowerCase().split(/\s+/).filter(Boolean);
  const found = (text, words) => words.every((word) => text.includes(word));

  function filterMethods(within = document) {
    const words = wordsOf(document.getElementById("filter"));
    for (const section of within.querySelectorAll(".content > section")) {
      const hidden = new Set();
      for (const row of section.querySelectorAll("tr[data-words]")) {
        if (!found(row.dataset.words, words)) hidden.add(row.dataset.row);
      }
      for (const row of section.querySelectorAll("tr[data-row]")) {
        row.hidden = hidden.has(row.dataset.row);
        for (const drill of below(row)) drill.hidden = row.hidden;
      }
    }
    const rows = document.querySelectorAll("tr[data-words]");
    const matching = [...rows].filter((row) => !row.hidden).length;
    const text = words.length ? `${matching} of ${rows.length} rows of the open tables` : "";
    document.getElementById("matches").textContent = text;
  }

  function findProtocols() {
    const words = wordsOf(document.getElementById("find-protocol"));
    for (const row of document.querySelectorAll(".overview tr[data-board]")) {
      row.hidden = !found(row.textContent.toLowerCase(), words);
    }
    for (const board of document.querySelectorAll(".board")) {
      board.hidden = !document.querySelector(`.overview tr[data-board="${CSS.escape(board.id)}"]:not([hidden])`);
    }
  }

  function nameTheme() {
    const button = document.getElementById("theme");
    button.textContent = dark() ? "Light" : "Dark";
    button.setAttribute("aria-label", `Switch to ${dark() ? "light" : "dark"} colours`);
  }

  function start() {
    const boards = [...document.querySelectorAll(".board")];
    for (const board of boards) {
      board.open = boards.length <= FEW;
      if (board.open) unpack(board);
      board.addEventListener("toggle", () => board.open && unpack(board));
    }
    makeSortable(document.querySelector(".overview table"));
    document.querySelector(".tools").hidden = false;
    document.getElementById("filter").addEventListener("input", () => filterMethods());
    document.getElementById("find-protocol")?.addEventListener("input", findProtocols);
    const openAll = (open) => () => boards.forEach((board) => { board.open = open && !board.hidden; });
    document.getElementById("open-all")?.addEventListener("click", openAll(true));
    document.getElementById("close-all")?.addEventListener("click", openAll(false));
    document.getElementById("theme").addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      stored.set(root.dataset.theme);
      nameTheme();
    });
    nameTheme();
    addEventListener("hashchange", openTarget);
    openTarget();
  }

  document.addEventListener("DOMContentLoaded", start);
})();
