// What each network says: its likeliest classes as bars. A click on a class explains it.
export default function ({ data, parentElement, setTriggerValue }) {
  let bars = parentElement.__bars;
  if (!bars) bars = parentElement.__bars = new Bars(parentElement);
  bars.choose = (slot, index) => setTriggerValue("target", { slot, index });
  bars.random = (slot) => setTriggerValue("random", { slot });
  bars.again = (slot) => setTriggerValue("again", { slot });
  bars.rows = data.rows;
  bars.refresh();
  return listen(bars);
}

class Bars {
  constructor(parent) {
    this.root = element("div", { class: "nets" });
    parent.append(this.root);
    this.hear = () => this.refresh();
  }

  refresh() {
    const content = JSON.stringify(this.rows.map((row) => [row, bus.slots[row.slot], bus.packets.has(bus.slots[row.slot]?.id)]));
    if (content === this.content) return;
    this.content = content;
    const focus = this.root.getRootNode().activeElement?.dataset.index;
    this.root.replaceChildren(...this.rows.map((row) => this.net(row)));
    if (focus) this.root.querySelector(`[data-index="${focus}"]`)?.focus();
  }

  net(row) {
    const status = bus.slots[row.slot] ?? { state: "waiting" };
    const head = status.state === "done" ? bus.packets.get(status.id)?.head : null;
    const box = element("section", { class: "net", "aria-label": row.title });
    const marked = head?.random ? element("span", { class: "random", text: "random weights" }) : null;
    box.append(element("div", { class: "name" }, element("b", { text: row.title }), marked));
    if (head) {
      const chosen = status.target ?? { index: head.top[0].index };
      const shown = head.top.some((entry) => entry.index === chosen.index) ? head.top : [...head.top, chosen];
      const list = element("div", { role: "radiogroup", "aria-label": `Class to explain, ${row.title}` });
      for (const entry of shown) list.append(this.bar(row, entry, entry.index === chosen.index));
      box.append(list);
    } else if (["waiting", "running"].includes(status.state)) {
      for (let i = 0; i < 5; i++) box.append(element("div", { class: "bar ghost" }));
      if (status.note) box.append(element("div", { class: "words", text: status.note }));
    } else {
      box.append(element("div", { class: "words", role: "alert", text: status.message ?? "Cancelled" }));
      if (status.offer === "random") {
        const words = "Use random weights (marked on every tile)";
        box.append(element("button", { type: "button", class: "act", text: words, on: { click: () => this.random(row.slot) } }));
      }
      const again = element("button", { type: "button", class: "act", text: "Try again", on: { click: () => this.again(row.slot) } });
      box.append(again);
    }
    return box;
  }

  bar(row, entry, chosen) {
    const fill = element("i", { style: `width:${Math.max(0.5, 100 * entry.p)}%` });
    const rank = entry.rank > 5 ? ` (place ${entry.rank})` : "";
    return element(
      "button",
      {
        type: "button",
        class: chosen ? "bar chosen" : "bar",
        role: "radio",
        "aria-checked": String(chosen),
        "data-index": entry.index,
        title: `${entry.label}, class ${entry.index}: ${percent(entry.p)}${chosen ? ". Explained now" : ". Click to explain this class"}`,
        on: { click: () => this.choose(row.slot, entry.index) },
      },
      fill,
      element("span", { class: "label", text: entry.label + rank }),
      element("span", { class: "p", text: percent(entry.p) }),
    );
  }
}
