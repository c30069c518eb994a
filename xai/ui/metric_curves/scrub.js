// The scrubber: one image's curves, and the picture that the network saw at the chosen step. All of it is here already:
// pictures are composed from the image, what stands for missing pixels, and the library's ranks; a move asks nobody.
const METRICS = { insertion: "Insertion", deletion: "Deletion" };

export default function ({ data, parentElement }) {
  let scrub = parentElement.__scrub;
  if (!scrub) scrub = parentElement.__scrub = new Scrub(parentElement);
  scrub.take(data);
  return listen(scrub);
}

// A chart whose lines have colours of their own, one of them in front, and whose file says how it was measured.
class Curves extends Chart {
  constructor() {
    super();
    this.box = { W: 340, H: 236, left: 46, right: 12, top: 10, bottom: 40 };
    this.svg.setAttribute("viewBox", `0 0 ${this.box.W} ${this.box.H}`);
  }

  draw(spec) {
    super.draw(spec);
    const lines = this.svg.querySelectorAll(".line");
    const keys = this.legend.querySelectorAll("i");
    spec.series.forEach((line, i) => {
      lines[i].style.stroke = line.ink;
      lines[i].style.strokeWidth = line.front ? 3 : 1.4;
      this.dots[i].style.fill = line.ink;
      this.dots[i].setAttribute("r", line.front ? 5 : 2.5);
      keys[i].parentElement.classList.toggle("front", line.front);
      // Drawn as the line is: a border knows no dash-dot, and two baselines would look the same.
      const stroke = { x2: 18, y1: 4, y2: 4, stroke: line.ink, "stroke-width": 2, "stroke-dasharray": line.dash };
      keys[i].replaceWith(svg("svg", { width: 18, height: 8, "aria-hidden": "true" }, svg("line", stroke)));
    });
    this.title.textContent = spec.shown; // the file has the whole title
  }
}

class Scrub {
  constructor(parent) {
    this.share = 0.25;
    this.hear = () => this.refresh();
    this.slider = element("input", { type: "range", min: 0, step: 1, class: "epsilon", "aria-label": "Share of the pixels that has changed" });
    this.slider.addEventListener("input", () => this.move(Number(this.slider.value)));
    this.readout = element("output", { class: "readout" });
    this.network = element("select", { "aria-label": "Classifier" });
    this.network.addEventListener("change", () => { this.wanted = this.network.value; this.refresh(); });
    this.method = element("select", { "aria-label": "Whose order of pixels" });
    this.method.addEventListener("change", () => { this.chosen = this.method.value; this.curves(); this.say(); this.paint(); });
    this.networkField = element("label", { class: "field" }, element("span", { text: "Classifier" }), this.network);
    const tools = element("div", { class: "tools" }, this.networkField, element("label", { class: "field" }, element("span", { text: "Pixels in the order of" }), this.method));
    const head = element("div", { class: "control" }, element("div", { class: "eps" }, element("span", { text: "Pixels changed" }), this.readout), element("div", { class: "track" }, this.slider), tools);
    this.says = element("p", { class: "verdict" });
    this.panels = {};
    const pair = element("div", { class: "panels" });
    for (const [metric, title] of Object.entries(METRICS)) pair.append(this.panel(metric, title));
    this.body = element("div", {}, head, this.says, pair);
    this.wait = element("div", { class: "hold" });
    this.root = element("div", { class: "olhar scrub" }, this.wait, this.body);
    this.show(false);
    parent.append(this.root);
  }

  panel(metric, title) {
    const canvas = element("canvas", { width: 224, height: 224, role: "img", "data-metric": metric });
    const mark = element("div", { class: "mark" });
    const note = element("div", { class: "klass" });
    const chart = new Curves();
    const way = element("span", { class: "way" });
    const sentence = element("p", { class: "said" });
    const icon = { type: "button", class: "icon", text: "PNG", title: "Download the picture at this step" };
    const save = element("button", { ...icon, on: { click: () => this.png(metric) } });
    const picture = element("figure", { class: "tile" }, element("div", { class: "stage" }, canvas, mark), element("div", { class: "title" }, note, save));
    this.panels[metric] = { canvas, mark, note, chart, way, sentence };
    return element("section", { class: "panel" }, element("h4", {}, element("b", { text: title }), way), element("div", { class: "beside" }, picture, chart.root), sentence);
  }

  take(data) {
    this.items = data.items;
    this.words = data.words;
    this.network.replaceChildren(...data.items.map((item) => element("option", { value: item.net, text: item.title })));
    this.networkField.hidden = data.items.length < 2;
    this.refresh();
  }

  // The packet of the wanted network, or of the first that has arrived.
  refresh() {
    const there = this.items.filter((item) => bus.packets.has(item.id));
    const item = there.find((each) => each.net === this.wanted) ?? there[0];
    const packet = item && bus.packets.get(item.id);
    if (item) this.network.value = item.net;
    for (const option of this.network.options) option.disabled = !there.some((each) => each.net === option.value);
    this.wait.textContent = this.words;
    if (packet === this.coming) return;
    this.coming = packet;
    if (packet) this.begin(packet);
    else this.show(false);
  }

  show(ready) {
    this.wait.hidden = ready;
    this.body.hidden = !ready;
    this.root.dataset.id = ready ? this.packet.head.id : "";
  }

