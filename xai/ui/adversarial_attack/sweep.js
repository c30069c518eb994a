// The epsilon slider and everything that follows it. All positions are here already: a move paints, and asks nobody.
const WHO = [
  ["clean", "Clean"],
  ["attack", "Attacked"],
  ["noise", "Under noise of equal norm"],
];
const ROWS = ["old", "new"];
const EMPTY = "The pictures come here as soon as the first positions are computed.";
const AS_SENT = { scale: "own", signed: "signed", smooth: true, split: 0.5 };

export default function ({ data, parentElement, setStateValue }) {
  let sweep = parentElement.__sweep;
  if (!sweep) sweep = parentElement.__sweep = new Sweep(parentElement, data);
  sweep.send = setStateValue;
  sweep.take(data);
  return listen(sweep);
}

function button(text, title, click) {
  return element("button", { type: "button", class: "icon", text, title, on: { click } });
}

class Sweep {
  constructor(parent, data) {
    this.luts = {};
    this.words = data.words;
    for (const map of data.colormaps) this.luts[map.name] = Uint8Array.from(atob(map.lut), (c) => c.charCodeAt(0));
    this.display = { ...data.display, mode: "overlay" };
    this.place = data.place;
    this.measure = "spearman";
    this.which = "old";
    this.hear = () => this.refresh();
    this.build(data);
    parent.append(this.root);
  }

  build(data) {
    this.slider = element("input", { type: "range", min: 0, max: data.count - 1, step: 1, value: this.place, class: "epsilon", "aria-label": "Epsilon" });
    this.slider.addEventListener("input", () => this.move(Number(this.slider.value)));
    this.slider.addEventListener("change", () => this.send("place", this.place));
    this.readout = element("output", { class: "readout" });
    this.strip = element("div", { class: "strip", "aria-hidden": "true" });
    this.key = element("div", { class: "strip-key", "aria-hidden": "true" });
    this.verdict = element("p", { class: "verdict", "aria-live": "polite" });
    this.tiles = {};
    const figure = (name, title, extra) => {
      const canvas = element("canvas", { width: 224, height: 224, role: "img", "aria-label": title });
      const label = element("b", { text: title });
      const note = element("div", { class: "klass" });
      const mark = element("div", { class: "mark", text: "random weights" });
      const foot = element("div", { class: "title" }, label, extra ?? null);
      this.tiles[name] = { canvas, label, note, mark };
      return element("figure", { class: "tile", "data-tile": name, "data-state": "done" }, element("div", { class: "stage" }, canvas, mark), foot, note);
    };
    const grid = element("div", { class: "square" });
    grid.append(
      figure("clean", "Clean"),
      figure("attacked", "Attacked", button("PNG", "Download the attacked picture, lossless", () => this.png())),
      figure("change", "Perturbation"),
    );
    for (const which of ROWS) for (const [who, title] of WHO) grid.append(figure(`${which}.${who}`, title));
    this.ramp = element("canvas", { class: "ramp", "aria-hidden": "true" });
    this.ends = element("div", { class: "ends" });
    grid.append(element("div", { class: "legend" }, this.ramp, this.ends));
    this.bars = { before: element("div", { class: "bars" }), after: element("div", { class: "bars" }) };
    this.facts = element("dl", { class: "facts" });
    const box = { W: 400, H: 205, left: 52, right: 10, top: 10, bottom: 40 }; // narrow, so that its letters stay legible
    this.charts = { p: new Chart(box), shift: new Chart(box) };
    const measure = element("select", { "aria-label": "Measure of shift" });
    measure.addEventListener("change", () => { this.measure = measure.value; this.curves(); this.charts.shift.mark(this.index); });
    const which = element("select", { "aria-label": "Class of the maps" }, element("option", { value: "old", text: "old class" }), element("option", { value: "new", text: "new class" }));
    which.addEventListener("change", () => { this.which = which.value; this.curves(); this.charts.shift.mark(this.index); });
    this.parts = { measure, which };
    this.wait = element("div", { class: "hold", text: EMPTY });
    const side = element("div", { class: "side" },
      element("div", { class: "pair" }, element("div", {}, element("h4", { text: "Before" }), this.bars.before), element("div", { class: "later" }, element("h4", { text: "After" }), this.bars.after)),
      element("div", { class: "later" }, this.facts, this.charts.p.root, element("div", { class: "fields" }, measure, which), this.charts.shift.root));
    this.body = element("div", { class: "sweep" }, grid, side);
    const track = element("div", { class: "track" }, this.slider, this.strip, this.key);
    this.head = element("div", { class: "control" }, element("label", { class: "eps" }, element("span", { text: "Epsilon" }), this.readout), track, this.toolbar(data));
    this.root = element("div", { class: "olhar" }, this.head, this.verdict, this.wait, this.body);
    this.body.hidden = true;
  }

