// A slider through pictures that are all here already: a move asks nobody.
export default function ({ data, parentElement }) {
  let frames = parentElement.__frames;
  if (!frames) frames = parentElement.__frames = new Frames(parentElement);
  frames.take(data.id);
  return listen(frames);
}

class Frames {
  constructor(parent) {
    this.hear = () => this.refresh();
    this.slider = element("input", { type: "range", min: 0, step: 1, class: "epsilon" });
    this.slider.addEventListener("input", () => this.move(Number(this.slider.value)));
    this.readout = element("output", { class: "readout" });
    this.title = element("span");
    this.save = element("button", { type: "button", class: "icon", text: "PNG", title: "Download this picture", on: { click: () => this.png() } });
    const head = element("div", { class: "control" }, element("div", { class: "eps" }, this.title, this.readout), element("div", { class: "track" }, this.slider), element("div", { class: "tools" }, this.save));
    this.blocks = element("div");
    this.body = element("div", {}, head, this.blocks);
    this.root = element("div", { class: "olhar frames" }, this.body);
    this.body.hidden = true;
    parent.append(this.root);
  }

  take(id) {
    this.wanted = id;
    this.refresh();
  }

  refresh() {
    const packet = bus.packets.get(this.wanted);
    if (!packet || packet === this.coming) return;
    this.coming = packet;
    this.begin(packet);
  }

  async begin(packet) {
    packet.bitmaps ??= (() => {
      let at = 0;
      return Promise.all(packet.head.sizes.map((size) => {
        const part = packet.body.slice(at, (at += size));
        return createImageBitmap(new Blob([part], { type: "image/png" }));
      }));
    })();
    const bitmaps = await packet.bitmaps;
    if (packet !== this.coming) return;
    const { head } = packet;
    const fresh = !this.packet;
    const sameKind = this.packet?.head.sizes.length === head.sizes.length;
    Object.assign(this, { packet, bitmaps });
    this.title.textContent = head.title;
    this.slider.max = bitmaps.length - 1;
    this.slider.setAttribute("aria-label", head.aria);
    this.canvases = [];
    this.blocks.replaceChildren();
    for (let at = 0; at < head.names.length; at += head.columns) {
      const names = head.names.slice(at, at + head.columns);
      const above = element("div", { class: "names" }, ...names.map((name) => element("span", { text: name, title: name })));
      above.style.gridTemplateColumns = `repeat(${head.columns}, minmax(0, 1fr))`;
      const canvas = element("canvas", { role: "img" });
      this.canvases.push([canvas, names]);
      this.blocks.append(above, canvas);
    }
    this.body.hidden = false;
    this.root.dataset.id = head.id;
    this.move(fresh || !sameKind ? head.start : this.index);
  }

  move(index) {
    const { head } = this.packet;
    const bitmap = this.bitmaps[index];
    this.index = index;
    this.slider.value = index;
    this.readout.textContent = head.says[index];
    this.slider.setAttribute("aria-valuetext", head.says[index]);
    const high = bitmap.height / this.canvases.length;
    this.canvases.forEach(([canvas, names], block) => {
      if (canvas.width !== 2 * bitmap.width || canvas.height !== 2 * high) Object.assign(canvas, { width: 2 * bitmap.width, height: 2 * high });
      const context = canvas.getContext("2d");
      context.imageSmoothingQuality = "high";
      context.drawImage(bitmap, 0, block * high, bitmap.width, high, 0, 0, canvas.width, canvas.height);
      canvas.setAttribute("aria-label", `Generated pictures of ${names.join(", ")}: ${head.title}, ${head.says[index]}`);
    });
    this.root.dataset.index = index;
  }

  // The frame as it was drawn, at its own size.
  png() {
    const bitmap = this.bitmaps[this.index];
    const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    canvas.toBlob((blob) => save(blob, `${this.packet.head.file}-${this.index}.png`), "image/png");
  }
}

function save(blob, name) {
  const link = element("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
