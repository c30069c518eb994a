// A box on a picture: drawn by mouse, pen or finger, moved and sized from the keyboard. Shares of the sides, 0 to 1.
const LEAST = 0.02;
const STEP = 0.01;

export default function ({ data, parentElement, setTriggerValue }) {
  const board = (parentElement.__board ??= new Board(parentElement));
  board.send = (box) => setTriggerValue("box", box);
  board.show(data);
}

class Board {
  constructor(parent) {
    this.picture = element("img", { class: "picture", draggable: "false" });
    this.frame = element("div", { class: "frame", role: "group", tabindex: 0, "aria-describedby": "how" });
    this.stage = element("div", { class: "stage" }, this.picture, this.frame);
    this.how = element("div", { class: "how", id: "how", text: "Draw a box on the picture. With the keyboard: arrow keys move the box, Shift with them sizes it." });
    parent.append(element("div", { class: "board" }, this.stage, this.how));
    this.stage.addEventListener("pointerdown", (event) => this.begin(event));
    this.stage.addEventListener("pointermove", (event) => this.draw(event));
    for (const end of ["pointerup", "pointercancel"]) this.stage.addEventListener(end, (event) => this.end(event));
    this.frame.addEventListener("keydown", (event) => this.key(event));
  }

  at(event) {
    const { left, top, width, height } = this.stage.getBoundingClientRect();
    const share = (place, from, size) => Math.min(1, Math.max(0, (place - from) / size));
    return [share(event.clientX, left, width), share(event.clientY, top, height)];
  }

  begin(event) {
    if (event.button) return;
    event.preventDefault(); // a press neither drags the picture nor selects text
    this.frame.focus({ preventScroll: true });
    this.stage.setPointerCapture(event.pointerId);
    this.from = this.at(event);
    this.before = this.box;
  }

  draw(event) {
    if (!this.from) return;
    const [x, y] = this.at(event);
    this.place([Math.min(x, this.from[0]), Math.min(y, this.from[1]), Math.max(x, this.from[0]), Math.max(y, this.from[1])]);
  }

  // A tap, or a movement of the hand, is no box: the one before stays.
  end(event) {
    if (!this.from) return;
    this.from = null;
    const [left, top, right, bottom] = this.box;
    if (event.type === "pointercancel" || right - left < LEAST || bottom - top < LEAST) this.place(this.before);
    else this.send(this.box);
  }

  key(event) {
    const by = { ArrowLeft: [-STEP, 0], ArrowRight: [STEP, 0], ArrowUp: [0, -STEP], ArrowDown: [0, STEP] }[event.key];
    if (!by) return;
    event.preventDefault();
    const [left, top, right, bottom] = this.box;
    const kept = (value, low, high) => Math.min(high, Math.max(low, value));
    if (event.shiftKey) {
      this.place([left, top, kept(right + by[0], left + LEAST, 1), kept(bottom + by[1], top + LEAST, 1)]);
    } else {
      const x = kept(by[0], -left, 1 - right);
      const y = kept(by[1], -top, 1 - bottom);
      this.place([left + x, top + y, right + x, bottom + y]);
    }
    clearTimeout(this.soon);
    this.soon = setTimeout(() => this.send(this.box), 400); // once the keys rest
  }

  place(box) {
    this.box = box;
    const [left, top, right, bottom] = box.map((share) => 100 * share);
    Object.assign(this.frame.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
    const said = [left, right, top, bottom].map(Math.round);
    this.frame.setAttribute("aria-label", `Box from ${said[0]} to ${said[1]} % across, from ${said[2]} to ${said[3]} % down`);
  }

  show(data) {
    if (this.picture.src !== data.picture) this.picture.src = data.picture;
    this.picture.alt = data.alt;
    this.stage.style.setProperty("--ratio", data.ratio);
    const content = JSON.stringify(data.box);
    if (content === this.content || this.from) return;
    this.content = content;
    this.place(data.box);
  }
}