  toolbar(data) {
    const modes = element("select", { "aria-label": "How maps are drawn" }, element("option", { value: "overlay", text: "Overlay" }), element("option", { value: "map", text: "Map only" }));
    modes.addEventListener("change", () => { this.display.mode = modes.value; this.paint(); });
    const opacity = element("input", { type: "range", class: "opacity", min: 0, max: 100, value: 100 * this.display.opacity, "aria-label": "Opacity of the maps" });
    opacity.addEventListener("input", () => { this.display.opacity = opacity.value / 100; this.paint(); });
    const colors = element("select", { "aria-label": "Colours" });
    this.colors = colors;
    for (const map of data.colormaps) colors.append(element("option", { value: map.name, text: map.title.split(" (")[0], title: map.title, "data-kind": map.kind }));
    colors.addEventListener("change", () => {
      const kind = colors.selectedOptions[0].dataset.kind;
      this.display[kind === "diverging" ? "diverging" : "colors"] = colors.value;
      this.paint();
    });
    return element("div", { class: "tools" }, element("label", { class: "field" }, element("span", { text: "Maps" }), modes), element("label", { class: "field" }, element("span", { text: "Opacity" }), opacity), element("label", { class: "field" }, element("span", { text: "Colours" }), colors));
  }

  take(data) {
    Object.assign(this, { ids: data.ids, slots: data.slots });
    this.refresh();
  }

  // The best study that has arrived: the fine one, else the first positions.
  refresh() {
    const packet = this.ids.map((id) => bus.packets.get(id)).find(Boolean);
    if (!packet) this.early();
    if (packet === this.coming) return;
    this.coming = packet;
    if (packet) this.begin(packet); // what was there stays, and moves, until it is open
    else { this.show(null, null); this.strip.replaceChildren(); this.key.replaceChildren(); this.readout.textContent = ""; }
  }

  // While the first positions are computed: the picture as the network sees it, its classes, and its map.
  async early() {
    const [view, map] = [this.slots.view, this.slots.map].map((slot) => bus.packets.get(bus.slots[slot]?.id));
    const waiting = view ? "The attacked pictures come here as soon as the first positions are computed." : EMPTY;
    this.wait.textContent = waiting;
    if (!view || (this.drawn?.view === view && this.drawn.map === map)) return;
    const drawn = (this.drawn = { view, map });
    const picture = await pictureOf(view);
    if (drawn !== this.drawn || this.coming) return;
    this.show(null, null, true);
    for (const [name, tile] of Object.entries(this.tiles)) {
      const ready = name === "clean" || (name === "old.clean" && map);
      tile.canvas.closest("figure").dataset.state = ready ? "done" : "waiting";
      tile.mark.hidden = !(ready && view.head.random);
      tile.note.textContent = ready ? "" : "not computed yet";
    }
    draw(this.tiles.clean.canvas, picture);
    this.tiles.clean.note.textContent = says(view.head.top[0]);
    if (map) paintMap(this.tiles["old.clean"].canvas, map, picture, { ...this.display, ...AS_SENT }, [], this.luts);
    fill(this.bars.before, view.head.top, view.head.top[0].index);
  }

  show(packet, opened, early = false) {
    Object.assign(this, { packet, opened });
    this.wait.hidden = Boolean(packet);
    this.body.hidden = !packet && !early;
    this.verdict.hidden = !packet;
    for (const part of [this.root, this.wait]) part.classList.toggle("early", early);
    if (!packet) return;
    this.drawn = null;
    for (const tile of Object.values(this.tiles)) tile.canvas.closest("figure").dataset.state = "done";
  }

