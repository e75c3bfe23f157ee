"use strict";
(() => {
  const root = document.documentElement;
  const finePointer = matchMedia("(pointer: fine)").matches;
  const config = { responsive: true, displayModeBar: false, displaylogo: false, showTips: false };

  // "--series-1/0.2" is a CSS variable and an opacity.
  const colour = (token, style) => {
    const [name, alpha] = token.split("/");
    const value = style.getPropertyValue(name).trim();
    if (!alpha) return value;
    const channel = (at) => parseInt(value.slice(at, at + 2), 16);
    return `rgba(${channel(1)},${channel(3)},${channel(5)},${alpha})`;
  };

  const painted = (node, style) => {
    if (Array.isArray(node)) return node.map((child) => painted(child, style));
    if (node === null || typeof node !== "object") return node;
    return Object.fromEntries(
      Object.entries(node).map(([key, value]) => {
        const isToken = /color$/.test(key) && typeof value === "string" && value.startsWith("--");
        if (key === "colorscale") return [key, value.map(([at, token]) => [at, colour(token, style)])];
        return [key, isToken ? colour(value, style) : painted(value, style)];
      }),
    );
  };

  const keysOf = (host) => document.querySelectorAll(`.key[data-plot="${host.id}"]`);
  const tracesOf = (key) => key.dataset.traces.split(",").map(Number);

  // A view box lets the print style sheet scale what was drawn for the screen.
  const scalable = (host) => {
    host.style.setProperty("--aspect", `${host.clientWidth} / ${host.clientHeight}`);
    host.style.setProperty("--drawn", host.clientWidth);
    for (const svg of host.querySelectorAll(".main-svg")) {
      svg.setAttribute("viewBox", `0 0 ${svg.getAttribute("width")} ${svg.getAttribute("height")}`);
    }
  };

  const draw = (host) => {
    const style = getComputedStyle(root);
    const spec = painted(JSON.parse(document.getElementById(host.dataset.source).textContent), style);
    for (const key of keysOf(host)) {
      const visible = key.getAttribute("aria-pressed") === "true";
      for (const index of tracesOf(key)) spec.traces[index].visible = visible;
    }
    spec.layout.font.family = getComputedStyle(host).fontFamily;
    spec.layout.dragmode = finePointer ? "zoom" : false;
    return Plotly.react(host, spec.traces, spec.layout, config);
  };

  const hosts = [...document.querySelectorAll(".plot")];
  const drawAll = () => hosts.forEach(draw);

  for (const host of hosts) {
    draw(host).then(() => scalable(host));
    host.on("plotly_afterplot", () => scalable(host));
    for (const key of keysOf(host)) {
      key.addEventListener("click", () => {
        key.setAttribute("aria-pressed", key.getAttribute("aria-pressed") !== "true");
        draw(host);
      });
    }
  }

  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  addEventListener("beforeprint", () => {
    root.classList.add("on-paper");
    drawAll();
  });
  addEventListener("afterprint", () => {
    root.classList.remove("on-paper");
    drawAll();
  });

  const inOrder = (column, numeric, sign) => (one, other) => {
    const [a, b] = [one.cells[column], other.cells[column]];
    const missing = a.hasAttribute("data-missing") - b.hasAttribute("data-missing");
    if (missing) return missing;
    if (numeric) return sign * (Number(a.dataset.sort) - Number(b.dataset.sort));
    return sign * a.textContent.localeCompare(b.textContent, undefined, { numeric: true });
  };

  for (const table of document.querySelectorAll("table.grid")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.querySelector("button").addEventListener("click", () => {
        const order = head.getAttribute("aria-sort") === "ascending" ? "descending" : "ascending";
        heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...table.tBodies[0].rows];
        rows.sort(inOrder(column, head.classList.contains("numeric"), sign));
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const button of document.querySelectorAll(".passage .more")) {
    const text = button.previousElementSibling;
    button.hidden = text.scrollHeight <= text.clientHeight + 1;
    button.addEventListener("click", () => {
      const open = text.classList.toggle("open");
      button.setAttribute("aria-expanded", open);
      button.textContent = open ? "less" : "more";
    });
  }
})();