  async begin(packet) {
    const { head } = packet;
    packet.ready ??= (async () => {
      const part = ([at, size]) => packet.body.slice(at, at + size);
      packet.image = await pictureOf({ body: part(head.image) });
      packet.behind = {};
      for (const metric of Object.keys(METRICS)) packet.behind[metric] = await pictureOf({ body: part(head.metrics[metric].behind) });
      const Ranks = head.dtype === "u2" ? Uint16Array : Uint32Array;
      packet.ranks = Object.fromEntries(head.methods.map((each) => [each.name, new Ranks(part(each.ranks).buffer)]));
    })();
    await packet.ready; // what was there stays until then
    if (packet !== this.coming) return;
    this.packet = packet;
    this.method.replaceChildren(...head.methods.map((each) => element("option", { value: each.name, text: each.title })));
    if (!head.methods.some((each) => each.name === this.chosen)) this.chosen = head.methods[0].name;
    this.method.value = this.chosen;
    this.slider.max = head.counts.length - 1;
    this.say();
    for (const [metric, panel] of Object.entries(this.panels)) {
      const about = head.metrics[metric];
      panel.mark.hidden = !head.marks.length;
      panel.mark.textContent = head.marks.join(", ");
      panel.way.textContent = about.up ? "higher is better ↑" : "lower is better ↓";
      panel.sentence.textContent = about.sentence;
    }
    const total = head.counts.at(-1);
    const nearest = head.counts.reduce((best, count, i) => (Math.abs(count / total - this.share) < Math.abs(head.counts[best] / total - this.share) ? i : best), 0);
    this.index = nearest;
    this.show(true);
    this.curves();
    this.move(nearest, true);
  }

  // What the picture is, why a map has no order where it has none, and what is undecided in it.
  say() {
    const { head } = this.packet;
    const method = head.methods.find((each) => each.name === this.chosen);
    const blank = method.blank ? ` ${method.title} has no score: ${method.blank}` : "";
    const note = method.note ? ` ${method.title}: ${method.note}` : "";
    this.says.textContent = `${head.picture}: ${head.network} says ${head.label}, ${percent(head.p)}. ${head.protocol}: ${head.counts.length} positions.${blank}${note}`;
  }

  curves() {
    const { head } = this.packet;
    const total = head.counts.at(-1);
    for (const [metric, panel] of Object.entries(this.panels)) {
      const about = head.metrics[metric];
      const verb = metric === "insertion" ? "put in" : "taken away";
      const marks = head.marks.map((mark) => `, ${mark.toUpperCase()}`).join("");
      panel.chart.draw({
        shown: head.network,
        title: `${METRICS[metric]}, ${head.picture}, ${head.network}${marks}`,
        x: head.counts.map((count) => (100 * count) / total),
        xTitle: `pixels ${verb}, % of the picture`,
        yTitle: about.axis,
        low: 0,
        high: 1,
        file: `${head.file}-${metric}`,
        note: about.sentence,
        series: head.methods.map((each) => ({
          name: `${each.title}, AUC ${each[metric].auc == null ? "none" : each[metric].auc.toFixed(3)}`,
          color: "own", ink: each.ink, dash: each.dash, front: each.name === this.chosen, values: each[metric].y,
        })),
      });
      panel.chart.mark(this.index);
    }
  }

  move(index, keep = false) {
    const { counts } = this.packet.head;
    this.index = index;
    if (!keep) this.share = counts[index] / counts.at(-1);
    this.slider.value = index;
    for (const { chart } of Object.values(this.panels)) chart.mark(index);
    this.paint();
  }

  paint() {
    const { packet, index } = this;
    if (!packet?.ranks || index === undefined) return;
    const { head } = packet;
    const [count, total] = [head.counts[index], head.counts.at(-1)];
    const words = `${+((100 * count) / total).toFixed(1)} %`;
    this.readout.textContent = words;
    this.slider.setAttribute("aria-valuetext", `${words}, ${count} of ${total} pixels`);
    const method = head.methods.find((each) => each.name === this.chosen);
    for (const [metric, panel] of Object.entries(this.panels)) {
      const inside = metric === "insertion";
      const [front, back] = inside ? [packet.image, packet.behind[metric]] : [packet.behind[metric], packet.image];
      compose(panel.canvas, front, back, packet.ranks[this.chosen], method.blank ? 0 : count); // blank: no pixel is first
      const value = method[metric].y[index];
      const verb = inside ? "put in" : "taken away";
      panel.note.textContent = method.blank ? "no order" : `${count.toLocaleString("en")} of ${total.toLocaleString("en")} px ${verb}`;
      panel.canvas.setAttribute("aria-label", `${METRICS[metric]}: ${words} ${verb} in the order of ${method.title}; ${head.metrics[metric].axis.split(",")[0]} ${value == null ? "none" : value.toFixed(2)}`);
    }
    Object.assign(this.root.dataset, { index, method: this.chosen });
  }

  png(metric) {
    const { head } = this.packet;
    const share = Math.round((1000 * head.counts[this.index]) / head.counts.at(-1)) / 10;
    this.panels[metric].canvas.toBlob((blob) => save(blob, `${head.file}-${this.chosen}-${metric}-${share}.png`), "image/png");
  }
}

// Pixels ranked below `count` come from `front`, the others from `back`: the library's own rule.
function compose(canvas, front, back, ranks, count) {
  const { width, height } = front;
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const image = new ImageData(width, height);
  const [out, first, rest] = [image, front, back].map((each) => new Uint32Array(each.data.buffer));
  for (let i = 0; i < out.length; i++) out[i] = ranks[i] < count ? first[i] : rest[i];
  canvas.getContext("2d").putImageData(image, 0, 0);
}
