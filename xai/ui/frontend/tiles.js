// The grid of tiles: what is drawn, and what a person can do with it. Display controls never ask Python to recompute.
const MODES = [
  ["overlay", "Overlay"],
  ["map", "Map"],
  ["split", "Split"],
];
const SIGNED = [
  ["signed", "For, against", "Two colours: what speaks for the class, and what against it"],
  ["strength", "Strength", "The size of each value without its sign"],
  ["relief", "Relief", "Each colour channel by itself, around grey"],
];
const SCALES = [
  ["own", "Own", "Each map by its own values"],
  ["shared", "Shared", "One scale for the maps that are in one unit"],
];

export default function ({ data, parentElement, setStateValue, setTriggerValue }) {
  let grid = parentElement.__grid;
  if (!grid) grid = parentElement.__grid = new Grid(parentElement, data);
  bus.grids.add(grid);
  grid.send = { state: setStateValue, trigger: setTriggerValue };
  grid.arrange(data);
  const end = listen(grid);
  return () => {
    if (!end()) return;
    bus.grids.delete(grid);
    grid.watch.disconnect();
  };
}

class Grid {
  constructor(parent, data) {
    this.display = { ...data.display };
    this.luts = {};
    this.words = data.words;
    for (const map of data.colormaps) {
      this.luts[map.name] = Uint8Array.from(atob(map.lut), (c) => c.charCodeAt(0));
    }
    this.tiles = new Map();
    this.cursor = null;
    this.layout = "";
    this.root = element("div", { class: "olhar" });
    this.rows = element("div", { class: "rows" });
    this.said = element("div", { class: "sr", "aria-live": "polite" });
    this.toolbar = new Toolbar(this, data);
    this.root.append(this.toolbar.root, this.rows, this.said);
    parent.append(this.root);
    this.hear = () => this.refresh();
    this.watch = new ResizeObserver(() => this.fit());
    this.watch.observe(this.rows);
  }

  // Columns of equal width: as few lines as fit, equally full, no tile too large to compare.
  fit() {
    const width = this.rows.clientWidth;
    const gap = 14;
    const least = width < 420 ? 140 : 164;
    const fitting = Math.max(1, Math.floor((width + gap) / (least + gap)));
    const lines = Math.ceil(this.widest / fitting);
    this.rows.style.setProperty("--columns", Math.ceil(this.widest / lines));
    this.toolbar.fit?.();
  }

  arrange(data) {
    this.controls = data.controls;
    this.toolbar.root.hidden = !data.controls;
    const layout = JSON.stringify(data.rows);
    if (layout === this.layout) return this.refresh();
    this.layout = layout;
    const old = this.tiles;
    this.tiles = new Map();
    this.rows.replaceChildren();
    this.widest = Math.max(...data.rows.map((row) => row.tiles.length));
    for (const row of data.rows) {
      const strip = element("div", { class: "tiles" });
      for (const spec of row.tiles) {
        const same = old.get(spec.slot);
        const tile = same && same.signature === JSON.stringify(spec) ? same : new Tile(this, spec);
        this.tiles.set(spec.slot, tile);
        strip.append(tile.root);
      }
      const head = row.title ? element("h4", { class: "rowhead", text: row.title }) : null;
      this.rows.append(element("section", { "aria-label": row.title || "Maps" }, head, strip));
    }
    this.fit();
    this.refresh();
  }

  // Only tiles that changed are painted: while work runs, the status comes many times a second.
  refresh() {
    const changed = [...this.tiles.values()].filter((tile) => tile.update());
    if (changed.length && this.display.scale === "shared") return this.repaint();
    for (const tile of changed) tile.paint();
    if (changed.length) this.settle();
  }

  repaint() {
    for (const tile of this.tiles.values()) tile.paint();
    this.settle();
  }

  settle() {
    this.toolbar.reflect([...this.tiles.values()].map((tile) => tile.packet?.head).filter(Boolean));
    if (this.cursor) this.point(this.cursor, false);
  }

  // The own scales of all maps in the unit of this one and drawn in the same sort of colours, one or two.
  scales(packet, kind) {
    const found = [];
    for (const { packet: other } of this.tiles.values()) {
      if (other?.head.kind !== "map" || other.head.unit !== packet.head.unit) continue;
      const style = styleOf(other.head, this.display).kind;
      if (style !== "relief" && (style === "signed") === (kind === "signed")) found.push(other.head.scales[style]);
    }
    return found;
  }