  async begin(packet) {
    const { head } = packet;
    if (last?.packet !== packet) last = { packet, pictures: picturesOf(packet) };
    const opened = await last.pictures;
    if (packet !== this.coming) return;
    this.show(packet, opened);
    for (const tile of Object.values(this.tiles)) tile.mark.hidden = !head.random;
    for (const option of this.colors.options) option.hidden = (option.dataset.kind === "diverging") !== head.signed;
    this.colors.value = head.signed ? this.display.diverging : this.display.colors;
    this.parts.measure.replaceChildren(...head.shifts.map((s) => element("option", { value: s.name, text: s.title })));
    this.parts.measure.value = this.measure;
    this.marks();
    this.curves();
    this.move(this.place);
  }

  // Under the slider: where the class turns, and where it still does after saving as PNG.
  marks() {
    const { head } = this.packet;
    const done = head.target ? "class reached" : "class changed";
    const same = head.already ? "reached before the attack" : head.target ? "class not reached" : "class as before";
    const says = { same, turned: `${done}, lost in a PNG`, kept: `${done}, in a PNG too` };
    const cells = [];
    for (let place = 0; place < head.count; place++) {
      const i = head.places.indexOf(place);
      const frame = head.frames[i];
      const state = !frame ? "none" : !frame.success ? "same" : frame.png ? "kept" : "turned";
      cells.push(element("i", { class: state, title: frame ? `ε ${head.texts[i]}: ${says[state]}` : "not computed yet" }));
    }
    this.strip.replaceChildren(...cells);
    const used = ["turned", "kept"].filter((state) => cells.some((cell) => cell.className === state));
    const brief = { turned: done, kept: used.length > 1 ? "and saved as PNG" : `${done} and saved as PNG` };
    this.key.replaceChildren(...used.map((state) => element("span", {}, element("i", { class: state }), element("span", { text: brief[state] }))));
    const parts = [head.answer];
    if (!head.already) {
      if (used.length) parts.push(`Saved as PNG it ${this.holds((frame) => frame.success && frame.png, "survives")}.`);
      parts.push(`Random noise of the same norm ${this.holds((frame) => frame.noise, head.target ? "reaches it" : "changes the class")}.`);
      if (head.slope) parts.push(head.slope);
      if (head.short) parts.push(head.short);
    }
    this.verdict.textContent = parts.join(" ");
  }

  // Where a fact of the frames holds, in words: a larger epsilon need not keep what a smaller one has.
  holds(fact, words) {
    const { frames, texts } = this.packet.head;
    const places = frames.flatMap((frame, i) => (fact(frame) ? [i] : []));
    if (!places.length) return `never ${words}`;
    if (places.length === frames.length - places[0]) return `${words} from ${texts[places[0]]} on`;
    return `${words} at ${places.length} of ${frames.length} epsilons, first at ${texts[places[0]]}`;
  }

  curves() {
    const { head } = this.packet;
    const x = head.epsilons.map((e) => e * head.factor);
    const { p, shift } = head.curves;
    const fact = head.shifts.find((s) => s.name === this.measure) ?? head.shifts[0];
    const lines = shift[this.which];
    const groups = this.which === "new" ? head.maps.new.labels : null; // another class at another position
    const note = `${head.network}${head.random ? " (random weights)" : ""}, ${head.picture}: ${head.protocol}`;
    const low = Math.min(fact.low < 0 ? 0 : fact.low, ...lines.attack[fact.name], ...lines.noise[fact.name]);
    this.charts.p.draw({
      title: "Probability", x, xTitle: head.unit, yTitle: "probability", low: 0, high: 1, file: `${head.file}-probability`, note,
      series: [
        { name: "old class, attacked", color: "c1", values: p.old_attack },
        { name: "new class, attacked", color: "c2", values: p.new_attack, groups: head.maps.new.labels },
        { name: "old class, noise", color: "c3", dash: "5 4", values: p.old_noise },
      ],
    });
    this.charts.shift.draw({
      title: `${fact.title}, ${head.method} clean against changed, ${this.which} class`, x, xTitle: head.unit, yTitle: fact.title.toLowerCase(),
      low, high: fact.name === "centroid_drift" ? Math.max(0.1, ...lines.attack[fact.name], ...lines.noise[fact.name]) : fact.high, file: `${head.file}-${fact.name}-${this.which}`, note,
      series: [
        { name: "attacked", color: "c2", values: lines.attack[fact.name], groups },
        { name: "noise of equal norm", color: "c3", dash: "5 4", values: lines.noise[fact.name], groups },
      ],
    });
  }

