// A line chart as SVG: axes with units, a legend with the values under the marker, a marker that moves without redrawing.
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

function ticksOf(low, high, count) {
  const raw = (high - low) / count || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= raw - 1e-12);
  const found = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + 1e-9; v += step) found.push(+v.toPrecision(6));
  return found;
}

class Chart {
  // spec: { title, x, xTitle, yTitle, low, high, series: [{ name, color, dash, values, groups }], file, note (in the file) }
  // groups: what each value is of; the line breaks where that changes, and its name stands beside the value.
  constructor(box = { W: 520, H: 230, left: 46, right: 12, top: 10, bottom: 40 }) {
    this.box = box;
    this.svg = svg("svg", { viewBox: `0 0 ${this.box.W} ${this.box.H}`, role: "img", class: "plot" });
    this.title = element("b", {});
    this.legend = element("div", { class: "keys" });
    this.save = element("button", { type: "button", class: "icon", text: "SVG", title: "Download this figure", on: { click: () => this.download() } });
    this.root = element("figure", { class: "chart" }, element("figcaption", { class: "head" }, this.title, this.save), this.legend, this.svg);
  }

  draw(spec) {
    this.spec = spec;
    const { W, H, left, right, top, bottom } = this.box;
    const xs = spec.x;
    const [x0, x1] = [Math.min(...xs), Math.max(...xs)];
    this.px = (v) => left + ((W - left - right) * (v - x0)) / (x1 - x0 || 1);
    this.py = (v) => top + ((H - top - bottom) * (spec.high - v)) / (spec.high - spec.low || 1);
    const parts = [];
    for (const v of ticksOf(spec.low, spec.high, 4)) {
      parts.push(svg("line", { x1: left, x2: W - right, y1: this.py(v), y2: this.py(v), class: "grid" }));
      const label = svg("text", { x: left - 6, y: this.py(v) + 4, "text-anchor": "end" });
      label.textContent = String(v);
      parts.push(label);
    }
    for (const v of ticksOf(x0, x1, 8)) {
      const label = svg("text", { x: this.px(v), y: H - bottom + 16, "text-anchor": "middle" });
      label.textContent = String(v);
      parts.push(svg("line", { x1: this.px(v), x2: this.px(v), y1: H - bottom, y2: H - bottom + 4, class: "axis" }), label);
    }
    parts.push(svg("line", { x1: left, x2: W - right, y1: H - bottom, y2: H - bottom, class: "axis" }));
    const xTitle = svg("text", { x: (left + W - right) / 2, y: H - 6, "text-anchor": "middle", class: "name" });
    xTitle.textContent = spec.xTitle;
    const yTitle = svg("text", { transform: `translate(12 ${(top + H - bottom) / 2}) rotate(-90)`, "text-anchor": "middle", class: "name" });
    yTitle.textContent = spec.yTitle;
    parts.push(xTitle, yTitle);
    this.marker = svg("line", { y1: top, y2: H - bottom, class: "marker" });
    parts.push(this.marker);
    this.dots = [];
    for (const line of spec.series) {
      const drawn = line.values.flatMap((v, i) => (v == null ? [] : [i]));
      const steps = drawn.map((i, k) => {
        const joined = k > 0 && line.groups?.[i] === line.groups?.[drawn[k - 1]];
        const y = this.py(Math.min(spec.high, Math.max(spec.low, line.values[i])));
        return `${joined ? "L" : "M"}${this.px(xs[i]).toFixed(1)},${y.toFixed(1)}${joined ? "" : "h0"}`; // h0: one point alone is a dot
      });
      parts.push(svg("path", { d: steps.join(""), class: `line ${line.color}`, "stroke-dasharray": line.dash ?? "" }));
      const dot = svg("circle", { r: 4, class: `dotted ${line.color}` });
      this.dots.push(dot);
      parts.push(dot);
    }
    this.svg.replaceChildren(...parts);
    this.title.textContent = spec.title;
    this.values = spec.series.map(() => element("output", {}));
    this.legend.replaceChildren(
      ...spec.series.map((line, i) => element("span", { class: "key" }, element("i", { class: `${line.color} ${line.dash ? "dashed" : ""}` }), element("span", { text: line.name }), this.values[i])),
    );
  }

  mark(index) {
    const { spec } = this;
    if (!spec) return;
    const x = this.px(spec.x[index]);
    this.marker.setAttribute("x1", x);
    this.marker.setAttribute("x2", x);
    const said = [];
    spec.series.forEach((line, i) => {
      const v = line.values[index];
      this.dots[i].setAttribute("cx", x);
      this.dots[i].setAttribute("cy", this.py(Math.min(spec.high, Math.max(spec.low, v ?? spec.low))));
      const text = v == null ? "" : [v.toFixed(2), line.groups?.[index]].filter(Boolean).join(" ");
      this.values[i].textContent = text;
      said.push(`${line.name} ${text || "none"}`);
    });
    this.svg.setAttribute("aria-label", `${spec.title}: ${said.join(", ")}`);
  }

  // A copy with its colours written in, its title and its legend, so that it looks the same anywhere.
  download() {
    const copy = this.svg.cloneNode(true);
    const from = this.svg.querySelectorAll("*");
    copy.querySelectorAll("*").forEach((each, i) => {
      const style = getComputedStyle(from[i]);
      const font = each.tagName === "text" ? `font:${style.fontSize} sans-serif;` : "";
      each.setAttribute("style", `${font}fill:${style.fill};stroke:${style.stroke};stroke-width:${style.strokeWidth}`);
    });
    const { W, H } = this.box;
    const wrapped = (text, width) => text.match(new RegExp(`.{1,${Math.floor(width)}}(\\s|$)`, "g")) ?? [];
    const [titles, notes] = [wrapped(this.spec.title, (W - 30) / 7.4), wrapped(this.spec.note ?? "", W / 6.6)];
    const extra = 20 * (this.spec.series.length + 1 + titles.length);
    const tall = H + extra + 16 * notes.length;
    copy.setAttribute("xmlns", SVG);
    copy.setAttribute("viewBox", `0 ${-extra} ${W} ${tall}`);
    copy.setAttribute("width", W);
    copy.setAttribute("height", tall);
    const ink = getComputedStyle(this.svg).color;
    const paper = getComputedStyle(this.root).getPropertyValue("--st-background-color").trim() || "white";
    copy.prepend(svg("rect", { x: 0, y: -extra, width: W, height: tall, fill: paper }));
    const line = (text, y, style = "", x = 30) => {
      const made = svg("text", { x, y, style: `font:13px sans-serif;fill:${ink};${style}` });
      made.textContent = text;
      copy.append(made);
    };
    titles.forEach((text, i) => line(text.trim(), -extra + 18 + 20 * i, "font-weight:bold"));
    this.spec.series.forEach((each, i) => {
      const y = -extra + 18 + 20 * (titles.length + i);
      const stroke = getComputedStyle(this.svg.querySelectorAll(".line")[i]).stroke;
      copy.append(svg("line", { x1: 6, x2: 24, y1: y - 4, y2: y - 4, stroke, "stroke-width": 2, "stroke-dasharray": each.dash ?? "" }));
      line(each.groups ? `${each.name} (${[...new Set(each.groups)].join(", ")})` : each.name, y);
    });
    notes.forEach((text, i) => line(text.trim(), H + 12 + 16 * i, "font-size:11px", 6));
    save(new Blob([copy.outerHTML], { type: "image/svg+xml" }), `${this.spec.file}.svg`);
  }
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
