// Invisible: the tab remembers what a visit holds of a person's files, and tells the next visit what it lacks; and it
// tells of files that did not get as far as the server, of which Streamlit shows a mark with a program's words.
export default function ({ data, setTriggerValue }) {
  const before = JSON.parse(sessionStorage.getItem("olhar-held") ?? "null");
  if (before && ![data.visit, data.heard].includes(before.visit) && Object.keys(before.now).length) {
    setTriggerValue("lost", before); // and kept until the visit has heard of it: the page may be loaded again before
  } else {
    sessionStorage.setItem("olhar-held", JSON.stringify(data));
  }
  const watch = (globalThis.__olharUploads ??= new Uploads());
  watch.tell = (failed) => setTriggerValue("failed", failed);
}

const FAILED = '[data-testid="stFileChip"][aria-invalid="true"]';

class Uploads {
  constructor() {
    this.told = new WeakSet();
    setInterval(() => this.look(), 1000);
  }

  look() {
    const chips = [...document.querySelectorAll(FAILED)].filter((chip) => !this.told.has(chip));
    if (!chips.length) return;
    chips.forEach((chip) => this.told.add(chip));
    this.tell(
      chips.map((chip) => ({
        name: chip.querySelector('[data-testid="stFileChipName"]')?.title ?? "",
        reason: chip.querySelector('[role="alert"]')?.textContent ?? "",
      })),
    );
  }
}