  // One display for every grid of the tab; only the grid with the controls tells Python, and only when they rest.
  set(change, final) {
    for (const grid of bus.grids) {
      Object.assign(grid.display, change);
      grid.repaint();
    }
    if (final && this.controls) this.send.state("display", this.display);
  }

  // The same point in all tiles of all grids: u, v in 0..1, or null to take the cross away.
  point(cursor, aloud) {
    for (const grid of bus.grids) {
      grid.cursor = cursor;
      const lines = [...grid.tiles.values()].map((tile) => tile.point(cursor)).filter(Boolean);
      if (grid === this) grid.said.textContent = aloud ? lines.join(", ") : "";
    }
  }
}

class Toolbar {
  constructor(grid, data) {
    this.grid = grid;
    const { display } = grid;
    const brief = (title) => title.split(" (")[0];
    const maps = (kind) =>
      data.colormaps.filter((map) => map.kind === kind).map((map) => [map.name, brief(map.title), map.title]);
    this.parts = {
      mode: this.choices("mode", "View", MODES),
      opacity: this.slider(display),
      colors: this.select("colors", "Colours", maps("sequential")),
      signed: this.select("signed", "Signed", SIGNED),
      diverging: this.select("diverging", "Signed colours", maps("diverging")),
      scale: this.select("scale", "Scale", SCALES),
      smooth: this.check("smooth", "Smooth"),
    };
    this.parts.smooth.title = "Off: the cells of the layer as they are";
    if (maps("diverging").length < 2) delete this.parts.diverging;
    this.root = element("div", { class: "toolbar", role: "group", "aria-label": "How the maps are drawn" });
    this.root.append(...Object.values(this.parts));
    if (data.jump) this.root.append(this.jump(data.jump));
  }

  // A way to controls that the page's width has put below the maps.
  jump({ text, key }) {
    const target = () => document.querySelector(`.st-key-${key}`);
    const below = () => target()?.getBoundingClientRect().top > this.root.getBoundingClientRect().top;
    const go = () => target()?.scrollIntoView({ block: "center" });
    const button = element("button", { type: "button", class: "act jump", text, on: { click: go } });
    this.fit = () => (button.hidden = !below());
    return button;
  }

  choices(name, label, options) {
    const box = element("div", { class: "modes", role: "radiogroup", "aria-label": label });
    for (const [value, text] of options) {
      const input = element("input", { type: "radio", name: `olhar-${name}`, value });
      input.checked = this.grid.display[name] === value;
      input.addEventListener("change", () => this.grid.set({ [name]: value }, true));
      box.append(element("label", {}, input, element("span", { text })));
    }
    return box;
  }

  slider(display) {
    const input = element("input", { type: "range", min: 0, max: 100, step: 1, class: "opacity" });
    input.value = Math.round(100 * display.opacity);
    const shown = element("output", { text: `${input.value} %` });
    input.addEventListener("input", () => {
      shown.textContent = `${input.value} %`;
      this.grid.set({ opacity: input.value / 100 }, false);
    });
    input.addEventListener("change", () => this.grid.set({ opacity: input.value / 100 }, true));
    return element("label", { class: "field" }, element("span", { text: "Opacity" }), input, shown);
  }

  select(name, label, options) {
    const box = element("select", { class: name });
    for (const [value, text, title] of options) box.append(element("option", { value, text, title }));
    box.value = this.grid.display[name];
    box.addEventListener("change", () => this.grid.set({ [name]: box.value }, true));
    return element("label", { class: "field" }, element("span", { text: label }), box);
  }

  check(name, label) {
    const box = element("input", { type: "checkbox", class: name });
    box.checked = this.grid.display[name];
    box.addEventListener("change", () => this.grid.set({ [name]: box.checked }, true));
    return element("label", { class: "field" }, box, element("span", { text: label }));
  }

  // Controls that would change nothing on the tiles shown are off.
  reflect(heads) {
    const maps = heads.filter((head) => head.kind === "map");
    const { display } = this.grid;
    const off = {
      opacity: display.mode === "map",
      colors: !maps.some((head) => !head.signed) && display.signed !== "strength",
      signed: !maps.some((head) => head.signed),
      scale: new Set(maps.map((head) => head.unit)).size === maps.length, // no two maps in one unit
      smooth: !maps.some((head) => head.coarse),
    };
    for (const [name, disabled] of Object.entries(off)) {
      this.parts[name].classList.toggle("off", disabled && maps.length > 0);
      this.parts[name].querySelector("input, select").disabled = disabled && maps.length > 0;
    }
    const relief = this.parts.signed.querySelector("option[value=relief]");
    relief.disabled = !maps.some((head) => head.relief);
  }
}
