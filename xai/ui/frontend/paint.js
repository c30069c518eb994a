// From numbers to pixels: the same rules as xai/images/render.py (bilinear without aligned corners, clipped scale, lookup).

function decoded(packet) {
  if (packet.values) return packet.values;
  const { dtype, h, w, peak } = packet.head;
  const bytes = packet.body.buffer;
  if (dtype === "f4") {
    packet.values = new Float32Array(bytes, 0, h * w);
  } else {
    const steps = new Int16Array(bytes, 0, h * w);
    packet.values = Float32Array.from(steps, (step) => (step === -32768 ? NaN : (step * peak) / 32767));
  }
  return packet.values;
}

// Values at the view's size (H x W); smooth: bilinear as torch does it, else the layer's own cells.
function atViewSize(packet, H, W, smooth) {
  const { h, w } = packet.head;
  const values = decoded(packet);
  if (h === H && w === W) return values;
  const name = `${H}x${W}${smooth}`;
  if (packet[name]) return packet[name];
  const out = new Float32Array(H * W);
  const place = (i, from, to) => Math.max(0, ((i + 0.5) * from) / to - 0.5);
  for (let y = 0; y < H; y++) {
    const sy = place(y, h, H);
    const y0 = Math.floor(sy);
    const y1 = Math.min(y0 + 1, h - 1);
    const fy = sy - y0;
    for (let x = 0; x < W; x++) {
      if (!smooth) {
        out[y * W + x] = values[Math.floor((y * h) / H) * w + Math.floor((x * w) / W)];
        continue;
      }
      const sx = place(x, w, W);
      const x0 = Math.floor(sx);
      const x1 = Math.min(x0 + 1, w - 1);
      const fx = sx - x0;
      const top = values[y0 * w + x0] * (1 - fx) + values[y0 * w + x1] * fx;
      const bottom = values[y1 * w + x0] * (1 - fx) + values[y1 * w + x1] * fx;
      out[y * W + x] = top * (1 - fy) + bottom * fy;
    }
  }
  packet[name] = out;
  return out;
}

// How one map is drawn under the current display: "relief", or which scale and which colours.
function styleOf(head, display) {
  if (!head.signed) return { kind: "plain", colors: display.colors };
  if (display.signed === "relief" && head.relief) return { kind: "relief" };
  if (display.signed === "strength") return { kind: "strength", colors: display.colors };
  return { kind: "signed", colors: display.diverging };
}

// A map's own scale, or one that holds all of `scales`.
function scaleOf(packet, kind, display, scales) {
  if (display.scale !== "shared" || scales.length < 2) return packet.head.scales[kind];
  return {
    low: Math.min(...scales.map((s) => s.low)),
    high: Math.max(...scales.map((s) => s.high)),
    sentence: `shared by ${scales.length} maps in one unit`,
  };
}

function heatPixels(packet, base, style, scale, luts, smooth) {
  const { width: W, height: H } = base;
  const heat = new Uint8ClampedArray(W * H * 4);
  if (style.kind === "relief") {
    const { h, w } = packet.head;
    const relief = packet.body.subarray(packet.head.relief);
    for (let i = 0; i < W * H; i++) {
      const y = Math.floor((Math.floor(i / W) * h) / H);
      const j = y * w + Math.floor(((i % W) * w) / W);
      for (let c = 0; c < 3; c++) heat[4 * i + c] = relief[3 * j + c];
    }
    return heat;
  }
  const values = atViewSize(packet, H, W, smooth);
  const lut = luts[style.colors];
  const span = scale.high - scale.low;
  const still = style.kind === "signed" ? 0.5 : 0;
  for (let i = 0; i < W * H; i++) {
    let value = values[i];
    if (Number.isNaN(value)) value = scale.low;
    if (style.kind === "strength") value = Math.abs(value);
    const t = span > 0 ? Math.min(1, Math.max(0, (value - scale.low) / span)) : still;
    const k = 3 * Math.round(255 * t);
    heat[4 * i] = lut[k];
    heat[4 * i + 1] = lut[k + 1];
    heat[4 * i + 2] = lut[k + 2];
  }
  return heat;
}

// Draw one map over its picture. mode: overlay, map, or split (picture left of the divider, overlay right of it).
function paintMap(canvas, packet, base, display, scales, luts) {
  const style = styleOf(packet.head, display);
  const scale = style.kind === "relief" ? null : scaleOf(packet, style.kind, display, scales);
  const heat = heatPixels(packet, base, style, scale, luts, display.smooth);
  const { width: W, height: H, data: picture } = base;
  const image = new ImageData(W, H);
  const pixels = image.data;
  const opacity = display.mode === "map" || style.kind === "relief" ? 1 : display.opacity;
  const edge = display.mode === "split" ? Math.round(display.split * W) : 0;
  const printed = style.kind === "signed"; // on the picture in grey, as render.printed does it
  for (let i = 0; i < W * H; i++) {
    const c = 4 * i;
    if (i % W < edge) {
      for (let k = c; k < c + 3; k++) pixels[k] = picture[k];
    } else if (printed) {
      const grey = 0.299 * picture[c] + 0.587 * picture[c + 1] + 0.114 * picture[c + 2];
      const paper = (opacity * 255 + (1 - opacity) * grey) / 255;
      for (let k = c; k < c + 3; k++) pixels[k] = paper * heat[k];
    } else {
      for (let k = c; k < c + 3; k++) pixels[k] = opacity * heat[k] + (1 - opacity) * picture[k];
    }
    pixels[c + 3] = 255;
  }
  if (canvas.width !== W || canvas.height !== H) Object.assign(canvas, { width: W, height: H });
  canvas.getContext("2d").putImageData(image, 0, 0);
  return { style, scale };
}

function paintRamp(canvas, lut) {
  canvas.width = 256;
  canvas.height = 1;
  const image = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) image.data.set([lut[3 * i], lut[3 * i + 1], lut[3 * i + 2], 255], 4 * i);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

async function pictureOf(packet) {
  if (!packet.picture) {
    packet.picture = (async () => {
      const options = { colorSpaceConversion: "none", premultiplyAlpha: "none" };
      const bitmap = await createImageBitmap(new Blob([packet.body], { type: "image/png" }), options);
      const canvas = element("canvas", { width: bitmap.width, height: bitmap.height });
      const context = canvas.getContext("2d", { willReadFrequently: true });
      context.drawImage(bitmap, 0, 0);
      return context.getImageData(0, 0, bitmap.width, bitmap.height);
    })();
  }
  return packet.picture;
}

// The tile as a file: the canvas at twice its size, its title and its scale in words below.
function tilePicture(canvas, lines, mark) {
  const zoom = 2;
  const W = canvas.width * zoom;
  const H = canvas.height * zoom;
  const sheet = element("canvas", { width: W, height: H + 14 + 22 * lines.length });
  const context = sheet.getContext("2d");
  context.fillStyle = "#fff";
  context.fillRect(0, 0, sheet.width, sheet.height);
  context.imageSmoothingEnabled = true;
  context.drawImage(canvas, 0, 0, W, H);
  context.font = "16px sans-serif";
  if (mark) {
    context.fillStyle = "#b3261e";
    context.fillRect(0, 0, context.measureText(mark).width + 16, 26);
    context.fillStyle = "#fff";
    context.fillText(mark, 8, 19);
  }
  context.fillStyle = "#1b242c";
  lines.forEach((line, i) => context.fillText(line, 8, H + 22 + 22 * i, W - 16));
  return sheet;
}