  // A position that is not computed yet shows the nearest one that is.
  move(place) {
    const start = performance.now();
    this.place = place;
    this.slider.value = place;
    const places = this.packet?.head.places;
    if (!places || !this.opened) return;
    this.index = places.reduce((best, p, i) => (Math.abs(p - place) < Math.abs(places[best] - place) ? i : best), 0);
    this.paint();
    for (const chart of Object.values(this.charts)) chart.mark(this.index);
    this.root.dataset.place = places[this.index];
    this.root.dataset.count = places.length;
    requestAnimationFrame(() => setTimeout(() => (this.root.dataset.latency = (performance.now() - start).toFixed(1))));
  }

  paint() {
    const { opened, index } = this;
    if (!opened) return;
    const { head } = this.packet;
    const frame = head.frames[index];
    const ε = head.texts[index];
    this.readout.textContent = ε;
    this.slider.setAttribute("aria-valuetext", ε);
    const attacked = added(opened.clean, opened.changes[index]);
    draw(this.tiles.clean.canvas, opened.clean);
    draw(this.tiles.attacked.canvas, attacked);
    this.attacked = attacked;
    const soft = opened.soft[index];
    draw(this.tiles.change.canvas, soft ?? enlarged(opened.clean, attacked, 127 / Math.max(1, frame.largest)));
    const largest = soft ? frame.soft_largest : frame.largest;
    const times = largest ? `× ${+(127 / largest).toPrecision(3)}, ` : "";
    this.tiles.change.note.textContent = largest ? `${times}up to ${largest.toFixed(soft ? 2 : 0)} of 255 levels${soft ? ", lost in 8 bits" : ""}` : "none";
    const [before, after] = [head.clean.top[0], frame.top[0]];
    this.tiles.clean.note.textContent = says(before);
    const measured = frame.distance[head.norm];
    const smaller = measured < 0.98 * head.epsilons[index] ? `, norm ${+(head.factor * measured).toPrecision(3)}${head.factor === 255 ? "/255" : ""}` : "";
    this.tiles.attacked.note.textContent = `${says(after)}${smaller}`;
    this.tiles.attacked.note.title = smaller ? "The attack did not use the whole epsilon: this is the norm of what it changed." : "";
    this.tiles.attacked.canvas.setAttribute("aria-label", `Attacked at epsilon ${ε}: ${says(after)}`);
    const below = { clean: opened.clean, attack: attacked, noise: added(opened.clean, opened.noises[index]) };
    const display = { ...this.display, ...AS_SENT };
    for (const which of ROWS) {
      for (const [who, title] of WHO) {
        const tile = this.tiles[`${which}.${who}`];
        const map = opened.maps[`${which}.${who}`](index);
        const { style, scale } = paintMap(tile.canvas, map, below[who], display, [], this.luts);
        tile.canvas.title = `Scale: ${scale.sentence ?? `${number(scale.low)} to ${number(scale.high)}`}`;
        paintRamp(this.ramp, this.luts[style.colors]);
        this.ends.replaceChildren(...this.words[style.kind].map((text) => element("span", { text })));
        tile.note.textContent = `${head.method} for ${head.maps[which].labels[index]}`;
        tile.canvas.setAttribute("aria-label", `${title}: ${head.method} for ${head.maps[which].labels[index]}`);
      }
    }
    fill(this.bars.before, head.clean.top, before.index);
    fill(this.bars.after, frame.top, before.index);
    const d = frame.distance;
    const fixed = (v, n) => (v == null ? "∞" : v.toFixed(n));
    this.list([
      ["L∞", `${fixed(255 * d.linf, 2)}/255`],
      ["L2", fixed(d.l2, 2)],
      ["PSNR", d.psnr == null ? "∞ dB" : `${fixed(d.psnr, 1)} dB`],
      ["SSIM", fixed(d.ssim, 3)],
      [head.target ? "Class reached" : "Class changed", head.already ? "before the attack" : frame.success ? "yes" : "no"],
      ...(head.already ? [] : [
        ["As PNG", frame.png ? (frame.success ? "still" : "yes") : frame.success ? "no longer" : "no"],
        ["By noise", frame.noise ? "yes" : "no"],
      ]),
    ]);
  }

