// What the components of one browser tab share: packets by id, and the latest status of every slot.
// Each component is a module of its own, so the bus lives on globalThis.
// Bytes of packets that a tab keeps: about six studies of an attack with maps as fine as the picture, or 250 such maps.
// What is given up comes again when its carrier is mounted again, so only what no carrier on the page has brought may go,
// the oldest first.
const KEPT_BYTES = 64 * 2 ** 20;

const bus = (globalThis.__olhar ??= { packets: new Map(), slots: {}, listeners: new Set(), grids: new Set() });

// A packet is [header length: uint32 little endian][header: JSON][body: bytes].
function unpack(bytes) {
  const size = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true);
  const head = JSON.parse(new TextDecoder().decode(bytes.subarray(4, 4 + size)));
  return { head, body: bytes.slice(4 + size), size: bytes.length };
}

// place: the element of the carrier that brings it.
function receive(bytes, place) {
  const packet = unpack(bytes);
  if (packet.head.kind === "status") {
    bus.slots = packet.head.slots;
  } else if (packet.head.kind === "address") {
    show(packet.head);
  } else {
    const { id } = packet.head;
    const known = bus.packets.get(id);
    bus.packets.delete(id); // the latest is the last
    bus.packets.set(id, Object.assign(known ?? packet, { place: new WeakRef(place) }));
    if (known) return;
    forget();
  }
  for (const listener of [...bus.listeners]) listener(packet.head);
}

function forget() {
  let held = 0;
  for (const { size } of bus.packets.values()) held += size;
  for (const [id, { size, place }] of bus.packets) {
    if (held <= KEPT_BYTES) return;
    if (place.deref()?.isConnected) continue;
    bus.packets.delete(id);
    held -= size;
  }
}

// Let a component hear of packets; gives what ends that, and says whether it did. Where its data change while it is still
// being loaded, Streamlit calls it again and only then cleans up the earlier call: the latest call alone may end it.
function listen(component) {
  const turn = (component.turn = (component.turn ?? 0) + 1);
  bus.listeners.add(component.hear);
  return () => component.turn === turn && bus.listeners.delete(component.hear);
}

// Keep the choices in the address, so that a reload or a bookmark restores them; no entry in the history.
function show({ page, query }) {
  const { pathname, search } = window.location;
  if (pathname.split("/").pop() !== page || search === (query && `?${query}`)) return;
  window.history.replaceState(window.history.state, "", pathname + (query ? `?${query}` : ""));
}

// Small helpers for building elements; text is never parsed as HTML.
function element(tag, options = {}, ...children) {
  const { text, on = {}, ...attributes } = options;
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  if (text !== undefined) made.textContent = text;
  for (const [event, handler] of Object.entries(on)) made.addEventListener(event, handler);
  made.append(...children.filter(Boolean));
  return made;
}

function percent(p) {
  if (p >= 0.9995) return "100 %";
  if (p >= 0.1) return `${(100 * p).toFixed(0)} %`;
  if (p >= 0.01) return `${(100 * p).toFixed(1)} %`;
  return p >= 0.0001 ? `${(100 * p).toFixed(2)} %` : "< 0.01 %";
}

function duration(seconds) {
  if (seconds < 0.095) return `${Math.max(1, Math.round(seconds * 1000))} ms`;
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  if (seconds < 99.5) return `${Math.round(seconds)} s`;
  return `${Math.round(seconds / 60)} min`;
}

const SUPERSCRIPT = Object.fromEntries([..."-0123456789"].map((each, i) => [each, "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"[i]]));

// Two digits, as a person writes them: 0.25, 3.9 × 10⁻⁷.
function number(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1e-3 && size < 1e4) return String(+value.toPrecision(2));
  const [digits, power] = value.toExponential(1).split("e");
  return `${digits}\u00a0×\u00a010${[...power.replace("+", "")].map((each) => SUPERSCRIPT[each]).join("")}`;
}
