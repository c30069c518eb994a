// The picture being explained, with the part the network sees, and the samples. Files dropped or pasted anywhere on
// the page go to the page's uploader, which is streamlit's own.
export default function ({ data, parentElement, setTriggerValue }) {
  let picker = parentElement.__picker;
  if (!picker) picker = parentElement.__picker = new Picker(parentElement);
  picker.choose = (name) => setTriggerValue("sample", name);
  picker.show(data);
  const end = listen(picker);
  return () => end() && picker.leave();
}

class Picker {
  constructor(parent) {
    this.picture = element("img", { class: "picture" });
    this.frame = element("div", { class: "frame", "aria-hidden": "true" });
    this.preview = element("div", { class: "preview" }, this.picture, this.frame);
    this.caption = element("div", { class: "caption" });
    this.samples = element("div", { class: "samples", role: "radiogroup", "aria-label": "Sample pictures" });
    parent.append(element("div", { class: "picker" }, this.preview, this.caption, this.samples));
    this.veil = element("div", { text: "Drop the picture to explain it" });
    this.veil.style.cssText =
      "position:fixed;inset:0;z-index:999999;display:none;align-items:center;justify-content:center;pointer-events:none;" +
      "font:600 24px sans-serif;color:#fff;background:rgb(10 40 48 / 0.72);border:4px dashed #fff;box-sizing:border-box";
    document.body.append(this.veil);
    this.depth = 0;
    this.hear = () => this.outline();
    this.handlers = {
      dragenter: (event) => this.hover(event, 1),
      dragleave: (event) => this.hover(event, -1),
      dragover: (event) => this.files(event.dataTransfer) && event.preventDefault(),
      drop: (event) => this.drop(event),
      paste: (event) => this.hand(event.clipboardData?.files),
    };
    for (const [name, handler] of Object.entries(this.handlers)) window.addEventListener(name, handler);
  }

  leave() {
    for (const [name, handler] of Object.entries(this.handlers)) window.removeEventListener(name, handler);
    this.veil.remove();
  }

  files(transfer) {
    return [...(transfer?.types ?? [])].includes("Files");
  }

  hover(event, by) {
    if (!this.files(event.dataTransfer)) return;
    this.depth = Math.max(0, this.depth + by);
    this.veil.style.display = this.depth ? "flex" : "none";
  }

  drop(event) {
    this.depth = 0;
    this.veil.style.display = "none";
    // Streamlit's own drop zones take what falls on them; elsewhere its uploader only keeps the browser from leaving.
    const zone = event.composedPath().some((part) => part.dataset?.testid === "stFileUploaderDropzone");
    if (zone || !this.files(event.dataTransfer)) return;
    event.preventDefault();
    this.hand(event.dataTransfer.files);
  }

  hand(files) {
    const input = document.querySelector(`.st-key-${this.uploader} input[type=file]`);
    if (!files?.length || !input) return;
    const carried = new DataTransfer();
    carried.items.add(files[0]);
    input.files = carried.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  }

  // The part that the network sees; unknown until it has looked.
  outline() {
    const status = bus.slots[this.slot];
    const box = status?.state === "done" ? bus.packets.get(status.id)?.head.box : null;
    this.frame.hidden = !box || (box[0] <= 0 && box[1] <= 0 && box[2] >= 1 && box[3] >= 1);
    if (!box) return;
    const [left, top, right, bottom] = box.map((share) => 100 * share);
    Object.assign(this.frame.style, { left: `${left}%`, top: `${top}%`, width: `${right - left}%`, height: `${bottom - top}%` });
  }

  show(data) {
    this.uploader = data.uploader;
    if (this.picture.src !== data.picture) this.picture.src = data.picture;
    this.picture.alt = data.alt;
    this.preview.style.setProperty("--ratio", data.ratio);
    this.slot = data.slot;
    this.outline();
    this.caption.textContent = data.caption;
    const content = JSON.stringify([data.samples, data.chosen]);
    if (content === this.content) return;
    this.content = content;
    this.samples.replaceChildren(
      ...data.samples.map((sample) =>
        element(
          "button",
          {
            type: "button",
            role: "radio",
            "aria-checked": String(sample.name === data.chosen),
            "aria-label": `Sample: ${sample.name}`,
            title: sample.name,
            "data-sample": sample.name,
            on: { click: () => this.choose(sample.name) },
          },
          element("img", { src: sample.picture, alt: "" }),
        ),
      ),
    );
  }
}