  list(rows) {
    this.facts.replaceChildren(...rows.map(([name, value]) => element("div", {}, element("dt", { text: name }), element("dd", { text: value }))));
  }

  png() {
    const { width, height } = this.attacked;
    const canvas = element("canvas", { width, height });
    canvas.getContext("2d").putImageData(this.attacked, 0, 0);
    const { head } = this.packet;
    canvas.toBlob((blob) => save(blob, `${head.file}-${head.frames[this.index].file}.png`), "image/png");
  }
}

// What the network says, with the number and its % on one line.
function says({ label, p }) {
  return `says ${label}, ${percent(p).replaceAll(" ", "\u00a0")}`;
}

// The study shown last, which a page is left and entered with; those of every study would fill the browser's memory.
let last = null;

// The pictures and maps of a study, from its bytes.
async function picturesOf(packet) {
  const { head, body } = packet;
  const made = new Map(); // by place: what is alike was sent once
  const pixels = ([at, size]) => {
    if (!made.has(at)) made.set(at, pictureOf({ body: body.subarray(at, at + size) }));
    return made.get(at);
  };
  const every = (name) => Promise.all(head.frames.map((frame) => (frame[name] ? pixels(frame[name]) : null)));
  const maps = {};
  for (const which of ROWS) for (const [who] of WHO) maps[`${which}.${who}`] = mapsOf(packet, head.maps[which], who, head.signed);
  return { clean: await pixels(head.clean.at), changes: await every("change"), noises: await every("noisy"), soft: await every("soft"), maps };
}

// The map of one class and one picture at a position, in the form that paint.js takes.
function mapsOf(packet, maps, who, signed) {
  const { h, w, dtype, reach, scales } = maps;
  const [at, size] = maps.at[who];
  const made = new Map();
  return (index) => {
    if (!made.has(index)) {
      let values;
      if (dtype === "f4") {
        values = new Float32Array(packet.body.buffer, packet.body.byteOffset + at + 4 * index * h * w, h * w);
      } else {
        const steps = new Int8Array(packet.body.buffer, packet.body.byteOffset + at + index * h * w, h * w);
        values = Float32Array.from(steps, (step) => (step * reach[index]) / 127);
      }
      made.set(index, { values, head: { h, w, signed, scales: { [signed ? "signed" : "plain"]: scales[index] } } });
      if (made.size > 4) made.delete(made.keys().next().value); // each keeps its enlarged copy
    }
    return made.get(index);
  };
}

function draw(canvas, image) {
  if (canvas.width !== image.width) Object.assign(canvas, { width: image.width, height: image.height });
  canvas.getContext("2d").putImageData(image, 0, 0);
}

// Levels plus changes are levels again: modulo 256 no change is too large for 8 bits.
function added(clean, change) {
  const image = new ImageData(clean.width, clean.height);
  for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : (clean.data[i] + change.data[i] - 128) & 255;
  return image;
}

function enlarged(clean, moved, factor) {
  const image = new ImageData(clean.width, clean.height);
  for (let i = 0; i < image.data.length; i++) image.data[i] = i % 4 === 3 ? 255 : 128 + (moved.data[i] - clean.data[i]) * factor;
  return image;
}

function fill(box, top, old) {
  box.replaceChildren(
    ...top.map((each) =>
      element("div", { class: each.index === old ? "bar old" : "bar" }, element("i", { style: `width:${(100 * each.p).toFixed(1)}%` }), element("span", { text: each.label, title: each.label }), element("span", { class: "p", text: percent(each.p) })),
    ),
  );
}
