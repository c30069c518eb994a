// Invisible: the tab remembers what a visit holds of a person's files, and tells the next visit what it lacks; and it
// tells of files that did not get as far as the server, of which Streamlit shows a mark with a program's words.
export default function ({ data, setTriggerValue }) {
  const before = JSON.parse(sessionStorage.getItem("olhar-held") ?? "null");
  const watch = (globalThis.__olharHeld ??= new Held());
  watch.lost = null;
  watch.failed = (failed) => setTriggerValue("failed", failed);
  if (before && ![data.visit, data.heard].includes(before.visit) && Object.keys(before.now).length) {
    // Kept until the visit has heard of it: the page may be loaded again before, and what is said may not arrive.
    watch.lost = () => setTriggerValue("lost", before);
    watch.again = AGAIN;
    watch.lost();
  } else {
    sessionStorage.setItem("olhar-held", JSON.stringify(data));
  }
}

const FAILED = '[data-testid="stFileChip"][aria-invalid="true"]';

const AGAIN = 5;
const IDLE = '[data-testid="stApp"][data-test-script-state="notRunning"][data-test-connection-state="CONNECTED"]';

class Held {
  constructor() {
    this.told = new WeakSet();
    setInterval(() => this.look(), 1000);
  }

  look() {
    if (this.lost && document.querySelector(IDLE) && this.again-- > 0) this.lost();
    const chips = [...document.querySelectorAll(FAILED)].filter((chip) => !this.told.has(chip));
    if (!chips.length) return;
    chips.forEach((chip) => this.told.add(chip));
    this.failed(
      chips.map((chip) => ({
        name: chip.querySelector('[data-testid="stFileChipName"]')?.title ?? "",
        reason: chip.querySelector('[role="alert"]')?.textContent ?? "",
      })),
    );
  }
}
