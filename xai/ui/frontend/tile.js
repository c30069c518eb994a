// One tile: a picture with its title, class, scale, badge, and what can be done with it.
class Tile {
  constructor(grid, spec) {
    this.grid = grid;
    this.spec = spec;
    this.signature = JSON.stringify(spec);
    this.packet = null;
    this.canvas = element("canvas", { width: 224, height: 224, tabindex: 0, role: "img", "aria-label": spec.title });
    this.cross = element("div", { class: "cross", "aria-hidden": "true", hidden: true });
    this.mark = element("div", { class: "mark", text: "random weights" });
    this.note = element("div", { class: "note" });
    this.divider = element("div", { class: "divider", role: "slider", tabindex: 0, "aria-label": "Divider" });
    this.wait = element("div", { class: "wait" });
    this.stage = element("div", { class: "stage" }, this.canvas, this.cross, this.divider, this.mark, this.note, this.wait);
    this.time = element("span", { class: "time" });
    this.title = element("div", { class: "title" }, element("b", { text: spec.title, title: spec.title }), this.time);
    this.klass = element("div", { class: "klass" });
    this.legend = element("div", { class: "legend" });
    this.foot = element("div", { class: "foot" });
    this.root = element("figure", { class: "tile", "data-slot": spec.slot }, this.stage, this.title, this.klass, this.legend, this.foot);
    this.listen();
  }

  get status() {
    return bus.slots[this.spec.slot] ?? { state: "waiting", note: "" };
  }

