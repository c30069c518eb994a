// Invisible: holds a click on a download until the server has read what stands on the page, and the page shows it.
// What this component asks reaches the server after the fields that the person has just left, and its answer is drawn
// after what they changed.
export default function ({ data, setStateValue }) {
  const guard = (globalThis.__olharGuard ??= new Guard());
  guard.ask = (asked) => setStateValue("asked", asked);
  guard.hear(data);
}

const DOWNLOAD = '[data-testid="stDownloadButton"]';
const FORGOTTEN_MS = 3000;
const PRESSES = 3;

class Guard {
  constructor() {
    this.held = new Map(); // the number of what was asked -> which button, whether its file failed, whether it was pressed again
    this.last = 0;
    this.went = 0; // when a file was last handed to the browser, for which Streamlit clicks a link
    const { click } = HTMLAnchorElement.prototype;
    const guard = this;
    HTMLAnchorElement.prototype.click = function () {
      if (this.hasAttribute("download")) guard.went = performance.now();
      return click.call(this);
    };
    window.addEventListener("click", (event) => this.click(event), true);
  }

  click(event) {
    const button = event.target.closest?.(`${DOWNLOAD} button`);
    if (!button || button.disabled || this.passing) return;
    event.preventDefault();
    event.stopImmediatePropagation();
    const key = [...button.closest('[class*="st-key-"]').classList].find((name) => name.startsWith("st-key-"));
    if ([...this.held.values()].some((each) => each.key === key)) return;
    button.setAttribute("aria-busy", "true");
    this.hold({ key, failed: false, again: false });
  }

  hold(press) {
    this.last = Math.max(this.last + 1, Date.now());
    this.held.set(this.last, press);
    const asked = { id: this.last, failed: press.failed, again: press.again };
    setTimeout(() => this.ask(asked), 10); // what changes at once with a field goes as if it were of the field's fragment
  }

  hear({ answered, again }) {
    for (const [id, press] of [...this.held]) {
      if (id > answered) continue;
      this.held.delete(id);
      const button = document.querySelector(`.${CSS.escape(press.key)} ${DOWNLOAD} button`);
      if (!press.failed || again) setTimeout(() => this.press({ key: press.key, again: press.failed })); // the buttons are drawn with this component
      else button?.removeAttribute("aria-busy");
    }
  }

  // Where the new choice has taken the button away or disabled it, nothing is pressed: the page shows why. A button that
  // is drawn anew in the moment of the click forgets it: it is pressed again.
  press(press, presses = 1) {
    const button = document.querySelector(`.${CSS.escape(press.key)} ${DOWNLOAD} button`);
    if (!button) return;
    button.removeAttribute("aria-busy");
    const pressed = performance.now();
    this.passing = true;
    button.click();
    this.passing = false;
    const box = button.closest(DOWNLOAD);
    const look = setInterval(() => {
      const failed = box.querySelector('[data-testid="stDownloadButtonError"]');
      const working = box.isConnected && button.disabled;
      if (!failed && this.went < pressed && (working || performance.now() - pressed < FORGOTTEN_MS)) return;
      clearInterval(look);
      if (this.went >= pressed) return;
      if (failed || presses === PRESSES) this.hold({ key: press.key, failed: true, again: press.again });
      else this.press(press, presses + 1);
    }, 100);
  }
}