  listen() {
    const at = (event) => {
      const box = this.stage.getBoundingClientRect();
      const within = (v) => Math.min(1, Math.max(0, v));
      return { u: within((event.clientX - box.left) / box.width), v: within((event.clientY - box.top) / box.height) };
    };
    this.canvas.addEventListener("pointermove", (event) => this.grid.point(at(event), false));
    this.canvas.addEventListener("pointerleave", () => this.grid.point(null, false));
    this.canvas.addEventListener("blur", () => this.grid.point(null, false));
    this.canvas.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
      if (event.key === "Escape") this.grid.point(null, false);
      if (!step) return;
      event.preventDefault();
      const { u, v } = this.grid.cursor ?? { u: 0.5, v: 0.5 };
      const move = (x, d) => Math.min(0.999, Math.max(0, x + d / 28));
      this.grid.point({ u: move(u, step[0]), v: move(v, step[1]) }, true);
    });
    this.divider.addEventListener("pointerdown", (event) => this.divider.setPointerCapture(event.pointerId));
    this.divider.addEventListener("pointermove", (event) => {
      if (this.divider.hasPointerCapture(event.pointerId)) this.grid.set({ split: at(event).u }, false);
    });
    this.divider.addEventListener("pointerup", () => this.grid.set({}, true));
    this.divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.05, ArrowRight: 0.05, Home: -1, End: 1 }[event.key];
      if (!step) return;
      event.preventDefault();
      this.grid.set({ split: Math.min(1, Math.max(0, this.grid.display.split + step)) }, true);
    });
  }

  // Take the slot's status from the bus; true if that changed what is to be shown.
  update() {
    const { status } = this;
    this.packet = status.id ? (bus.packets.get(status.id) ?? null) : null;
    const ready = status.state === "done" && this.packet;
    this.root.dataset.state = ready ? "done" : status.state === "done" ? "waiting" : status.state;
    this.root.setAttribute("aria-busy", String(!ready && ["waiting", "running"].includes(status.state)));
    const content = ready ? this.packet.head.id : JSON.stringify(status);
    if (content === this.shown) return false;
    this.shown = content;
    delete this.root.dataset.painted;
    this.mark.hidden = !(ready && this.packet.head.random);
    this.wait.hidden = Boolean(ready);
    this.base = null;
    if (ready) this.describe(this.packet.head);
    else this.waiting(status);
    return true;
  }

  waiting(status) {
    for (const part of [this.klass, this.legend, this.foot]) part.replaceChildren();
    this.time.textContent = "";
    this.note.hidden = true;
    const act = (what, text) =>
      element("button", { type: "button", class: "act", text, on: { click: () => this.ask(what) } });
    const parts = [];
    const words = (text) => parts.push(element("div", { class: "words", text }));
    if (status.state === "waiting") {
      words(status.note || "Waiting");
      if (status.stoppable) parts.push(act("cancel", "Cancel"));
    } else if (status.state === "running") {
      const left = status.left == null ? "" : `about ${duration(status.left)} left`;
      const bar = element("div", {
        class: status.share ? "progress" : "progress unsure",
        role: "progressbar",
        "aria-label": this.spec.title,
        "aria-valuemin": 0,
        "aria-valuemax": 100,
        "aria-valuenow": status.share ? Math.round(100 * status.share) : null,
      });
      bar.append(element("i", { style: `width:${status.share ? 100 * status.share : 100}%` }));
      parts.push(bar);
      words([status.share ? `${Math.floor(100 * status.share)} %` : "", left || status.note].filter(Boolean).join(" · "));
      if (status.stoppable) parts.push(act("cancel", "Cancel"));
    } else if (status.state === "held") {
      words(`${status.passes.toLocaleString("en")} forward passes, about ${duration(status.seconds)}`);
      parts.push(act("run", "Run it"));
    } else if (status.state === "stopped") {
      words("Cancelled");
      parts.push(act("run", "Run it again"));
    } else {
      words(status.brief ?? status.message);
      if (status.brief) this.foot.replaceChildren();
      else if (status.state === "failed") parts.push(act("retry", "Try again"));
      else this.foot.append(badge("refused", "not applicable", status.message));
    }
    this.wait.replaceChildren(...parts);
  }

  ask(what) {
    this.grid.send.trigger("act", { slot: this.spec.slot, what });
  }

  describe(head) {
    this.wait.replaceChildren();
    this.time.textContent = head.seconds === undefined ? "" : duration(head.seconds);
    this.time.title = head.seconds === undefined ? "" : "Time of the call on this machine";
    this.klass.textContent = head.caption;
    this.klass.title = head.caption;
    this.note.textContent = head.blank || "";
    this.note.hidden = !head.blank;
    this.legend.replaceChildren();
    this.foot.replaceChildren();
    if (head.kind === "map") {
      this.ramp = element("canvas", { class: "ramp", "aria-hidden": "true" });
      this.needle = element("i", { class: "needle", hidden: true });
      this.ends = element("div", { class: "ends" });
      this.legend.append(element("div", { class: "band" }, this.ramp, this.needle), this.ends);
      if (head.coverage) this.foot.append(badge(head.coverage.status, head.coverage.status, head.coverage.sentence));
      if (head.caution) this.foot.append(badge("caution", "caution", head.caution));
    } else {
      this.ends = element("div", { class: "ends" });
      this.legend.append(this.ends);
      this.foot.append(element("span", { class: "plain", text: head.detail ?? "" }));
    }
    const save = iconButton("Download this tile as PNG", "M8 2v8m-3.5-3L8 10.5 11.5 7M3 13.5h10", () => this.save());
    const grow = iconButton("Larger", "M9.5 2.5h4v4M6.5 13.5h-4v-4M13.5 2.5 9 7M2.5 13.5 7 9", () => this.grow(grow));
    this.foot.append(element("span", { class: "space" }), save, grow);
  }

  grow(button) {
    const big = this.root.classList.toggle("big");
    button.setAttribute("aria-pressed", String(big));
    button.title = big ? "Smaller" : "Larger";
    button.setAttribute("aria-label", button.title);
  }

  async paint() {
    const { packet, grid } = this;
    if (this.root.dataset.state !== "done") return;
    const view = packet.head.kind === "view" ? packet : bus.packets.get(packet.head.view);
    if (!view) {
      this.shown = ""; // the picture is on its way; the next packet tries again
      return;
    }
    const base = await pictureOf(view);
    if (packet !== this.packet) return;
    this.base = base;
    if (packet === view) this.paintPicture(base);
    else this.paintMap(packet, base, grid);
    this.root.dataset.painted = packet.head.id;
  }

  paintPicture(base) {
    Object.assign(this.canvas, { width: base.width, height: base.height });
    this.canvas.getContext("2d").putImageData(base, 0, 0);
    this.divider.hidden = true;
    this.canvas.setAttribute("aria-label", `The picture as the network sees it. ${this.packet.head.caption}`);
  }

  paintMap(packet, base, grid) {
    const { display, luts } = grid;
    const kind = styleOf(packet.head, display).kind;
    const { style, scale } = paintMap(this.canvas, packet, base, display, grid.scales(packet, kind), luts);
    this.drawn = { style, scale };
    this.divider.hidden = display.mode !== "split";
    this.divider.style.left = `${100 * display.split}%`;
    this.divider.setAttribute("aria-valuenow", Math.round(100 * display.split));
    this.canvas.setAttribute("aria-label", `${this.spec.title}, ${packet.head.caption}. ${packet.head.alt}`);
    this.showScale(style, scale);
  }

  showScale(style, scale) {
    if (!scale) {
      this.legend.title = "Each colour channel by itself; grey is zero";
      this.ramp.hidden = true;
      return this.ends.replaceChildren(element("span", { text: "by colour, grey is 0" }));
    }
    this.ramp.hidden = false;
    paintRamp(this.ramp, this.grid.luts[style.colors]);
    this.legend.title = `Scale: ${scale.sentence}`;
    const ends = scale.high > scale.low ? [scale.low, ...(scale.low < 0 && scale.high > 0 ? [0] : []), scale.high] : [scale.low];
    const words = ends.length > 1 ? this.grid.words[style.kind === "signed" ? "signed" : "plain"] : [];
    const said = ends.map((end, i) => `${words.length === ends.length && end !== 0 ? `${words[i]} ` : ""}${number(end)}`);
    this.ends.replaceChildren(...said.map((text) => element("span", { text })));
  }

  // Show the point and what lies under it; returns the words for a screen reader.
  point(cursor) {
    const on = cursor && this.root.dataset.state === "done" && this.base;
    this.cross.hidden = !on;
    if (this.needle) this.needle.hidden = !on;
    this.root.classList.toggle("pointed", Boolean(on));
    if (!on) {
      if (this.reading) this.reading.remove();
      return "";
    }
    const { width: W, height: H, data } = this.base;
    const x = Math.min(W - 1, Math.floor(cursor.u * W));
    const y = Math.min(H - 1, Math.floor(cursor.v * H));
    this.cross.style.setProperty("--x", `${(100 * (x + 0.5)) / W}%`);
    this.cross.style.setProperty("--y", `${(100 * (y + 0.5)) / H}%`);
    this.reading ??= element("span", { class: "reading" });
    this.title.append(this.reading);
    let text = `RGB ${[0, 1, 2].map((c) => data[4 * (y * W + x) + c]).join(" ")}`;
    if (this.packet.head.kind === "map") {
      const value = atViewSize(this.packet, H, W, this.grid.display.smooth)[y * W + x];
      text = Number.isNaN(value) ? "not a number" : number(value);
      const { style, scale } = this.drawn ?? {};
      this.needle.hidden = !scale || !(scale.high > scale.low);
      if (!this.needle.hidden) {
        const seen = style.kind === "strength" ? Math.abs(value) : value;
        const t = Math.min(1, Math.max(0, (seen - scale.low) / (scale.high - scale.low)));
        this.needle.style.left = `${100 * t}%`;
      }
    }
    this.reading.textContent = text;
    return `${this.spec.title} ${text}`;
  }

  save() {
    const { head } = this.packet;
    const lines = [`${this.spec.title}${head.kind === "map" ? `, ${head.net}` : ""}`, head.caption];
    if (this.drawn?.scale) lines.push(`Scale ${this.drawn.scale.sentence}`);
    const mark = head.random ? "RANDOM WEIGHTS" : "";
    tilePicture(this.canvas, lines, mark).toBlob((blob) => {
      const link = element("a", { href: URL.createObjectURL(blob), download: `${head.file}.png` });
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
}

function badge(kind, text, tip) {
  const made = element("span", { class: `badge ${kind}`, tabindex: 0, "aria-label": `${text}: ${tip}` });
  made.append(element("span", { class: "dot" }), element("span", { class: "word", text }), element("span", { class: "tip", role: "tooltip", text: tip }));
  return made;
}

function iconButton(name, path, act) {
  const made = element("button", { type: "button", class: "icon", title: name, "aria-label": name, on: { click: act } });
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
  for (const [key, value] of Object.entries({ viewBox: "0 0 16 16", width: 14, height: 14, "aria-hidden": "true" })) {
    svg.setAttribute(key, value);
  }
  line.setAttribute("d", path);
  svg.append(line);
  made.append(svg);
  return made;
}
